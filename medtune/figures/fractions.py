"""A number against the part of the labels that was known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from medtune.figures.canvas import COLOURS, GRID, add_axes, heading, key_row, label, new_figure, save

WIDE, KEY, APART = 6.0, 0.24, 0.012  # inches: the picture, a line of its key; of the axis between lines' own marks


def fractions_figure(
    fractions: Sequence[float], lines: Mapping[str, NDArray[np.float64]], name: str, title: str, path: Path
) -> None:
    """Write a PNG, 600 pixels wide: a line for each way of training, with an interval at each fraction, on a log scale.

    lines: by what they are called, (3, fractions): values, and both ends of their intervals; NaN is a gap. name: of
    the number. The folder of `path` must be there.
    """
    known = np.concatenate([of[np.isfinite(of)] for of in lines.values()])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.02
    height = 3.7 + KEY * len(lines)
    figure = new_figure(WIDE, height)
    x = np.log10(np.asarray(fractions, dtype=np.float64))
    span = float(np.ptp(x)) or 1.0
    axes = add_axes(
        figure,
        (0.68, 0.6, WIDE - 0.85, 2.6),
        (float(x.min()) - 0.06 * span, float(x.max()) + 0.06 * span),
        (max(low - margin, 0.0), min(high + margin, 1.005)),
    )
    axes.grid(color=GRID, linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(x), [f"{100 * fraction:g} %" for fraction in fractions])
    for number, (values, below, above) in enumerate(lines.values()):
        places = x + (number - (len(lines) - 1) / 2) * APART * span  # so that no interval hides another
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(places, values, "o-", color=colour, linewidth=2, markersize=5, zorder=4)
        axes.vlines(places, below, above, color=colour, linewidth=1.2, zorder=3)
    label(axes, x="labels that were known", y=name)
    axes.yaxis.set_label_coords(-0.095, 0.5)
    heading(figure, title)
    for number, arm in enumerate(lines):
        key_row(figure, 0.45 + KEY * number, [(0.7, arm, COLOURS[number % len(COLOURS)], "solid")])
    save(figure, path)
