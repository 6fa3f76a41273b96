"""Discrimination against calibration: which trials no other trial beats in both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.evaluation.front import pareto_front
from medtune.figures.canvas import GRID, add_axes, key_row, label, new_figure, save
from medtune.figures.sweeps import BEST, key_of_marks, nothing_yet, ring, scatter, value_limits, within

WIDTH, HEIGHT = 6.0, 4.5  # inches
NAMED = 8  # trials of the front that are named


def pareto_figure(
    auroc: NDArray[np.float64], ece: NDArray[np.float64], states: Sequence[str], numbers: Sequence[int], path: Path
) -> None:
    """Write a PNG, 600 x 450 pixels: val AUROC against val ECE of each trial, and the front of the complete ones.

    auroc, ece: of each trial at its best epoch, NaN where it has none. numbers: the trials' names. Pruned trials are
    not on the front: one that answers the same for every case is well calibrated after its first epoch, and of no use;
    and where there are two complete ones or more, the picture is of their range. The folder of `path` must be there.
    """
    figure = new_figure(WIDTH, HEIGHT)
    known = np.isfinite(auroc) & np.isfinite(ece)
    if not known.any():
        nothing_yet(figure, "no trial has a value yet")
        return save(figure, path)
    complete = np.array(states) == "complete"
    front = pareto_front(np.where(complete, auroc, np.nan), ece)
    window = complete & known if (complete & known).sum() > 1 else known
    limits = value_limits(ece[window], "min"), value_limits(auroc[window], "max")
    axes = add_axes(figure, (0.8, 0.6, WIDTH - 1.0, HEIGHT - 1.15), *limits)
    axes.grid(color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    x = np.where(window, within(ece, limits[0]), ece)
    y = np.where(window, within(auroc, limits[1]), auroc)
    scatter(axes, x, y, np.array(states))
    chosen = np.flatnonzero(front)[np.argsort(ece[front], kind="stable")]
    axes.step(x[chosen], y[chosen], where="post", color=BEST, linewidth=1.8, zorder=3)
    for trial in chosen:
        ring(axes, x[trial], y[trial])
    for trial in chosen[:NAMED]:
        left = x[trial] < limits[0][0] + 0.08 * (limits[0][1] - limits[0][0])  # where an axis would cover it
        place, side = ((9, -3), "left") if left else ((-9, -3), "right")
        axes.annotate(
            str(numbers[trial]),
            (x[trial], y[trial]),
            place,
            textcoords="offset points",
            ha=side,
            fontsize=10,
            zorder=10,
        )
    label(axes, "val ECE, lower is better", "val AUROC, higher is better")
    axes.yaxis.set_label_coords(-0.115, 0.5)
    end = key_of_marks(figure, 0.28, 0.8, states)
    key_row(figure, 0.28, [(end, "front", BEST, "solid")])
    save(figure, path)
