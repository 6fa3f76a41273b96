"""Precision-recall curves of one trial: what the ROC hides where few cases are positive."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from medtune.evaluation.metrics import Floats, Integers, check_probabilities, one_vs_rest
from medtune.figures.canvas import (
    COLOURS,
    PALE,
    add_axes,
    cases,
    check_names,
    coloured,
    draw_key,
    heading,
    label,
    new_figure,
    save,
    told,
    unit_square,
)
from medtune.task import Task


def pr_curve(scores: Floats, positive: NDArray[np.bool_], points: int = 400) -> NDArray[np.float64]:
    """Recall and precision as the corners of a staircase, (points at most, 2), from recall 0 to 1; (0, 2) unless there
    are positive and negative cases.

    The area below it is the average precision: each step of recall counts with the precision that it ends at (as
    scikit-learn has it; straight lines between the points would promise too much, Davis & Goadrich 2006). Where there
    are more corners than `points` only some are given, evenly spaced along the curve and too near for an eye to tell.
    """
    if positive.all() or not positive.any():
        return np.empty((0, 2))
    precision, recall, _ = precision_recall_curve(positive, scores)
    # from the highest threshold down; its first point, (0, 1), is made up
    steps = np.column_stack([recall, precision])[::-1]
    gained = np.diff(steps[:, 0]) > 0
    starts, ends = steps[:-1][gained], steps[1:][gained]
    corners = np.stack([np.column_stack([starts[:, 0], ends[:, 1]]), ends], axis=1).reshape(-1, 2)
    if len(corners) <= points:
        return corners
    along = np.append(0, np.abs(np.diff(corners, axis=0)).sum(axis=1).cumsum())
    return corners[np.searchsorted(along, np.linspace(0, along[-1], points))]


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The mean of the precisions over the steps of recall, as `sklearn.metrics.average_precision_score`; NaN unless
    there are positive and negative cases."""
    if positive.all() or not positive.any():
        return float("nan")
    precision, recall, _ = precision_recall_curve(positive, scores)
    return float(-(np.diff(recall) * precision[:-1]).sum())


def pr_figure(probabilities: Floats, labels: Integers, task: Task, classes: Sequence[str], path: Path) -> None:
    """Write a PNG, 400 pixels high: for binary one curve, of class 1, 400 wide; else one per class or label and a key,
    600 wide. Dotted: the prevalence, which is the precision of answering at random.

    classes: one name per column of `probabilities`. The title has the average precision, or its mean over the classes,
    and the number of cases; a class that no case has, or every case, has no curve and no number. The folder of `path`
    must be there. Raises ValueError when the number of names is wrong, and as `metrics`.
    """
    check_names(classes, probabilities.shape[1])
    labels = check_probabilities(probabilities, labels, task)
    scores, positive = one_vs_rest(probabilities, labels, task)
    values = np.array([average_precision(*problem) for problem in zip(scores, positive, strict=True)])
    figure = new_figure(4 if task == "binary" else 6, 4)
    axes = add_axes(figure, (0.68, 0.6, 3.1, 3.0), (-0.01, 1), (0, 1.01))
    unit_square(axes)
    curves = [pr_curve(*problem) for problem in zip(scores, positive, strict=True)]
    axes.add_collection(coloured(curves, 2.2 if len(curves) == 1 else 1.5))
    _draw_prevalence(axes, positive.mean(axis=1))
    mean = "undefined" if np.isnan(values).any() else told(values.mean())
    name = "average precision" if task == "binary" else "mean average precision"
    label(axes, "recall", "precision")
    heading(figure, f"{name} {mean} on {cases(len(labels))}")
    if task != "binary":
        draw_key(figure, classes, values)
    save(figure, path)


def _draw_prevalence(axes: Axes, shares: NDArray[np.float64]) -> None:
    """Of one problem with its number; of several as faint lines in their colours."""
    alone = len(shares) == 1
    colours = [PALE if alone else COLOURS[number % len(COLOURS)] for number in range(len(shares))]
    lines = [[(0, share), (1, share)] for share in shares]
    alpha = 1.0 if alone else 0.55
    axes.add_collection(
        LineCollection(lines, colors=colours, linewidths=1.3, linestyles="dotted", alpha=alpha, zorder=3)
    )
    if alone:
        above = shares[0] < 0.5
        y, side = shares[0] + (0.015 if above else -0.02), "bottom" if above else "top"
        axes.text(0.02, y, f"prevalence {shares[0]:.3f}", fontsize=10, color=PALE, va=side)
