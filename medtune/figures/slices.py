"""The metric against each swept value: small pictures beside each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.figures.canvas import GRID, INK, add_axes, new_figure, save, shorten
from medtune.figures.sweeps import key_of_marks, nothing_yet, placed, ring, scatter, value_limits, within

MOST, ACROSS = 12, 4
MANY = 80  # trials, above which their marks are smaller
WIDE, HIGH, LEFT, TOP = 2.5, 2.3, 0.75, 0.55  # inches: a panel with its labels, what is left of and above all of them


def slices_figure(
    columns: pd.DataFrame,
    scales: Mapping[str, str],
    values: NDArray[np.float64],
    states: Sequence[str],
    metric: str,
    direction: str,
    path: Path,
) -> None:
    """Write a PNG, at most 1085 x 745 pixels: for each of the first twelve columns a panel with a mark a trial.

    columns: a row a trial, in the order in which they are to be drawn; a trial that lacks a value is not in its panel.
    scales: linear, log or choice, by column. values: of the trials, one without is left out; what is far worse than the
    median is drawn at the edge. The best complete trial has a ring. The folder of `path` must be there.
    """
    names = list(columns)[:MOST]
    across, rows = max(min(len(names), ACROSS), 1), max(-(-len(names) // ACROSS), 1)
    figure = new_figure(LEFT + across * WIDE + 0.1, TOP + rows * HIGH + 0.05)
    if not np.isfinite(values).any() or not names:
        nothing_yet(figure, "no trial has\na value yet")
        return save(figure, path)
    limits, best = value_limits(values, direction), _best(values, states, direction)
    for place, name in enumerate(names):
        axes, layout = _panel(figure, place, limits), placed(columns[name], scales[name])
        x, y = layout.spread, within(values, limits)
        scatter(axes, x, y, np.array(states), 0.85 if len(values) < MANY else 0.6)
        if best is not None:
            ring(axes, x[best], y[best])
        axes.set_xticks([where for where, _ in layout.ticks], [word for _, word in layout.ticks], parse_math=False)
        axes.set_xlabel(shorten(name, 28), fontsize=11, color=INK, parse_math=False)
    figure.text(0.12 / figure.get_size_inches()[0], 0.5, metric, fontsize=12, color=INK, rotation=90, va="center")
    key_of_marks(figure, 0.25, LEFT, [*states, "best"] if best is not None else states, 1.2)
    save(figure, path)


def _best(values: NDArray[np.float64], states: Sequence[str], direction: str) -> int | None:
    """The row of the best complete trial."""
    complete = np.where(np.array(states) == "complete", values if direction == "max" else -values, np.nan)
    return None if np.isnan(complete).all() else int(np.nanargmax(complete))


def _panel(figure: Figure, place: int, limits: tuple[float, float]) -> Axes:
    height = figure.get_size_inches()[1]
    row, column = divmod(place, ACROSS)
    box = (LEFT + column * WIDE, height - TOP - (row + 1) * HIGH + 0.6, WIDE - 0.2, HIGH - 0.7)
    axes = add_axes(figure, box, (-0.06, 1.06), limits)
    axes.grid(color=GRID, linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelleft=column == 0)
    return axes
