"""A reliability diagram of one trial, small enough to draw thousands."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from numpy.typing import NDArray

from medtune.evaluation.intervals import wilson
from medtune.evaluation.metrics import BINS, Floats, Integers, bin_of, check_probabilities, confidences, ece
from medtune.figures.canvas import (
    COLOURS,
    INK,
    PALE,
    add_axes,
    cases,
    diagonal,
    heading,
    label,
    new_figure,
    save,
    short_count,
    unit_square,
    unit_ticks,
)
from medtune.task import Task

BAR = "#56B4E9"
LOWEST_TOP_OF_TWO = 7 / BINS  # no top label of two is below .5


def reliability_figure(probabilities: Floats, labels: Integers, task: Task, path: Path) -> None:
    """Write a PNG, 400 x 400 pixels: in each of 15 bins the share that came true against the confidence, and how many.

    Top label with Wilson intervals; for multilabel the positive class, all labels pooled in the bars and each on its
    own as a thin line. The title has the ECE, which is `metrics.ece`, and the number of cases. The folder of `path`
    must be there. Raises ValueError as `metrics`.
    """
    labels = check_probabilities(probabilities, labels, task)
    confidence, outcome = confidences(probabilities, labels, task)
    low = LOWEST_TOP_OF_TWO if task == "binary" else 0.0
    figure = new_figure(4, 4)
    axes = add_axes(figure, (0.68, 1.28, 3.17, 2.36), (low, 1), (0, 1.015))
    below = add_axes(figure, (0.68, 0.55, 3.17, 0.6), (low, 1), (0, 1))
    unit_square(axes, low)
    diagonal(axes)
    axes.tick_params(labelbottom=False)
    _draw_bins(axes, confidence, outcome)
    _draw_histogram(below, confidence)
    unit_ticks(below.xaxis, low)
    value = ece(probabilities, labels, task)
    many = f" \u00d7 {labels.shape[1]} labels" if labels.ndim == 2 else ""
    label(axes, y="share right" if labels.ndim == 1 else "share positive")
    label(below, x="confidence" if labels.ndim == 1 else "predicted probability", y="cases")
    heading(figure, f"ECE {value:.3f} on {cases(len(labels))}{many}")
    save(figure, path)


def bin_sums(bins: NDArray[np.intp], of: NDArray[Any]) -> NDArray[np.float64]:
    """The sum of `of` in each of the 15 bins."""
    return np.bincount(bins.ravel(), weights=of.ravel(), minlength=BINS).astype(np.float64)


def _draw_bins(axes: Axes, confidence: Floats, outcome: NDArray[np.bool_]) -> None:
    bins = bin_of(confidence)
    count, true = bin_sums(bins, np.ones(bins.shape)), bin_sums(bins, outcome)
    filled = np.flatnonzero(count)
    middle, count, true = (filled + 0.5) / BINS, count[filled], true[filled]
    _bars(axes, filled, true / count, BAR)
    if confidence.shape[1] == 1:
        ends = zip(middle, *wilson(true, count), strict=True)
        axes.add_collection(LineCollection([[(x, low), (x, high)] for x, low, high in ends], colors=INK, zorder=4))
        axes.plot(middle, true / count, "o", color=INK, markersize=4, zorder=4)
    else:
        lines = [_line(bins[:, label], outcome[:, label]) for label in range(confidence.shape[1])]
        axes.add_collection(LineCollection(lines, colors=COLOURS[1], linewidths=0.8, alpha=0.6, zorder=4))


def _bars(axes: Axes, bins: NDArray[np.intp], heights: NDArray[Any], colour: str) -> None:
    """Bars over bins, as one collection: `Axes.bar` takes longer than all the rest."""
    left, right = (bins + 0.04) / BINS, (bins + 0.96) / BINS
    corners = [[(a, 0), (a, height), (b, height), (b, 0)] for a, b, height in zip(left, right, heights, strict=True)]
    axes.add_collection(PolyCollection(corners, facecolors=colour, linewidths=0, zorder=2))


def _line(bins: NDArray[np.intp], outcome: NDArray[np.bool_]) -> NDArray[np.float64]:
    count, true = bin_sums(bins, np.ones(bins.shape)), bin_sums(bins, outcome)
    # a share of a handful of cases is mostly noise, and fourteen such lines hide the rest
    filled = np.flatnonzero(count >= 10)
    return np.column_stack([(filled + 0.5) / BINS, true[filled] / count[filled]])


def _draw_histogram(axes: Axes, confidence: Floats) -> None:
    count = np.bincount(bin_of(confidence).ravel(), minlength=BINS)
    _bars(axes, np.arange(BINS), count, PALE)
    most = int(count.max())
    axes.set_ylim(0, most * 1.05)
    axes.set_yticks((0, most), ("0", short_count(most)))
