from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as reference
from sklearn.metrics import multilabel_confusion_matrix

from medtune.evaluation.metrics import accuracy, probabilities
from medtune.figures import confusion
from medtune.figures.confusion import _percent, confusion_figure, confusion_matrix
from medtune.task import TASKS, Task


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("cases", [1, 200])
def test_the_counts_are_those_of_scikit_learn(draw: Any, task: Task, cases: int) -> None:
    logits, labels = draw(task, 200, 1, decimals=0)  # with ties
    predicted, labels = probabilities(logits, task)[:cases], labels[:cases]
    counts = confusion_matrix(predicted, labels, task)
    if task == "multilabel":
        wanted = multilabel_confusion_matrix(labels, predicted > 0.5)
    else:
        wanted = reference(labels, predicted.argmax(axis=1), labels=range(predicted.shape[1]))
    np.testing.assert_array_equal(counts, wanted)
    right = np.diagonal(counts, axis1=-2, axis2=-1).sum() / counts.sum()
    assert right == pytest.approx(accuracy(predicted, labels, task))


def test_cells_have_counts_and_shares_and_rows_the_share_that_is_right(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(confusion)
    labels = np.array([0] * 4 + [1] * 6)
    predicted = np.eye(3)[[0, 0, 0, 2] + [1] * 6]
    confusion_figure(predicted, labels, "multiclass", ["a", "b", "c"], tmp_path / "x.png")
    axes = figures[0].axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[0, 0] == "3\n75%" and cells[2, 0] == "1\n25%" and cells[1, 1] == "6\n100%"
    assert [cells[2.6, row] for row in range(3)] == ["75%", "100%", "none"]
    assert figures[0].texts[-1].get_text() == "accuracy 0.900 on 10 cases"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c"]


def test_letters_stand_out_from_every_shade(drawn: Any, tmp_path: Path) -> None:
    """At least 4.3 : 1, as near to WCAG's 4.5 as one colour of letters can be on the middle shades."""
    figures = drawn(confusion)
    wrong = np.arange(0, 101, 4)
    labels = np.repeat(np.arange(len(wrong)), 100)
    said = np.concatenate([np.repeat([row, (row + 1) % len(wrong)], [100 - k, k]) for row, k in enumerate(wrong)])
    confusion_figure(np.eye(len(wrong))[said], labels, "multiclass", [str(row) for row in wrong], tmp_path / "x.png")
    axes = figures[0].axes[0]
    shades = np.asarray(axes.images[0].get_array())
    inks = {text.get_position(): text.get_color() for text in axes.texts if text.get_position()[0] < len(wrong) - 0.5}
    for (column, row), ink in inks.items():
        if isinstance(column, float) or row < 0:
            continue
        light, dark = sorted((_luminance(shades[row, column]), 1.0 if ink == "white" else 0.016), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.0
    assert {"white", "#222222"} == set(inks.values())


def _luminance(colour: np.ndarray) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_share_is_not_rounded_to_what_is_not_so() -> None:
    assert [_percent(share) for share in (0, 0.004, 0.5, 0.996, 1)] == ["0%", "<1%", "50%", ">99%", "100%"]
