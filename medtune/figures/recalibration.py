"""Reliability before and after recalibration, in one picture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.metrics import BINS, Floats, Integers, bin_of, check_probabilities, confidences, ece
from medtune.figures.canvas import (
    COLOURS,
    add_axes,
    cases,
    coloured,
    diagonal,
    draw_key,
    heading,
    label,
    new_figure,
    save,
    unit_square,
)
from medtune.figures.reliability import LOWEST_TOP_OF_TWO, bin_sums
from medtune.task import Task


def recalibration_figure(before: Floats, after: Mapping[str, Floats], labels: Integers, task: Task, path: Path) -> None:
    """Write a PNG, 600 x 400 pixels: the share that came true against the mean confidence in each of 15 bins, a line
    for the probabilities before and one for each way of recalibrating them, and a key with their ECE.

    The larger a dot, the more cases are in the bin. Bins of fewer than ten (of fewer than the average, where that is
    below ten) are not drawn, but are in the ECE. Top label; for multilabel the positive class, all labels pooled, while
    the ECE is the mean over labels as in `metrics.ece`. after: by name, of the shape of `before`. The title has the
    ECE before; the lowest of those after would be too good to be true. The folder of `path` must be there. Raises
    ValueError as `metrics`.
    """
    labels = check_probabilities(before, labels, task)
    every = {"before": before, **after}
    values = np.array([ece(probabilities, labels, task) for probabilities in every.values()])
    low = LOWEST_TOP_OF_TWO if task == "binary" else 0.0
    figure = new_figure(6, 4)
    axes = add_axes(figure, (0.68, 0.6, 3.1, 3.0), (low, 1.01), (0, 1.015))
    unit_square(axes, low)
    diagonal(axes)
    found = [_line(probabilities, labels, task) for probabilities in every.values()]
    axes.add_collection(coloured([line for line, _ in found], 1.6))
    for number, (line, part) in enumerate(found):
        colour = COLOURS[number % len(COLOURS)]
        axes.scatter(
            line[:, 0], line[:, 1], s=8 + 150 * part, color=colour, linewidths=0, alpha=0.8, zorder=5, clip_on=False
        )
    what = "share right" if labels.ndim == 1 else "share positive"
    label(axes, "mean confidence", what)
    heading(figure, f"ECE {values[0]:.3f} before, on {cases(len(labels))}")
    draw_key(figure, list(every), values, "ECE")
    save(figure, path)


def _line(probabilities: Floats, labels: Integers, task: Task) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean confidence and share true of each bin with cases enough, (bins, 2), and the share of all in it, (bins,)."""
    confidence, outcome = confidences(probabilities, labels, task)
    bins = bin_of(confidence)
    count = bin_sums(bins, np.ones(bins.shape))
    # a share of a handful of cases is mostly noise; of few cases in all, what a bin has on average
    filled = np.flatnonzero(count >= max(1, min(10, confidence.size // BINS)))
    sums = np.column_stack([bin_sums(bins, confidence), bin_sums(bins, outcome)])
    return sums[filled] / count[filled, None], count[filled] / count.sum()
