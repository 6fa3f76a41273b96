"""Decision curves: whether acting on a model does more good than acting on all cases or on none."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.figures.canvas import COLOURS, GRID, INK, PALE, add_axes, heading, key_row, label, new_figure, save, titled

KEY = ((0.5, "model", COLOURS[0], "solid"), (1.5, "treat all", PALE, "dashed"), (2.65, "treat none", INK, "solid"))

Numbers = NDArray[np.floating[Any]]


def net_benefit_figure(
    thresholds: Numbers, model: Numbers, low: Numbers, high: Numbers, treat_all: Numbers, path: Path, name: str = ""
) -> None:
    """Write a PNG, 400 x 400 pixels: net benefit against the threshold (Vickers & Elkin 2006), of the model with its
    interval as a band, of treating all and of treating none, which is 0.

    All are (thresholds,), the thresholds 0..1 and rising. What is NaN is a gap. Treating all is cut off where it is
    far below the others. The title has the share of thresholds at which the model is above both, and the name of the
    class. The folder of `path` must be there. Raises ValueError where the shapes differ.
    """
    arrays = [np.asarray(of, dtype=np.float64) for of in (thresholds, model, low, high, treat_all)]
    if arrays[0].ndim != 1 or not len(arrays[0]) or any(of.shape != arrays[0].shape for of in arrays):
        raise ValueError(f"shapes {[of.shape for of in arrays]}: five of (thresholds,) are needed")
    x, value, bottom, top, everyone = arrays
    figure = new_figure(4, 4)
    reach = (float(x[0]), float(x[-1])) if len(x) > 1 else (0.0, 1.0)
    axes = add_axes(figure, (0.68, 0.6, 3.15, 2.75), reach, _limits(value, top, everyone))
    axes.grid(color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axes.axhline(0, color=INK, linewidth=1.3, zorder=3)
    axes.plot(x, everyone, color=PALE, linewidth=1.6, linestyle="dashed", zorder=3)
    axes.fill_between(x, bottom, top, color=COLOURS[0], alpha=0.2, linewidth=0, zorder=2)
    axes.plot(x, value, color=COLOURS[0], linewidth=2.2, marker="o" if len(x) == 1 else "", zorder=4)
    label(axes, "threshold", "net benefit")
    heading(figure, titled(_title(value, everyone), name))
    key_row(figure, 0.5, KEY)
    save(figure, path)


def _title(value: Numbers, everyone: Numbers) -> str:
    known = np.isfinite(value) & np.isfinite(everyone)
    if not known.any():
        return "net benefit undefined"
    best = float((value[known] > np.maximum(everyone[known], 0)).mean())
    return f"above all and none at {best:.0%} of thresholds"


def _limits(value: Numbers, top: Numbers, everyone: Numbers) -> tuple[float, float]:
    """As far down as the model goes, and a little: treating all goes to minus infinity."""
    known = np.concatenate([value, top, everyone])
    if not np.isfinite(known).any():
        return -0.1, 1.0
    highest = float(known[np.isfinite(known)].max(initial=0.0)) or 0.1
    lowest = float(value[np.isfinite(value)].min(initial=0.0))
    return max(lowest, -highest) - 0.15 * highest, 1.08 * highest
