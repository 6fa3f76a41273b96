"""What all pictures have in common: the paper, the axes, the colours.

Only matplotlib's objects on an Agg canvas, no pyplot and no rcParams: nothing global is touched, so that a background
thread can draw, and the same numbers give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe & Ito 2008, told apart by colour-blind readers, their yellow darkened to show on white; past eight, dashes
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B0A800")
DASHES = ("solid", "dashed", "dotted")
INK, PALE, GRID = "#222222", "#8A8A8A", "#E4E4E4"
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
