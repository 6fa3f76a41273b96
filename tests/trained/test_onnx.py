"""The ONNX graph of a model says what the model says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from medtune.data import DataError
from medtune.evaluation.calibrators import CALIBRATORS, Isotonic
from medtune.task import Task
from medtune.trained.model import TrainedModel
from medtune.trained.onnx import ExportError, calibrating, export, run_graph

MakeModel = Callable[..., Path]


def images(count: int, channels: int = 1) -> NDArray[np.uint8]:
    shape = (count, 28, 28, channels)[: 3 + (channels > 1)]
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def asked(folder: Path, shown: NDArray[np.uint8]) -> NDArray[Any]:
    model = TrainedModel.load(folder)
    return model.calibrated(model.logits(model.on_device(shown)))


def test_one_model_at_any_number_of_images(model_once: Path, tmp_path: Path) -> None:
    exported = export(TrainedModel.load(model_once), tmp_path / "model.onnx")
    assert exported.difference < 1e-5 and [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    for count in (1, 3, 64):
        said = run_graph(exported.path, images(count))
        assert said.dtype == np.float32 and said.shape == (count, 2)
        np.testing.assert_allclose(said, asked(model_once, images(count)), atol=1e-5)


def test_an_ensemble_in_colour_with_steps_is_one_graph(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model("multilabel", ("smallcnn", "smallcnn", "smallcnn"), 3)
    description = json.loads((folder / "model.json").read_text())
    steps = Isotonic(((0.1, 0.49, 0.5, 0.9),) * 3, ((0.05, 0.3, 0.6, 0.8),) * 3)
    description["decided"]["calibrator"] = steps.as_json()
    (folder / "model.json").write_text(json.dumps(description))
    exported = export(TrainedModel.load(folder), tmp_path / "model.onnx")
    np.testing.assert_allclose(run_graph(exported.path, images(9, 3)), asked(folder, images(9, 3)), atol=1e-5)
    told = {one.key: one.value for one in onnx.load(exported.path).metadata_props}
    assert json.loads(told["medtune.classes"]) == ["bright core", "bright rim", "bright band"]
    assert told["medtune.rule"] == "Youden" and len(json.loads(told["medtune.thresholds"])) == 3


@pytest.mark.slow
def test_a_resnet_and_an_ensemble_of_it(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model("multiclass", ("smallcnn", "resnet18"))
    exported = export(TrainedModel.load(folder), tmp_path / "model.onnx")
    np.testing.assert_allclose(run_graph(exported.path, images(5)), asked(folder, images(5)), atol=1e-5)
    alone = make_model("binary", ("resnet18",))
    exported = export(TrainedModel.load(alone), tmp_path / "alone.onnx")
    np.testing.assert_allclose(run_graph(exported.path, images(5)), asked(alone, images(5)), atol=1e-5)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "ordinal"])
@pytest.mark.parametrize("kind", CALIBRATORS)
def test_every_calibrator_is_a_part_of_a_graph(kind: str, task: Task, draw: Callable[..., Any]) -> None:
    logits, labels = draw(task, 200, 0)
    calibrator = CALIBRATORS[kind].fit(logits, labels, task)
    new = draw(task, 50, 1, scale=9.0)[0]
    said = calibrating(calibrator, task)(torch.from_numpy(new).double()).numpy()
    np.testing.assert_allclose(said, calibrator.apply(new, task), atol=1e-7)


def test_a_line_of_one_breakpoint_is_level() -> None:
    level = Isotonic(((0.4,),), ((0.7,),))
    said = calibrating(level, "binary")(torch.tensor([[0.0, 3.0], [2.0, 0.0]], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(said, [[0.3, 0.7], [0.3, 0.7]])


def test_a_graph_that_says_something_else_is_not_kept(
    model_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.trained.onnx.run_graph", lambda path, images: np.full((len(images), 2), 0.5 + 1e-4))
    with pytest.raises(ExportError, match="the graph and the model differ by"):
        export(TrainedModel.load(model_once), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_it_says_what_to_install(
    model_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.trained.onnx.NEEDED", ["no_such_package"])
    with pytest.raises(DataError, match="ONNX needs no_such_package: `uv sync --extra onnx`"):
        export(TrainedModel.load(model_once), tmp_path / "model.onnx")


@pytest.mark.slow
def test_what_was_asked_in_bfloat16_is_exported_in_float32(model_once: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(model_once)
    model.members = [replace(one, precision="bfloat16") for one in model.members]
    assert export(model, tmp_path / "model.onnx").difference < 1e-5
