import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medtune.config.read import read_sweep
from medtune.config.sweep import MEDMNIST, PHANTOMS, Data
from medtune.data.catalogue import describe

Call = Callable[..., tuple[int, str, str]]


def test_list_has_all(medtune: Call) -> None:
    code, out, _ = medtune("data", "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and [row[0] for row in rows[1:]] == [*MEDMNIST, *PHANTOMS]
    breast = next(row for row in rows if row[0] == "breastmnist")
    assert breast[1:6] == ["binary", "2", "546", "78", "156"]


def test_info_says_what_to_beware_of(medtune: Call) -> None:
    code, out, _ = medtune("data", "info", "breastmnist")
    assert code == 0
    assert "train 546, val 78, test 156" in out and "MD5 750601b1f35ba3300ea97c75c52ff8f6" in out
    assert "licence  CC BY 4.0" in out and "beware   Label 1 is normal or benign" in out
    assert "1 normal, benign" in out


def test_phantom_writes_a_file_of_medmnists_form(medtune: Call, tmp_path: Path) -> None:
    code, out, _ = medtune("data", "phantom", "phantom-binary", tmp_path / "made.npz", "--difficulty", 0.5)
    assert code == 0 and "the best reachable AUROC is 0.950" in out
    with np.load(tmp_path / "made.npz", allow_pickle=False) as made:
        assert made["train_images"].shape == (600, 28, 28) and made["test_labels"].shape == (240, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "brestmnist"), "brestmnist: no such data set; `medtune data list` shows all"),
        (("fetch", "breastmnist", "--size", "32"), "--size 32: there are 28, 64, 128, 224"),
        (("fetch", "phantom-binary"), "phantom-binary"),
        (("phantom", "breastmnist", "made.npz"), "breastmnist"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], message: str, medtune: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = medtune("data", *arguments)
    assert code == 2 and out == "" and message in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("cache")
class TestImport:
    def test_says_what_is_there_and_what_a_sweep_file_needs(
        self, medtune: Call, make_pictures: Call, tmp_path: Path
    ) -> None:
        folder = make_pictures({"naevus": 20, "melanoma": 10, "rash": 4})
        (folder / "naevus" / "list.csv").touch()
        shutil.copy(folder / "naevus" / "1.png", folder / "melanoma" / "same.png")
        out = tmp_path / "out.npz"
        code, text, _ = medtune("data", "import", folder, "--exclude", "rash", "--size", 16, "--out", out)
        assert code == 0 and f"{folder}: 2 classes, grey, 16 px, train 21, val 5, test 5" in text
        rows = [line.split() for line in text.splitlines()]
        assert ["0", "melanoma", "7", "2", "2"] in rows and ["1", "naevus", "14", "3", "3"] in rows
        assert "skipped  1 .csv\n" in text and "twins    1 groups" in text
        assert "beware   Pictures in more than one class" in text and "melanoma/same.png = naevus/1.png" in text
        with np.load(out, allow_pickle=False) as made:
            assert made["train_images"].shape == (21, 16, 16)
        (line,) = (line for line in text.splitlines() if line.startswith("sweep "))
        file = tmp_path / "made.yaml"
        file.write_text(f"sweep: made\n{line.removeprefix('sweep    ')}\n")
        config = read_sweep(file).data
        assert config == Data(folder=str(folder), exclude=("rash",), size=16)
        assert describe(config).classes == ("melanoma", "naevus")

    def test_json(self, medtune: Call, make_pictures: Call) -> None:
        folder = make_pictures({"a": 6, "b": 6})
        code, out, err = medtune("data", "import", folder, "--split", "4,1,1", "--json")
        (line,) = out.splitlines()
        said = json.loads(line)
        assert code == 0 and "2 classes" in err
        assert said["counts"] == {"train": [4, 4], "val": [1, 1], "test": [1, 1]} and said["classes"] == ["a", "b"]
        assert said["data"] == {"folder": str(folder), "split": [4, 1, 1], "size": 64}
        assert Path(said["file"]).exists() and said["twins"]["pictures"]["count"] == 0

    def test_ready_splits_are_said_to_be_the_folders_own(self, medtune: Call, make_pictures: Call) -> None:
        make_pictures({"test/a": 2, "test/b": 2}, "ready")
        folder = make_pictures({"train/a": 9, "train/b": 8}, "ready")
        _, out, _ = medtune("data", "import", folder)
        assert "splits   train, test: the folder's own; val: drawn here, by class\n" in out

    def test_info_tells_it_again(self, medtune: Call, make_pictures: Call) -> None:
        folder = make_pictures({"a": 6, "b": 6})
        code, _, err = medtune("data", "info", folder)
        assert code == 2 and f"has not been read yet; `medtune data import {folder}` does it" in err
        both = [medtune("data", "import", folder, "--size", size)[1] for size in (8, 16)]
        code, out, _ = medtune("data", "info", folder)
        assert code == 0 and all(said in out for said in both)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--split", "0.7,0.3"), "--split 0.7,0.3: write three numbers above 0, as 0.7,0.15,0.15"),
            (("--split", "1,1,inf"), "--split 1,1,inf: write three numbers"),
            (("--split", "1,0,1"), "--split 1,0,1: write three numbers"),
            (("--exclude", "c"), "has no c for data.exclude to leave out; it has a, b"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, options: tuple[str, ...], message: str, medtune: Call, make_pictures: Call
    ) -> None:
        code, out, err = medtune("data", "import", make_pictures({"a": 6, "b": 6}), *options)
        assert code == 2 and out == "" and message in err and "Traceback" not in err


@pytest.mark.usefixtures("cache")
def test_audit_of_a_set_and_of_a_folder(
    medtune: Call, make_pictures: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = medtune("data", "audit", "phantom-binary")
    assert code == 0 and "found    0 groups of identical images" in out and "beware   Made by a program" in out
    assert (tmp_path / "audits" / "phantom-binary-28" / "audit.html").exists()
    folder = make_pictures({"a": 9, "b": 8, "rash": 1})
    code, out, err = medtune("data", "audit", folder, "--exclude", "rash", "--out", tmp_path / "own", "--json")
    told = json.loads(out.splitlines()[-1])
    assert code == 0 and told["folder"] == str(tmp_path / "own") and "found " in err
    assert told["classes"] == ["a", "b"] and told["side"] == 64 and (tmp_path / "own" / "audit.json").exists()
    code, out, err = medtune("data", "audit", "brestmnist")
    assert code == 2 and out == "" and "no such data set" in err


def test_fetch_verifies_what_is_there(medtune: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breastmnist.npz").write_bytes(b"no such file")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    code, out, err = medtune("data", "fetch", "breastmnist", "--root", tmp_path)
    assert code == 2 and "whole" not in out and "breastmnist" in err
