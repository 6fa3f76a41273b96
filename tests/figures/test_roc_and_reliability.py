"""Figures are the right size, the same each time, quick, and touch nothing global."""

import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medtune.evaluation.metrics import probabilities
from medtune.figures.roc_and_reliability import reliability_figure, roc_curve, roc_figure
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

every_task = pytest.mark.parametrize("task", TASKS)


def size(path: Path) -> tuple[int, int]:
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


def names(count: int) -> list[str]:
    return [f"class {number} with a name that is long" for number in range(count)]


@every_task
@pytest.mark.parametrize("cases", [1, 10, 300])
def test_figures_are_drawn(draw: Draw, task: Task, cases: int, tmp_path: Path) -> None:
    """One case too, where no AUROC is defined."""
    logits, labels = draw(task, max(cases, 10), 0)
    predicted, labels = probabilities(logits, task)[:cases], labels[:cases]
    reliability_figure(predicted, labels, task, tmp_path / "reliability.png")
    roc_figure(predicted, labels, task, names(predicted.shape[1]), tmp_path / "roc.png")
    assert size(tmp_path / "reliability.png") == (400, 400)
    assert size(tmp_path / "roc.png") == (400 if task == "binary" else 600, 400)
    assert imread(tmp_path / "roc.png").std() > 0.05


@every_task
def test_the_same_numbers_are_the_same_bytes_from_any_thread(draw: Draw, task: Task, tmp_path: Path) -> None:
    logits, labels = draw(task, 100, 1)
    predicted = probabilities(logits, task)

    def both(number: int) -> bytes:
        first, second = tmp_path / f"a{number}.png", tmp_path / f"b{number}.png"
        reliability_figure(predicted, labels, task, first)
        roc_figure(predicted, labels, task, names(predicted.shape[1]), second)
        return first.read_bytes() + second.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        assert len({both(0), *pool.map(both, (1, 2))}) == 1


def test_pyplot_is_not_imported() -> None:
    code = "import sys, medtune.figures.roc_and_reliability; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_is_text_and_not_mathematics(draw: Draw, tmp_path: Path) -> None:
    logits, labels = draw("ordinal", 50, 2)
    roc_figure(probabilities(logits, "ordinal"), labels, "ordinal", ["$x", "a_$", "", "$$"], tmp_path / "roc.png")


def test_names_must_fit(draw: Draw, tmp_path: Path) -> None:
    logits, labels = draw("ordinal", 50, 2)
    with pytest.raises(ValueError, match="3 class names for 4"):
        roc_figure(probabilities(logits, "ordinal"), labels, "ordinal", ["a", "b", "c"], tmp_path / "roc.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("cases", [50, 20_000])
def test_area_under_the_curve_is_the_auroc(cases: int, decimals: int) -> None:
    """Exactly where no point is left out, and by less than a pixel where some are."""
    generator = np.random.default_rng(3)
    positive = generator.random(cases) < 0.3
    scores = (generator.normal(size=cases) + positive).round(decimals)
    curve = roc_curve(scores, positive)
    assert len(curve) <= 200
    assert curve[0].tolist() == [0, 0] and curve[-1].tolist() == [1, 1]
    area = np.trapezoid(curve[:, 1], curve[:, 0])
    exact = len(np.unique(scores)) < 200
    assert area == pytest.approx(roc_auc_score(positive, scores), abs=1e-12 if exact else 1e-3)


def test_a_figure_is_quick(draw: Draw, tmp_path: Path) -> None:
    """Thousands are drawn beside the training: some 40 ms each, and a wide margin for a busy machine."""
    logits, labels = draw("binary", 78, 4)
    predicted = probabilities(logits, "binary")
    reliability_figure(predicted, labels, "binary", tmp_path / "x.png")
    start = time.process_time()
    for _ in range(5):
        reliability_figure(predicted, labels, "binary", tmp_path / "x.png")
    assert (time.process_time() - start) / 5 < 0.2
