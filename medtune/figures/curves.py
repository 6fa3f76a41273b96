"""The learning curves of one training as a picture, in the style of the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.data import SPLITS
from medtune.figures.canvas import COLOURS, GRID, INK, PALE, add_axes, coloured, label, new_figure, save

CURVES = {"loss": "loss (NLL)", "auroc": "AUROC", "accuracy": "accuracy"}
WIDTH, HEIGHT = 12.0, 4.0  # inches


def curves_figure(records: Sequence[Mapping[str, float]], kept: int, path: Path) -> None:
    """Write a PNG, 1200 x 400 pixels: loss, AUROC and accuracy of train, val and test after each epoch.

    records: of each epoch from the first on, nine numbers by `train/loss` and so on; what is NaN is a gap. kept: the
    epoch of the model that is tested, marked by a dashed line. The folder of `path` must be there.
    """
    figure = new_figure(WIDTH, HEIGHT)
    for place, (metric, title) in enumerate(CURVES.items()):
        values = np.array([[record[f"{split}/{metric}"] for record in records] for split in SPLITS])
        axes = add_axes(figure, (0.62 + 3.98 * place, 0.6, 3.32, 2.62), (0.5, len(records) + 0.5), _limits(values))
        _draw(axes, values, kept)
        label(axes, x="epoch", title=title)
    _draw_key(figure, kept)
    save(figure, path)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Of all that is drawn, with a margin."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    margin = 0.05 * float(np.ptp(known)) or 0.01
    return float(known.min()) - margin, float(known.max()) + margin


def _draw(axes: Axes, values: NDArray[np.float64], kept: int) -> None:
    epochs = np.arange(1, values.shape[1] + 1)
    axes.grid(color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10), integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
    axes.axvline(kept, color=PALE, linewidth=1.2, linestyle="dashed", zorder=3)
    lines = coloured([np.column_stack([epochs, line]) for line in values], 1.8)
    axes.add_collection(lines)
    if values.shape[1] == 1:  # a line of one point is not seen
        axes.scatter([1] * len(values), values[:, 0], color=COLOURS[: len(values)], s=20, zorder=4)


def _draw_key(figure: Figure, kept: int) -> None:
    """In a row above the panels: matplotlib's legend would cover lines."""
    y, colours = 1 - 0.22 / HEIGHT, (*COLOURS[: len(SPLITS)], PALE)
    for place, text in enumerate((*SPLITS, f"the tested model, epoch {kept}")):
        x = (0.62 + 0.95 * place) / WIDTH
        dashes = "dashed" if place == len(SPLITS) else "solid"
        line = LineCollection([[(x, y), (x + 0.3 / WIDTH, y)]], colors=colours[place], linewidths=2, linestyles=dashes)
        figure.add_artist(line)
        figure.text(x + 0.38 / WIDTH, y, text, fontsize=11, color=INK, va="center")
