"""What is left of the AUROC when the images get worse."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.figures.canvas import (
    GRID,
    INK,
    add_axes,
    coloured,
    draw_key,
    heading,
    label,
    marks,
    new_figure,
    save,
    told,
)

STRENGTHS = 5


def robustness_figure(aurocs: Mapping[str, NDArray[np.floating[Any]]], clean: float, path: Path) -> None:
    """Write a PNG, 600 x 400 pixels: AUROC against the strength of a corruption, a line for each, and a key with its
    mean over the strengths.

    aurocs: by corruption, (5,), at strengths 1 to 5; clean: without any, which is strength 0. NaN is a gap, and makes
    a mean "none". The title has `clean` and the mean over all corruptions and strengths. The folder of `path` must be
    there. Raises ValueError where there is no corruption or not five numbers of one.
    """
    values = np.array([np.asarray(of, dtype=np.float64) for of in aurocs.values()])
    if values.shape != (len(aurocs), STRENGTHS) or not len(values):
        raise ValueError(f"AUROCs of shape {values.shape}: (corruptions, {STRENGTHS}) is needed")
    whole = np.column_stack([np.full(len(values), clean), values])
    lines = [np.column_stack([np.arange(STRENGTHS + 1), of]) for of in whole]
    known = whole[np.isfinite(whole)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.02
    figure = new_figure(6, 4)
    axes = add_axes(figure, (0.68, 0.6, 3.1, 3.0), (-0.1, STRENGTHS + 0.1), (low - margin, min(high + margin, 1.005)))
    axes.grid(color=GRID, linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axes.set_xticks(range(STRENGTHS + 1), ("clean", "1", "2", "3", "4", "5"))
    if low < 0.5 < high:
        axes.axhline(0.5, color=INK, linewidth=1, linestyle="dashed", zorder=3)
    axes.add_collection(coloured(lines, 1.8))
    marks(axes, [line[1:] for line in lines], 4)
    if np.isfinite(clean):
        axes.plot(0, clean, "o", color=INK, markersize=6, zorder=6)
    label(axes, "strength of the corruption", "AUROC")
    means = [told(mean).replace("none", "undefined") for mean in (clean, values.mean())]
    heading(figure, f"AUROC {means[0]} clean, {means[1]} corrupted")
    draw_key(figure, list(aurocs), values.mean(axis=1), "mean")
    save(figure, path)
