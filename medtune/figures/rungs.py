"""The curves of all trials over their epochs, and where the pruner stopped them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from medtune.figures.canvas import COLOURS, GRID, PALE, WARNING, add_axes, key_row, label, new_figure, save
from medtune.figures.sweeps import BEST, nothing_yet, value_limits, within

WIDTH, HEIGHT = 7.0, 4.0  # inches
READABLE = 25  # lines of one kind, above which they are made transparent


@dataclass(frozen=True)
class Look:
    colour: str
    width: float
    end: str  # the marker at the last epoch


LOOKS = {
    "complete": Look(COLOURS[0], 1.4, "o"),
    "pruned": Look("#9FB2BF", 1.0, "x"),
    "best": Look(BEST, 2.8, "o"),
    "unfinished": Look(COLOURS[2], 1.4, "^"),
    "failed": Look(WARNING, 1.0, "x"),
}
BACK_TO_FRONT = ("pruned", "failed", "unfinished", "complete", "best")


def rungs_figure(
    epochs: pd.DataFrame,
    states: Mapping[int, str],
    best: int | None,
    rungs: Sequence[int],
    metric: str,
    direction: str,
    path: Path,
) -> None:
    """Write a PNG, 700 x 400 pixels: a line a trial; one that was pruned is pale and ends in a cross.

    epochs: `trial`, `epoch` and the metric in the column of its name. states: by trial. best: the trial that stands
    out. rungs: the epochs at which the pruner looked, dashed lines; where there are two or more, the epochs are on a
    log scale, on which rungs are evenly spaced. The folder of `path` must be there.
    """
    figure = new_figure(WIDTH, HEIGHT)
    known = epochs[np.isfinite(epochs[metric].astype(float))]
    if not len(known):
        nothing_yet(figure, "no epoch yet")
        return save(figure, path)
    axes = add_axes(figure, (0.85, 0.6, WIDTH - 1.05, 2.85), (0.5, 1.5), _limits(known, metric, direction))
    _lay_out_epochs(axes, int(known["epoch"].max()), rungs)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(color=GRID, linewidth=0.8, axis="y")
    kinds: dict[str, list[NDArray[np.float64]]] = {}
    for trial, of in known.groupby("trial"):
        kind = "best" if trial == best else states[trial]
        kinds.setdefault(kind, []).append(np.column_stack([of["epoch"], of[metric]]))
    for order, kind in enumerate(kind for kind in BACK_TO_FRONT if kind in kinds):
        _draw(axes, kinds[kind], LOOKS[kind], 2 + order)
    label(axes, "epoch", metric)
    axes.yaxis.set_label_coords(-0.095, 0.5)
    entries = [(kind, LOOKS[kind].colour, "solid") for kind in LOOKS if kind in kinds]
    entries += [("rung", PALE, "dashed")] if rungs else []
    key_row(figure, 0.28, [(0.85 + 1.3 * place, *entry) for place, entry in enumerate(entries)])
    save(figure, path)


def _limits(known: pd.DataFrame, metric: str, direction: str) -> tuple[float, float]:
    """Of the best values of the trials, and where more is better of all: a loss jumps up far, and comes back."""
    best = known.groupby("trial")[metric].agg(direction)
    return value_limits(np.concatenate([best, known[metric] if direction == "max" else []]), direction)


def _lay_out_epochs(axes: Axes, last: int, rungs: Sequence[int]) -> None:
    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if len(rungs) > 1:
        axes.set_xscale("log")
        axes.set_xlim(0.93, last * 1.07)
        ticks = {1, *rungs, *([last] if last > 1.25 * rungs[-1] else [])}
        axes.xaxis.set(major_locator=FixedLocator(sorted(ticks)), minor_locator=NullLocator())
        axes.xaxis.set_major_formatter(lambda epoch, _: f"{epoch:g}")
    for rung in rungs:
        axes.axvline(rung, color=PALE, linewidth=1.2, linestyle="dashed", zorder=1)


def _draw(axes: Axes, lines: Sequence[NDArray[np.float64]], look: Look, order: int) -> None:
    """Lines leave the picture where they are off it; their last points are drawn at its edge."""
    opacity = max(0.2, min(1.0, READABLE / len(lines)))
    drawn = LineCollection(lines, colors=look.colour, linewidths=look.width, alpha=opacity, zorder=order)
    axes.add_collection(drawn)
    ends = np.array([line[-1] for line in lines])
    heights = within(ends[:, 1], axes.get_ylim())
    axes.scatter(ends[:, 0], heights, s=22, c=look.colour, marker=look.end, zorder=order)
