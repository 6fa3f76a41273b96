"""ROC curves of one trial, small enough to draw thousands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.metrics import Floats, Integers, auroc_per_class, check_probabilities, one_vs_rest
from medtune.figures.canvas import (
    add_axes,
    cases,
    check_names,
    coloured,
    diagonal,
    draw_key,
    heading,
    label,
    new_figure,
    save,
    told,
    unit_square,
)
from medtune.task import Task


def roc_curve(scores: Floats, positive: NDArray[np.bool_], points: int = 200) -> NDArray[np.float64]:
    """False and true positive rate at each threshold, (points at most, 2), from (0, 0) to (1, 1).

    One point per distinct score, so that a tie is a slope and not a step; where these are more than `points`, only
    some, evenly spaced along the curve and too near for an eye to tell.
    """
    order = np.argsort(-scores)
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(positive[order])[last_of_tie]
    false = last_of_tie + 1 - true
    curve = np.vstack([(0, 0), np.column_stack([false / false[-1], true / true[-1]])])
    if len(curve) <= points:
        return curve
    along = curve.sum(axis=1)
    return curve[np.searchsorted(along, np.linspace(0, along[-1], points))]


def roc_figure(probabilities: Floats, labels: Integers, task: Task, classes: Sequence[str], path: Path) -> None:
    """Write a PNG, 400 pixels high: for binary one curve, of class 1, 400 wide; else one per class or label and a key,
    600 wide.

    classes: one name per column of `probabilities`. The title has the AUROC, which is `metrics.auroc`, and the number
    of cases; a class that is missing from the split has no curve and no number. The folder of `path` must be there.
    Raises ValueError when the number of names is wrong, and as `metrics`.
    """
    check_names(classes, probabilities.shape[1])
    labels = check_probabilities(probabilities, labels, task)
    values = auroc_per_class(probabilities, labels, task)
    figure = new_figure(4 if task == "binary" else 6, 4)
    axes = add_axes(figure, (0.68, 0.6, 3.1, 3.0), (-0.01, 1), (0, 1.01))
    unit_square(axes)
    diagonal(axes)
    problems = zip(*one_vs_rest(probabilities, labels, task), strict=True)
    curves = [
        np.empty((0, 2)) if np.isnan(value) else roc_curve(*problem)
        for problem, value in zip(problems, values, strict=True)
    ]
    axes.add_collection(coloured(curves, 2.2 if len(curves) == 1 else 1.5))
    mean = "undefined" if np.isnan(values).any() else told(values.mean())
    label(axes, "false positive rate", "true positive rate")
    heading(figure, f"AUROC {mean} on {cases(len(labels))}")
    if task != "binary":
        draw_key(figure, classes, values)
    save(figure, path)
