"""Accuracy on the cases that a model keeps when it passes the unsure ones on to a person."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.figures.canvas import (
    GRID,
    PALE,
    add_axes,
    coloured,
    draw_key,
    heading,
    label,
    marks,
    new_figure,
    save,
    unit_ticks,
)

COVERAGE = 0.8  # at which the numbers are read


def coverage_figure(curves: Mapping[str, NDArray[np.floating[Any]]], path: Path) -> None:
    """Write a PNG, 600 x 400 pixels: accuracy against coverage, a line and a row of the key for each of the curves.

    curves: by name, (points, 2) of coverage and accuracy, both 0..1, in any order; a point that is not finite is left
    out. The numbers are the accuracies at 80 % coverage, straight between the points on both sides of it; "none" where
    there are not two. The folder of `path` must be there. Raises ValueError where there is no curve.
    """
    if not curves:
        raise ValueError("there is no curve to draw")
    lines = [_known(np.asarray(curve, dtype=np.float64)) for curve in curves.values()]
    values = np.array([_at(line, COVERAGE) for line in lines])
    lowest = min((float(line[:, 1].min()) for line in lines if len(line)), default=0.0)
    low = min(np.floor(lowest * 20 - 0.2) / 20, 0.95)
    figure = new_figure(6, 4)
    axes = add_axes(figure, (0.68, 0.6, 3.1, 3.0), (0, 1.01), (low, 1 + (1 - low) / 50))
    axes.grid(color=GRID, linewidth=0.8)
    unit_ticks(axes.xaxis)
    axes.locator_params(axis="y", nbins=5)
    axes.axvline(COVERAGE, color=PALE, linewidth=1, linestyle="dashed", zorder=3)
    axes.add_collection(coloured(lines, 2.0))
    marks(axes, [line if len(line) == 1 else line[:0] for line in lines], 6)
    label(axes, "coverage: share of cases kept", "accuracy of those")
    heading(figure, _title(values))
    draw_key(figure, list(curves), values, "at .8")
    save(figure, path)


def _known(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    if curve.ndim != 2 or curve.shape[1] != 2:
        raise ValueError(f"a curve of shape {curve.shape}: (points, 2) of coverage and accuracy is needed")
    curve = curve[np.isfinite(curve).all(axis=1)]
    return curve[np.argsort(curve[:, 0], kind="stable")]


def _at(line: NDArray[np.float64], coverage: float) -> float:
    if not len(line) or not line[0, 0] <= coverage <= line[-1, 0]:
        return float("nan")
    return float(np.interp(coverage, line[:, 0], line[:, 1]))


def _title(values: NDArray[np.float64]) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return "accuracy at 80 % coverage undefined"
    ends = sorted({f"{known.min():.3f}", f"{known.max():.3f}"})
    return f"accuracy {' to '.join(ends)} at 80 % coverage"
