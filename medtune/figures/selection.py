"""The trials that could have won, each with its interval, and what the winner is worth after the luck of the choice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.figures.canvas import COLOURS, GRID, INK, PALE, add_axes, heading, key_row, new_figure, save
from medtune.figures.sweeps import nothing_yet

WIDTH, ROW = 7.0, 0.27  # inches
MOST = 20  # trials that are drawn


def selection_figure(
    trials: Sequence[int],
    values: NDArray[np.float64],
    ends: NDArray[np.float64],
    wins: NDArray[np.float64],
    tied: NDArray[np.bool_],
    corrected: float,
    metric: str,
    path: Path,
) -> None:
    """Write a PNG, 700 pixels wide and 27 a trial high: a dot and an interval for each of the first 20 trials, the ones
    that cannot be told from the best in colour, and at the right in how many resamples each is the best.

    values: (trials,); ends: (trials, 2); wins: shares; tied: who cannot be told from the best; corrected: NaN where it
    is undefined. The folder of `path` must be there.
    """
    shown = min(len(trials), MOST)
    values, ends, wins, tied = values[:shown], ends[:shown], wins[:shown], tied[:shown]
    figure = new_figure(WIDTH, ROW * max(shown, 2) + 1.5)
    known = np.concatenate([values, ends.ravel(), [corrected]])
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    room = 0.04 * max(high - low, 1e-3)
    box = (0.95, 0.6, WIDTH - 1.85, ROW * max(shown, 2))
    axes = add_axes(figure, box, (low - room, high + room), (max(shown, 2) - 0.5, -0.5))
    axes.grid(color=GRID, linewidth=0.8, axis="x")
    axes.set_yticks(range(shown), [f"trial {trial}" for trial in trials[:shown]])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(metric, fontsize=11, color=INK)
    for row in range(shown):
        colour = COLOURS[0] if tied[row] else PALE
        axes.plot(ends[row], [row, row], color=colour, linewidth=2, zorder=2, solid_capstyle="butt")
        axes.plot(values[row], row, "o", color=colour, markersize=6, markeredgewidth=0, zorder=3)
        axes.annotate(
            f"wins {wins[row]:.0%}", (1.02, row), xycoords=("axes fraction", "data"), fontsize=9, color=INK, va="center"
        )
    if np.isfinite(corrected):
        axes.axvline(corrected, color=COLOURS[1], linewidth=2, linestyle="dashed", zorder=1)
    heading(figure, "Who could have won")
    key = [(0.95, "cannot be told from the best", COLOURS[0], "solid"), (3.6, "can be", PALE, "solid")]
    key_row(figure, 0.5, [*key, (4.75, "worth of the winner", COLOURS[1], "dashed")])
    if not shown:
        nothing_yet(figure, "no trial yet")
    save(figure, path)
