"""`medtune predict` and `medtune model export`, on a model that no sweep has made."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trained.conftest import write_model

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("cli") / "model")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_of_csv_for_each_picture(medtune: Call, model: Path, make_pictures: Any) -> None:
    code, out, err = medtune("predict", model, make_pictures({"a": 2, "b": 1}))
    assert (code, err) == (0, "") and out.splitlines()[0] == "file,index,enhancing,shadowing,decision,distance,outlier"
    for row in rows(out):
        assert row["index"] == "" and row["decision"] in ("enhancing", "shadowing") and row["outlier"] == "yes"
        assert float(row["enhancing"]) + float(row["shadowing"]) == pytest.approx(1) and float(row["distance"]) > 0


def test_bad_files_are_named_and_the_rest_is_answered(medtune: Call, model: Path, make_pictures: Any) -> None:
    pictures = make_pictures({"a": 2, "b": 1})
    (pictures / "a" / "0.png").write_bytes(b"")
    code, out, err = medtune("predict", model, pictures, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [Path(one["file"]).name for one in found] == ["1.png", "0.png"]
    assert "0.png: " in err and err.endswith("1 of 3 pictures could not be read; the others were answered\n")
    first = found[0]
    assert first["probabilities"].keys() == {"enhancing", "shadowing"} and first["index"] is None
    assert first["rule"] == "Youden" and first["thresholds"].keys() == {"shadowing"} and first["outlier"] is True


def test_arrays(medtune: Call, model: Path, tmp_path: Path) -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    np.savez(tmp_path / "set.npz", val_images=images, test_images=images)
    code, out, err = medtune("predict", model, tmp_path / "set.npz")
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "say which with --array: val_images, " in err
    code, out, _ = medtune("predict", model, tmp_path / "set.npz", "--array", "val_images")
    assert code == 0 and [row["index"] for row in rows(out)] == ["0", "1", "2"]


def test_into_a_file(medtune: Call, model: Path, make_pictures: Any, tmp_path: Path) -> None:
    code, out, _ = medtune("predict", model, make_pictures({"a": 2}), "--out", tmp_path / "answers.csv")
    assert (code, out) == (0, "") and len(rows((tmp_path / "answers.csv").read_text())) == 2


def test_where_there_is_no_model_no_file_is_made(medtune: Call, make_pictures: Any, tmp_path: Path) -> None:
    pictures = make_pictures({"a": 1})
    code, out, err = medtune("predict", pictures, pictures, "--out", tmp_path / "answers.csv")
    assert code == 2 and out == "" and "holds no model" in err and not (tmp_path / "answers.csv").exists()


def test_an_address_is_asked_of_the_registry(
    medtune: Call, model: Path, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []
    registry = type(sys)("medtune.tracking.registry")
    registry.fetch_model = lambda address, uri: asked.append((address, uri)) or model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "medtune.tracking.registry", registry)
    address = "models:/medtune-breastmnist@champion"
    code, out, _ = medtune("predict", address, make_pictures({"a": 1}), "--tracking-uri", "http://there")
    assert code == 0 and len(rows(out)) == 1 and asked == [(address, "http://there")]


def test_a_model_as_onnx(medtune: Call, model: Path, tmp_path: Path) -> None:
    code, out, _ = medtune("model", "export", model, "--out", tmp_path / "net.onnx", "--json")
    told = json.loads(out)
    assert code == 0 and (told["shape"], told["classes"]) == ([28, 28], ["enhancing", "shadowing"])
    assert told["difference"] < 1e-5 and (tmp_path / "net.onnx").stat().st_size > 10_000
    code, _, err = medtune("model", "export", model, "--out", tmp_path / "no" / "net.onnx")
    assert code == 2 and "there is no folder" in err


def test_what_cannot_be_exported_is_said_in_a_line(
    medtune: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.trained.onnx.TOLERANCE", -1.0)
    code, out, err = medtune("model", "export", model, "--out", tmp_path / "net.onnx")
    assert code == 1 and out == "" and err.splitlines()[-1].startswith("the graph and the model differ by")
