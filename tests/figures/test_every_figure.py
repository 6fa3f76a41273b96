"""What holds for all pictures of a trial: their size, the same bytes each time, something on them, nothing global."""

import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from medtune.evaluation.intervals import Interval
from medtune.evaluation.metrics import probabilities
from medtune.figures.confusion import confusion_figure
from medtune.figures.coverage import coverage_figure
from medtune.figures.epochs import epochs_figure
from medtune.figures.images import gallery
from medtune.figures.net_benefit import net_benefit_figure
from medtune.figures.operating_points import operating_points_figure
from medtune.figures.pr import pr_figure
from medtune.figures.recalibration import recalibration_figure
from medtune.figures.reliability import reliability_figure
from medtune.figures.robustness import robustness_figure
from medtune.figures.roc import roc_figure
from medtune.task import TASKS, Task

Writer = Callable[[Path], None]
Size = tuple[int, int]
OF_CLASSES: dict[str, Any] = {"roc": roc_figure, "pr": pr_figure, "confusion": confusion_figure}
OF_PREDICTIONS = (*OF_CLASSES, "reliability", "recalibration")
OTHERS = ("operating-points", "net-benefit", "coverage", "robustness", "epochs", "gallery")

every_task = pytest.mark.parametrize("task", TASKS)


def size(path: Path) -> Size:
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


def names(count: int) -> list[str]:
    return [f"class {number} with a name that is long" for number in range(count)]


def of_predictions(name: str, predicted: Any, labels: Any, task: Task) -> Writer:
    if name in OF_CLASSES:
        return lambda path: OF_CLASSES[name](predicted, labels, task, names(predicted.shape[1]), path)
    if name == "reliability":
        return lambda path: reliability_figure(predicted, labels, task, path)
    after = {"temperature": predicted, "a method with a long name": np.full_like(predicted, 0.5)}
    return lambda path: recalibration_figure(predicted, after, labels, task, path)


def other(name: str) -> tuple[Writer, Size]:
    generator = np.random.default_rng(0)
    scores, positive = generator.random(60), generator.random(60) < 0.4
    sure = Interval(0.9, 0.8, 0.95)
    row = {"name": "sensitivity", "threshold": 0.3, **dict.fromkeys(("sensitivity", "specificity", "ppv", "npv"), sure)}
    at = np.linspace(0.05, 0.6, 12)
    curve = np.column_stack([at, 1 - at / 5])
    records = [{"epoch": epoch, "train/loss": 1 / epoch, "val/auroc": 0.9 - 0.2 / epoch} for epoch in range(1, 9)]
    images = generator.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    writers: dict[str, tuple[Writer, Size]] = {
        "operating-points": (lambda path: operating_points_figure(scores, positive, [row] * 3, path), (600, 576)),
        "net-benefit": (lambda path: net_benefit_figure(at, at, at - 0.1, at + 0.1, -at, path), (400, 400)),
        "coverage": (lambda path: coverage_figure({"one": curve, "ensemble": curve}, path), (600, 400)),
        "robustness": (lambda path: robustness_figure({"blur": at[:5], "noise": at[5:10]}, 0.7, path), (600, 400)),
        "epochs": (lambda path: epochs_figure(records, path), (400, 600)),
        "gallery": (lambda path: gallery(images, [["a", "b"]] * 5, path), (552, 2 * (132 + 36 + 10))),
    }
    return writers[name]


def expected(name: str, task: Task, columns: int) -> Size:
    if name == "reliability":
        return 400, 400
    if name == "confusion" and task == "multilabel":
        return 600, 86 + 162 * -(-columns // 4)
    if name == "recalibration" or task != "binary":
        return 600, 560 if name == "confusion" else 400
    return 400, 400


@every_task
@pytest.mark.parametrize("name", OF_PREDICTIONS)
@pytest.mark.parametrize("cases", [1, 10, 300])
def test_predictions_are_drawn(draw: Any, task: Task, name: str, cases: int, tmp_path: Path) -> None:
    """One case too, where most numbers are undefined; without a warning."""
    logits, labels = draw(task, max(cases, 10), 0)
    predicted, labels, path = probabilities(logits, task)[:cases], labels[:cases], tmp_path / "x.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_predictions(name, predicted, labels, task)(path)
    assert size(path) == expected(name, task, predicted.shape[1])
    assert imread(path).std() > 0.05


@pytest.mark.parametrize("name", OF_PREDICTIONS)
@pytest.mark.parametrize(("task", "columns"), [("multiclass", 14), ("multilabel", 14), ("ordinal", 3)])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_certain_and_constant_predictions_with_classes_missing(
    name: str, task: Task, columns: int, value: float, tmp_path: Path
) -> None:
    predicted = np.full((20, columns), value)
    labels = np.zeros((20, columns) if task == "multilabel" else 20, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_predictions(name, predicted, labels, task)(tmp_path / "x.png")
    assert imread(tmp_path / "x.png").std() > 0.02


@pytest.mark.parametrize("name", OF_PREDICTIONS)
def test_labels_in_a_column_are_the_labels(draw: Any, name: str, tmp_path: Path) -> None:
    logits, labels = draw("multiclass", 60, 1)
    predicted = probabilities(logits, "multiclass")
    of_predictions(name, predicted, labels, "multiclass")(tmp_path / "a.png")
    of_predictions(name, predicted, labels[:, None], "multiclass")(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_are_drawn(name: str, tmp_path: Path) -> None:
    write, wanted = other(name)
    write(tmp_path / "x.png")
    assert size(tmp_path / "x.png") == wanted
    assert imread(tmp_path / "x.png").std() > 0.05


@pytest.mark.parametrize("name", [*OF_PREDICTIONS, *OTHERS])
def test_the_same_numbers_are_the_same_bytes_from_any_thread(draw: Any, name: str, tmp_path: Path) -> None:
    logits, labels = draw("multiclass", 100, 1)
    predicted = probabilities(logits, "multiclass")
    write = other(name)[0] if name in OTHERS else of_predictions(name, predicted, labels, "multiclass")

    def written(number: int) -> bytes:
        write(tmp_path / f"{number}.png")
        return (tmp_path / f"{number}.png").read_bytes()

    with ThreadPoolExecutor(2) as pool:
        assert len({written(0), *pool.map(written, (1, 2))}) == 1


def test_pyplot_is_not_imported() -> None:
    modules = (
        "roc pr reliability recalibration confusion operating_points net_benefit coverage robustness epochs images"
    )
    code = f"import sys; from medtune.figures import {', '.join(modules.split())}, curves, trial; "
    code += "assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("task", ["binary", "ordinal", "multilabel"])
def test_a_name_is_text_and_not_mathematics(draw: Any, name: str, task: Task, tmp_path: Path) -> None:
    logits, labels = draw(task, 50, 2)
    said = ["$x", "a_$", "", "$$", "$\\frac$ of it"][: logits.shape[1]]
    OF_CLASSES[name](probabilities(logits, task), labels, task, said, tmp_path / "x.png")


@pytest.mark.parametrize("name", OF_CLASSES)
def test_names_must_fit(draw: Any, name: str, tmp_path: Path) -> None:
    logits, labels = draw("ordinal", 50, 2)
    with pytest.raises(ValueError, match="3 class names for 4"):
        OF_CLASSES[name](probabilities(logits, "ordinal"), labels, "ordinal", ["a", "b", "c"], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
