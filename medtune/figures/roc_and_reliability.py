"""Pictures of one trial, small enough to draw thousands: a reliability diagram and ROC curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medtune.evaluation.metrics import (
    BINS,
    Floats,
    Integers,
    auroc_per_class,
    bin_of,
    confidences,
    ece,
    one_vs_rest,
)
from medtune.figures.canvas import COLOURS, GRID, INK, PALE, add_axes, coloured, label, new_figure, save
from medtune.task import Task

LONGEST_NAME = 20


def _unit_ticks(axis: Axis, low: float = 0.0) -> None:
    """Quarters from `low` to 1, written short enough for the last one not to leave the picture."""
    ticks = {0: "0", 0.25: ".25", 0.5: ".5", 0.75: ".75", 1: "1"}
    shown = [tick for tick in ticks if tick >= low]
    axis.set_ticks(shown, labels=[ticks[tick] for tick in shown])


def _unit_square(axes: Axes, low: float = 0.0) -> None:
    """Grid, ticks and the diagonal of a plot of one share against another."""
    _unit_ticks(axes.xaxis, low)
    _unit_ticks(axes.yaxis)
    axes.grid(color=GRID, linewidth=0.8)
    axes.add_collection(LineCollection([[(0, 0), (1, 1)]], colors=INK, linewidths=1, linestyles="dashed", zorder=3))


def _bars(axes: Axes, bins: NDArray[np.intp], heights: NDArray[Any], colour: str) -> None:
    """Bars over bins, as one collection: `Axes.bar` takes longer than all the rest."""
    left, right = (bins + 0.04) / BINS, (bins + 0.96) / BINS
    corners = [[(a, 0), (a, height), (b, height), (b, 0)] for a, b, height in zip(left, right, heights, strict=True)]
    axes.add_collection(PolyCollection(corners, facecolors=colour, linewidths=0, zorder=2))


def _wilson(true: NDArray[np.float64], count: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of Wilson's 95 % interval of a share (Wilson 1927), for whole arrays."""
    z2 = 1.96**2
    centre, reach = true + z2 / 2, np.sqrt(z2 * (true * (1 - true / count) + z2 / 4))
    return (centre - reach) / (count + z2), (centre + reach) / (count + z2)


def reliability_figure(probabilities: Floats, labels: Integers, task: Task, path: Path) -> None:
    """Write a PNG, 400 x 400 pixels: in each of 15 bins the share that came true against the confidence, and how many.

    Top label with Wilson intervals; for multilabel the positive class, all labels pooled in the bars and each on its
    own as a thin line. The title has the ECE, which is `metrics.ece`, and the number of cases. The folder of `path`
    must be there. Raises ValueError as `metrics`.
    """
    value = ece(probabilities, labels, task)
    confidence, outcome = confidences(probabilities, labels, task)
    low = 7 / BINS if task == "binary" else 0.0  # no top label of two is below .5
    figure = new_figure(4, 4)
    axes = add_axes(figure, (0.68, 1.28, 3.17, 2.36), (low, 1), (0, 1.015))
    below = add_axes(figure, (0.68, 0.55, 3.17, 0.6), (low, 1), (0, 1))
    _unit_square(axes, low)
    axes.tick_params(labelbottom=False)
    _draw_bins(axes, confidence, outcome)
    _draw_histogram(below, confidence)
    _unit_ticks(below.xaxis, low)
    many = f"{len(labels):,} cases" + (f" \u00d7 {labels.shape[1]} labels" if labels.ndim == 2 else "")
    label(axes, y="share right" if labels.ndim == 1 else "share positive", title=f"ECE {value:.3f} on {many}")
    label(below, x="confidence" if labels.ndim == 1 else "predicted probability", y="cases")
    axes.title.set_fontsize(13 if labels.ndim == 1 else 11)
    save(figure, path)


