"""The learning curves of one training as a picture, in the style of the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.data import SPLITS
from medtune.figures.canvas import COLOURS, GRID, PALE, add_axes, coloured, key_row, label, new_figure, save

CURVES = {"loss": "loss (NLL)", "auroc": "AUROC", "accuracy": "accuracy"}
WIDTH, HEIGHT = 12.0, 4.0  # inches


def curves_figure(records: Sequence[Mapping[str, float]], kept: int, path: Path) -> None:
    """Write a PNG, 1200 x 400 pixels: loss, AUROC and accuracy of train, val and test after each epoch.

    records: of each epoch from the first on, nine numbers by `train/loss` and so on; what is NaN is a gap. kept: the
    epoch of the model that is tested, marked by a dashed line. The folder of `path` must be there.
    """
    figure, epochs = new_figure(WIDTH, HEIGHT), np.arange(1.0, len(records) + 1)
    for place, (metric, title) in enumerate(CURVES.items()):
        values = np.array([[record[f"{split}/{metric}"] for record in records] for split in SPLITS])
        axes = add_axes(figure, (0.62 + 3.98 * place, 0.6, 3.32, 2.62), (0.5, len(records) + 0.5), limits(values))
        draw_lines(axes, epochs, values, kept)
        label(axes, x="epoch", title=title)
    key_row(figure, 0.22, _key(kept))
    save(figure, path)


def limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Of all that is drawn, with a margin."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    margin = 0.05 * float(np.ptp(known)) or 0.01
    return float(known.min()) - margin, float(known.max()) + margin


def draw_lines(
    axes: Axes, epochs: NDArray[np.float64], values: NDArray[np.float64], kept: float, ticks: int = 6
) -> None:
    """values: (lines, epochs), NaN where there is a gap. kept: the epoch that is marked."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(ticks, steps=(1, 2, 2.5, 5, 10)))
    axes.axvline(kept, color=PALE, linewidth=1.2, linestyle="dashed", zorder=3)
    axes.add_collection(coloured([np.column_stack([epochs, line]) for line in values], 1.8))
    lines, at = np.nonzero(_alone(values))
    if len(lines):  # a line of one point is not seen
        axes.scatter(epochs[at], values[lines, at], color=[COLOURS[line] for line in lines], s=20, zorder=4)


def _alone(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points have a gap or an end on both sides."""
    known = np.pad(np.isfinite(values), ((0, 0), (1, 1)))
    return known[:, 1:-1] & ~known[:, :-2] & ~known[:, 2:]


def _key(kept: int) -> list[tuple[float, str, str, str]]:
    texts = (*SPLITS, f"the tested model, epoch {kept}")
    colours, dashes = (*COLOURS[: len(SPLITS)], PALE), ("solid",) * len(SPLITS) + ("dashed",)
    return [(0.62 + 0.95 * place, *of) for place, of in enumerate(zip(texts, colours, dashes, strict=True))]
