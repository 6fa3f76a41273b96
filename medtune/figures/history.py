"""The value of each trial in the order in which they were tried, and the best so far."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.figures.canvas import GRID, add_axes, key_row, label, new_figure, save
from medtune.figures.sweeps import BEST, key_of_marks, nothing_yet, scatter, value_limits, within

WIDTH, HEIGHT = 7.0, 4.0  # inches


def history_figure(
    values: NDArray[np.float64],
    states: Sequence[str],
    best: NDArray[np.float64],
    metric: str,
    direction: str,
    path: Path,
) -> None:
    """Write a PNG, 700 x 400 pixels: a mark a trial by its state, and a line of the best so far.

    values, states, best: of each trial in order; a trial without a value, NaN, has its mark at the bad end. direction:
    max or min. What is far worse than the median trial is drawn at the edge. The folder of `path` must be there.
    """
    figure = new_figure(WIDTH, HEIGHT)
    limits = value_limits(values, direction)
    axes = add_axes(figure, (0.85, 0.6, WIDTH - 1.05, 2.85), (-0.8, max(len(values), 1) - 0.2), limits)
    axes.grid(color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    numbers, bad = np.arange(len(values), dtype=np.float64), limits[0] if direction == "max" else limits[1]
    scatter(axes, numbers, within(np.where(np.isnan(values), bad, values), limits), np.array(states))
    axes.step(numbers, best, where="post", color=BEST, linewidth=2, zorder=3)
    label(axes, "trial", metric)
    axes.yaxis.set_label_coords(-0.095, 0.5)
    end = key_of_marks(figure, 0.28, 0.85, states)
    key_row(figure, 0.28, [(end, "best so far", BEST, "solid")])
    if not len(values):
        nothing_yet(figure, "no trial yet")
    save(figure, path)
