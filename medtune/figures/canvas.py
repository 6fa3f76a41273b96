"""What all pictures have in common: the paper, the axes, the colours.

Only matplotlib's objects on an Agg canvas, no pyplot and no rcParams: nothing global is touched, so that a background
thread can draw, and the same numbers give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe & Ito 2008, told apart by colour-blind readers, their yellow darkened to show on white; past eight, dashes
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B0A800")
DASHES = ("solid", "dashed", "dotted")
INK, PALE, GRID = "#222222", "#8A8A8A", "#E4E4E4"
WARNING = "#A33A00"  # dark enough for small letters on white, and the colour of what is bad in the pages
DPI = 100

Box = tuple[float, float, float, float]  # left, bottom, width, height in inches


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, box: Box, x: tuple[float, float], y: tuple[float, float]) -> Axes:
    """Axes at a fixed place in the house style; a layout engine would cost more than the drawing."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.set(xlim=x, ylim=y)
    axes.tick_params(labelsize=10, colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return axes


def label(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    axes.set_xlabel(x, fontsize=11, color=INK)
    axes.set_ylabel(y, fontsize=11, color=INK)
    axes.yaxis.set_label_coords(-0.14, 0.5)  # the same place whatever the ticks say
    axes.set_title(title, fontsize=13, color=INK, fontweight="bold")


def heading(figure: Figure, title: str) -> None:
    """A title over the whole picture, smaller where it would not fit."""
    width, height = figure.get_size_inches()
    points, y = min(13.0, width * 72 / (0.71 * len(title))), 1 - 0.2 / height  # a bold letter is .7 of its size wide
    figure.text(
        0.5, y, title, fontsize=points, color=INK, fontweight="bold", ha="center", va="center", parse_math=False
    )


def titled(words: str, name: str) -> str:
    """A title of one class among several."""
    return f"{shorten(name, 24)}: {words}" if name else words


def save(figure: Figure, path: Path) -> None:
    # without the version of matplotlib in it, so that the same picture is the same file
    figure.canvas.print_png(path, metadata={"Software": None}, pil_kwargs={"compress_level": 3})  # type: ignore[attr-defined]


def coloured(lines: Sequence[NDArray[np.float64]], width: float) -> LineCollection:
    numbers = range(len(lines))
    return LineCollection(
        lines,
        colors=[COLOURS[number % len(COLOURS)] for number in numbers],
        linestyles=[DASHES[number // len(COLOURS) % len(DASHES)] for number in numbers],
        linewidths=width,
        zorder=4,
    )


def unit_ticks(axis: Axis, low: float = 0.0) -> None:
    """Quarters from `low` to 1, written short enough for the last one not to leave the picture."""
    ticks = {0: "0", 0.25: ".25", 0.5: ".5", 0.75: ".75", 1: "1"}
    shown = [tick for tick in ticks if tick >= low]
    axis.set_ticks(shown, labels=[ticks[tick] for tick in shown])


def unit_square(axes: Axes, low: float = 0.0) -> None:
    """Grid and ticks of a plot of one share against another."""
    unit_ticks(axes.xaxis, low)
    unit_ticks(axes.yaxis)
    axes.grid(color=GRID, linewidth=0.8)


def diagonal(axes: Axes) -> None:
    axes.add_collection(LineCollection([[(0, 0), (1, 1)]], colors=INK, linewidths=1, linestyles="dashed", zorder=3))


def marks(axes: Axes, lines: Sequence[NDArray[np.float64]], size: float) -> None:
    """A dot at each point of `coloured` lines: a line of one point, or between two gaps, is not seen."""
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(line[:, 0], line[:, 1], "o", color=colour, markersize=size, markeredgewidth=0, zorder=5)


def shorten(name: str, longest: int) -> str:
    """A name on one line, in at most so many characters."""
    name = " ".join(name.split())
    return name if len(name) <= longest else name[: longest - 1].rstrip(" ,") + "\u2026"


def told(value: float, decimals: int = 3) -> str:
    return "none" if np.isnan(value) else f"{value:.{decimals}f}"


def cases(count: int) -> str:
    return f"{count:,} case{'' if count == 1 else 's'}"


def short_count(count: int) -> str:
    """At most four characters, which is what fits between an axis and its label, or in a cell."""
    if count < 1000:
        return str(count)
    if count < 999_500:
        return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"
    return f"{count / 1e6:.1f}M"


def key_row(figure: Figure, y: float, entries: Sequence[tuple[float, str, str, str]]) -> None:
    """A key in a row above the axes, as matplotlib's legend would cover lines. y: inches from the top; entries: inches
    from the left, text, colour and dashes."""
    width, height = figure.get_size_inches()
    y = 1 - y / height
    for left, text, colour, dashes in entries:
        ends = [(left / width, y), ((left + 0.3) / width, y)]
        figure.add_artist(LineCollection([ends], colors=colour, linewidths=2, linestyles=dashes))
        figure.text((left + 0.38) / width, y, text, fontsize=11, color=INK, va="center")


KEY_NAME = 17  # characters


def draw_key(
    figure: Figure, names: Sequence[str], values: Sequence[float] | NDArray[np.float64], head: str = ""
) -> None:
    """Line, name and value of each of the `coloured` lines, in the two inches right of a plot that begins at .68 and
    is 3.1 wide; matplotlib's legend takes longer than the plot. head: what the values are."""
    width, height = figure.get_size_inches()
    left, right, top, bottom = 4.0 / width, 5.95 / width, 1 - 0.4 / height, 0.6 / height
    if head:
        figure.text(right, top - 0.1 / height, head, fontsize=8.5, color=PALE, ha="right", va="center")
        top -= 0.2 / height
    step = min(0.256 / height, (top - bottom) / max(len(names), 1))
    heights = top - step * (np.arange(len(names)) + 0.5)
    figure.add_artist(coloured([np.array([(left, y), (left + 0.216 / width, y)]) for y in heights], 2.0))
    points = min(8.5, step * height * 72 * 0.75)
    for name, value, y in zip(names, values, heights, strict=True):
        for x, text, side in ((left + 0.27 / width, shorten(name, KEY_NAME), "left"), (right, told(value), "right")):
            figure.text(x, y, text, fontsize=points, color=INK, ha=side, va="center", parse_math=False)


def check_names(classes: Sequence[str], columns: int) -> None:
    """Raise ValueError unless there is one name a column."""
    if len(classes) != columns:
        raise ValueError(f"{len(classes)} class names for {columns} columns")