def _draw_bins(axes: Axes, confidence: Floats, outcome: NDArray[np.bool_]) -> None:
    bins = bin_of(confidence)
    count, true = _sums(bins, outcome)
    filled = np.flatnonzero(count)
    middle, count, true = (filled + 0.5) / BINS, count[filled], true[filled]
    _bars(axes, filled, true / count, "#56B4E9")
    if confidence.shape[1] == 1:
        ends = zip(middle, *_wilson(true, count), strict=True)
        axes.add_collection(LineCollection([[(x, low), (x, high)] for x, low, high in ends], colors=INK, zorder=4))
        axes.plot(middle, true / count, "o", color=INK, markersize=4, zorder=4)
    else:
        lines = [_line(bins[:, label], outcome[:, label]) for label in range(confidence.shape[1])]
        axes.add_collection(LineCollection(lines, colors=COLOURS[1], linewidths=0.8, alpha=0.6, zorder=4))


def _sums(bins: NDArray[np.intp], outcome: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = np.bincount(bins.ravel(), minlength=BINS).astype(np.float64)
    return count, np.bincount(bins.ravel(), weights=outcome.ravel(), minlength=BINS).astype(np.float64)


def _line(bins: NDArray[np.intp], outcome: NDArray[np.bool_]) -> NDArray[np.float64]:
    count, true = _sums(bins, outcome)
    # a share of a handful of cases is mostly noise, and fourteen such lines hide the rest
    filled = np.flatnonzero(count >= 10)
    return np.column_stack([(filled + 0.5) / BINS, true[filled] / count[filled]])


def _draw_histogram(axes: Axes, confidence: Floats) -> None:
    count = np.bincount(bin_of(confidence).ravel(), minlength=BINS)
    _bars(axes, np.arange(BINS), count, PALE)
    most = int(count.max())
    axes.set_ylim(0, most * 1.05)
    axes.set_yticks((0, most), ("0", _short(most)))


def _short(count: int) -> str:
    """At most four characters, which is what fits between an axis and its label."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


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
    """Write a PNG, 400 pixels high: for binary one curve, of class 1; else one per class or label, and a key.

    classes: one name per column of `probabilities`. The title has the AUROC, which is `metrics.auroc`, and the number
    of cases; a class that is missing from the split has no curve and no number. The folder of `path` must be there.
    Raises ValueError when the number of names is wrong, and as `metrics`.
    """
    if len(classes) != probabilities.shape[1]:
        raise ValueError(f"{len(classes)} class names for {probabilities.shape[1]} columns")
    values = auroc_per_class(probabilities, labels, task)
    names = classes[1:] if task == "binary" else classes
    figure = new_figure(4 if task == "binary" else 6, 4)
    axes = add_axes(figure, (0.68, 0.6, 3.1, 3.0), (-0.01, 1), (0, 1.01))
    _unit_square(axes)
    problems = zip(*one_vs_rest(probabilities, labels, task), strict=True)
    curves = [
        np.empty((0, 2)) if np.isnan(value) else roc_curve(*problem)
        for problem, value in zip(problems, values, strict=True)
    ]
    axes.add_collection(coloured(curves, 2.2 if len(curves) == 1 else 1.5))
    mean = "undefined" if np.isnan(values).any() else f"{values.mean():.3f}"
    label(axes, "false positive rate", "true positive rate", f"AUROC {mean} on {len(labels):,} cases")
    if task != "binary":
        _draw_key(figure, names, values)
    save(figure, path)


def _draw_key(figure: Figure, names: Sequence[str], values: NDArray[np.float64]) -> None:
    """Line, name and AUROC of each class, right of the plot; matplotlib's legend takes longer than the plot."""
    left, right, top, bottom = 4.0 / 6, 5.95 / 6, 3.6 / 4, 0.6 / 4
    step = min(0.064, (top - bottom) / len(names))
    heights = top - step * (np.arange(len(names)) + 0.5)
    figure.add_artist(coloured([np.array([(left, y), (left + 0.036, y)]) for y in heights], 2.0))
    points = min(8.5, step * 4 * 72 * 0.75)
    for name, value, y in zip(names, values, heights, strict=True):
        short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\u2026"
        number = "none" if np.isnan(value) else f"{value:.3f}"
        for x, text, side in ((left + 0.045, short, "left"), (right, number, "right")):
            figure.text(x, y, text, fontsize=points, color=INK, ha=side, va="center", parse_math=False)
