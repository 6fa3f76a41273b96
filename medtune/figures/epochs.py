"""How one trial went, epoch by epoch, from the records that it left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.figures.canvas import COLOURS, PALE, add_axes, heading, key_row, label, new_figure, save
from medtune.figures.curves import draw_lines, limits

PANELS = {"loss": ("train/loss", "val/loss"), "val AUROC": ("val/auroc",), "val ECE": ("val/ece",)}
KEY = ((0.75, "train", COLOURS[0], "solid"), (1.75, "val", COLOURS[1], "solid"), (2.55, "best epoch", PALE, "dashed"))


def epochs_figure(records: Sequence[Mapping[str, Any]], path: Path, best: int | None = None) -> None:
    """Write a PNG, 400 x 600 pixels: losses of train and val, AUROC and ECE of val, over the epochs of a trial.

    records: of each epoch, its number as `epoch` and `train/loss`, `val/loss`, `val/auroc`, `val/ece`; what is missing,
    None or NaN is a gap. best: the epoch that is marked; without it the first of those with the highest val/auroc. The
    title has that epoch and its AUROC. The folder of `path` must be there. Raises ValueError where there is no record.
    """
    if not records:
        raise ValueError("there is no epoch to draw")
    epochs = _numbers(records, "epoch")
    auroc = _numbers(records, "val/auroc")
    if best is None and np.isfinite(auroc).any():
        best = int(epochs[np.nanargmax(auroc)])
    figure = new_figure(4, 6)
    for place, (name, metrics) in enumerate(PANELS.items()):
        values = np.array([_numbers(records, metric) for metric in metrics])
        box = (0.75, 4.02 - 1.71 * place, 3.1, 1.4)
        axes = add_axes(figure, box, (epochs[0] - 0.5, epochs[-1] + 0.5), _limits(values))
        # val has one colour in all of them
        shown = values if len(values) == 2 else np.vstack([np.full_like(values, np.nan), values])
        draw_lines(axes, epochs, shown, np.nan if best is None else best, ticks=4)
        label(axes, y=name, x="epoch" if place == len(PANELS) - 1 else "")
        axes.yaxis.set_label_coords(-0.17, 0.5)
        axes.tick_params(labelbottom=place == len(PANELS) - 1)
    heading(figure, _title(epochs, auroc, best))
    key_row(figure, 0.45, KEY)
    save(figure, path)


def _numbers(records: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """(epochs,), NaN where there is none."""
    told = [record.get(name) for record in records]
    values = np.array([np.nan if value is None else value for value in told], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """At least .02, so that the ticks stay short."""
    low, high = limits(values)
    spare = max(0.0, 0.01 - (high - low) / 2)
    return low - spare, high + spare


def _title(epochs: NDArray[np.float64], auroc: NDArray[np.float64], best: int | None) -> str:
    if best is None:
        return f"AUROC undefined, epochs: {len(epochs)}"
    at = auroc[epochs == best]
    value = f"{at[0]:.3f}" if at.size and np.isfinite(at[0]) else "undefined"
    return f"AUROC {value} at epoch {best} of {len(epochs)}"
