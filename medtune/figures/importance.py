"""How important each swept dimension is, as bars, and what chance alone would give."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.figures.canvas import COLOURS, GRID, INK, PALE, add_axes, heading, new_figure, save, shorten
from medtune.figures.sweeps import nothing_yet

WIDTH, ROW = 7.0, 0.32  # inches
NAMES = 2.6  # inches for the names
KEY = "Orange: what random numbers get from the same trials. A pale bar may be chance."
MOST = 20  # dimensions that are drawn


def importance_figure(
    names: Sequence[str],
    shares: NDArray[np.float64],
    noise: NDArray[np.float64],
    why: Sequence[str],
    basis: str,
    path: Path,
) -> None:
    """Write a PNG, 700 pixels wide and 32 a dimension high: a bar for each of the first 20 dimensions.

    shares: 0 to 1; where NaN, `why` is written in the place of the bar. noise: what random numbers get, a mark across
    the bar, which is pale where it does not reach it. basis: what was compared, in words, below the axis. The folder of
    `path` must be there.
    """
    names, why = names[:MOST], why[:MOST]
    shown = min(len(names), MOST)
    figure = new_figure(WIDTH, ROW * max(shown, 2) + 1.45)
    most = max(float(np.nanmax(np.concatenate([shares, noise, [0.0]]))), 0.1) * 1.15
    box = (NAMES, 0.95, WIDTH - NAMES - 0.2, ROW * max(shown, 2))
    axes = add_axes(figure, box, (0, most), (max(shown, 2) - 0.5, -0.5))
    axes.grid(color=GRID, linewidth=0.8, axis="x")
    axes.set_yticks(range(shown), [shorten(name, 34) for name in names], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    for row, (share, floor, words) in enumerate(zip(shares[:shown], noise[:shown], why, strict=True)):
        if np.isnan(share):
            axes.text(most / 100, row, shorten(words, 60), fontsize=9, color=PALE, va="center", parse_math=False)
            continue
        axes.barh(row, share, height=0.62, color=COLOURS[0] if share > floor else "#B9C6CF", zorder=2)
        axes.plot([floor, floor], [row - 0.42, row + 0.42], color=COLOURS[1], linewidth=2, zorder=3)
        axes.text(most, row, f"{share:.0%}", fontsize=10, color=INK, ha="right", va="center")
    heading(figure, "Share of the differences that each dimension explains")
    figure.text(0.02, 0.12 / figure.get_size_inches()[1], f"{basis}\n{KEY}", fontsize=9.5, color=INK, parse_math=False)
    if not shown:
        nothing_yet(figure, "nothing is swept")
    save(figure, path)
