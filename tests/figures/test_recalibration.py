from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.evaluation.metrics import ece, probabilities
from medtune.figures import recalibration
from medtune.figures.recalibration import recalibration_figure
from medtune.task import TASKS, Task


@pytest.mark.parametrize("task", TASKS)
def test_the_key_and_the_title_have_the_eces(draw: Any, drawn: Any, task: Task, tmp_path: Path) -> None:
    figures = drawn(recalibration)
    logits, labels = draw(task, 200, 3)
    before, after = probabilities(logits * 3, task), {"warm": probabilities(logits, task)}
    recalibration_figure(before, after, labels, task, tmp_path / "x.png")
    told = [f"{ece(of, labels, task):.3f}" for of in (before, after["warm"])]
    said = [text.get_text() for text in figures[0].texts]
    assert f"ECE {told[0]} before, on 200 cases" in said  # the lowest of several after it would flatter
    assert [text for text in said if text in ("before", "warm", *told)] == ["before", told[0], "warm", told[1]]


def test_a_point_is_the_mean_confidence_and_the_share_right_of_a_bin(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(recalibration)
    top = np.array([0.88, 0.92] * 10 + [0.6] * 12 + [0.75])  # a bin of one case is not drawn
    predicted, labels = np.column_stack([top, 1 - top]), np.array([0] * 15 + [1] * 5 + [0] * 3 + [1] * 9 + [0])
    recalibration_figure(predicted, {}, labels, "binary", tmp_path / "x.png")
    axes = figures[0].axes[0]
    np.testing.assert_allclose(axes.collections[1].get_segments()[0], [[0.6, 0.25], [0.9, 0.75]])
    sizes = axes.collections[2].get_sizes()
    assert sizes[1] - 8 == pytest.approx((sizes[0] - 8) * 20 / 12)


def test_probabilities_of_another_shape_are_refused(draw: Any, tmp_path: Path) -> None:
    logits, labels = draw("binary", 20, 0)
    predicted = probabilities(logits, "binary")
    with pytest.raises(ValueError, match="labels of shape"):
        recalibration_figure(predicted, {"short": predicted[:10]}, labels, "binary", tmp_path / "x.png")
