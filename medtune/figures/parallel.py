"""Every trial as a line through its swept values to its metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from medtune.figures.canvas import INK, add_axes, new_figure, save
from medtune.figures.sweeps import Placed, nothing_yet, placed, value_limits, within

HEIGHT, AXIS = 4.5, 1.15  # inches: of the picture, between two axes
MOST = 11  # columns
COLOURS = colormaps["viridis_r"]  # dark is good: what is pale steps back on white


def parallel_figure(
    columns: pd.DataFrame,
    scales: Mapping[str, str],
    values: NDArray[np.float64],
    metric: str,
    direction: str,
    path: Path,
) -> None:
    """Write a PNG, 450 pixels high: an axis a column and a last one of the metric, by which lines are coloured.

    columns: a row a trial, the first eleven are drawn; where a trial has no value its line has a gap, which is dotted.
    scales: linear, log or choice, by column. values: of the trials; one without is left out, one that is far worse than
    the median is at the end of its axis. The folder of `path` must be there.
    """
    columns = columns.loc[np.isfinite(values), list(columns)[:MOST]]
    values = values[np.isfinite(values)]
    figure = new_figure(max(AXIS * len(columns.columns) + 2.0, 4.0), HEIGHT)
    if not len(values):
        nothing_yet(figure, "no trial has a value yet")
        return save(figure, path)
    limits = value_limits(values, direction)
    last = placed(pd.Series(within(values, limits)), "linear")
    layouts = [*(placed(columns[name], scales[name]) for name in columns), last]
    width = figure.get_size_inches()[0]
    axes = add_axes(figure, (0.75, 0.4, width - 1.5, 3.35), (0, len(layouts) - 1), (-0.03, 1.03))
    axes.axis("off")
    _draw_axes(axes, [*columns.columns, metric], layouts)
    _draw_lines(axes, layouts, last.positions if direction == "max" else 1 - last.positions)
    save(figure, path)


def _draw_axes(axes: Axes, names: Sequence[str], layouts: Sequence[Placed]) -> None:
    for place, (name, layout) in enumerate(zip(names, layouts, strict=True)):
        axes.plot([place, place], [0, 1], color=INK, linewidth=1, zorder=6, clip_on=False)
        above, _, leaf = name.rpartition("/" if "/" in name else ".")
        text = f"{above}\n{leaf}" if above else leaf
        axes.text(place, 1.05, text, fontsize=10, color=INK, ha="center", va="bottom", parse_math=False, clip_on=False)
        for where, word in layout.ticks:
            axes.plot([place, place + 0.03], [where, where], color=INK, linewidth=1, zorder=6, clip_on=False)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.75}
            axes.text(
                place + 0.05, where, word, fontsize=9, color=INK, va="center", zorder=7, bbox=box, parse_math=False
            )


def _draw_lines(axes: Axes, layouts: Sequence[Placed], good: NDArray[np.float64]) -> None:
    """good: 0 to 1, of each trial; the best are drawn last and strongest."""
    heights = np.column_stack([layout.spread for layout in layouts])
    for trial in np.argsort(good, kind="stable"):
        line = np.column_stack([np.arange(len(layouts)), heights[trial]])
        colour, best = COLOURS(0.08 + 0.92 * good[trial]), good[trial] == good.max()
        width = 2.6 if best else 1.2
        there = line[np.isfinite(line[:, 1])]
        axes.add_collection(LineCollection(_steps(line), colors=[colour], linewidths=width, alpha=0.9, zorder=3))
        bridges = [step for step in _steps(there) if step[1, 0] - step[0, 0] > 1]
        dotted = LineCollection(bridges, colors=[colour], linewidths=width, linestyles="dotted", alpha=0.6, zorder=2)
        axes.add_collection(dotted)


def _steps(line: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The straight pieces from each point to the next, (2, 2) each, those that are known at both ends."""
    pieces = np.stack([line[:-1], line[1:]], axis=1)
    return list(pieces[np.isfinite(pieces).all(axis=(1, 2))])
