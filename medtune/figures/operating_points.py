"""What each threshold costs, and the operating points that were chosen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medtune.evaluation.intervals import Interval
from medtune.evaluation.metrics import Floats
from medtune.figures.canvas import (
    COLOURS,
    GRID,
    INK,
    PALE,
    add_axes,
    cases,
    coloured,
    heading,
    key_row,
    label,
    new_figure,
    save,
    shorten,
    titled,
    unit_ticks,
)

WIDTH, PLOT, ROW = 6.0, 4.05, 0.42  # inches: of the picture, above the table, of one of its rows
KEY = ((0.75, "sensitivity", COLOURS[0], "solid"), (2.3, "specificity", COLOURS[1], "solid"))
SHARES = {"sensitivity": 2.95, "specificity": 3.85, "ppv": 4.7, "npv": 5.5}  # inches from the left
NEAR = 0.03  # thresholds whose numbers would cover each other


def rates(scores: Floats, positive: NDArray[np.bool_], points: int = 400) -> NDArray[np.float64]:
    """Threshold, sensitivity and specificity, (points at most, 3), where a case is called positive when its score is at
    or above the threshold.

    Both ends of each step, so that straight lines between the points are the staircase. A side that has no case is NaN.
    """
    values = np.unique(scores)
    if len(values) > points // 2:  # more than an eye can tell
        values = values[np.linspace(0, len(values) - 1, points // 2).round().astype(np.intp)]
    ends = np.concatenate([[-np.inf], values])
    with_positive, without = np.sort(scores[positive]), np.sort(scores[~positive])
    # between two scores the threshold is the upper one
    upper = np.append(values, np.inf)
    sensitivity = _divide(len(with_positive) - np.searchsorted(with_positive, upper, "left"), len(with_positive))
    specificity = _divide(np.searchsorted(without, upper, "left"), len(without))
    starts = np.clip(ends, 0, 1)
    stops = np.clip(upper, 0, 1)
    staircase = [np.column_stack([x, sensitivity, specificity]) for x in (starts, stops)]
    return np.stack(staircase, axis=1).reshape(-1, 3)


def operating_points_figure(
    scores: Floats, positive: NDArray[np.bool_], rows: Sequence[Mapping[str, Any]], path: Path, name: str = ""
) -> None:
    """Write a PNG, 600 pixels wide and 450 + 42 a row high (405 without rows): sensitivity and specificity against the
    threshold, and below a table of the operating points, whose numbers are those on the plot.

    scores: (cases,), 0..1; positive: (cases,); a case is called positive when its score is at or above a threshold.
    rows: each with `name`, `threshold` (None or not finite: there is none) and `sensitivity`, `specificity`, `ppv`,
    `npv` as `Interval`; one that is missing or undefined is a dash. name: of the class,
    for the title. The folder of `path` must be there. Raises
    ValueError where the shapes differ or there is no case.
    """
    if scores.ndim != 1 or scores.shape != positive.shape or not len(scores):
        raise ValueError(f"scores of shape {scores.shape}, positive of {positive.shape}: (cases,) of both is needed")
    height = PLOT + (0.45 + ROW * len(rows) if rows else 0.0)
    figure = new_figure(WIDTH, height)
    axes = add_axes(figure, (0.75, height - 3.5, 5.05, 2.72), (0, 1), (0, 1.015))
    axes.grid(color=GRID, linewidth=0.8)
    unit_ticks(axes.xaxis)
    unit_ticks(axes.yaxis)
    found = rates(scores, positive)
    axes.add_collection(coloured([found[:, [0, 1]], found[:, [0, 2]]], 2.2))
    _draw_thresholds(axes, [_threshold(row) for row in rows])
    label(axes, "threshold")
    heading(figure, titled(f"{cases(len(scores))}, {int(positive.sum()):,} positive", name))
    key_row(figure, 0.45, KEY)
    if rows:
        _draw_table(figure, rows)
    save(figure, path)


def _divide(count: NDArray[np.intp], of: int) -> NDArray[np.float64]:
    return count / of if of else np.full(len(count), np.nan)


def _short(share: float) -> str:
    return f"{share:.2f}".removeprefix("0") if share < 0.995 else "1.00"


def _threshold(row: Mapping[str, Any]) -> float:
    value = row.get("threshold")
    return float(value) if value is not None and np.isfinite(value) else float("nan")


def _draw_thresholds(axes: Axes, thresholds: Sequence[float]) -> None:
    """A line a threshold, with the numbers of its rows; those close to each other share a place."""
    known = sorted((at, number) for number, at in enumerate(thresholds, start=1) if 0 <= at <= 1)
    groups: list[list[tuple[float, int]]] = []
    for at, number in known:
        axes.axvline(at, color=PALE, linewidth=1.1, linestyle="dashed", zorder=3)
        if groups and at - groups[-1][-1][0] < NEAR:
            groups[-1].append((at, number))
        else:
            groups.append([(at, number)])
    for group in groups:
        middle = float(np.mean([at for at, _ in group]))
        text = ",".join(str(number) for _, number in sorted(group, key=lambda of: of[1]))
        axes.text(middle, 1.03, text, fontsize=11, color=INK, fontweight="bold", ha="center", va="bottom")


def _draw_table(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    height = figure.get_size_inches()[1]

    def write(x: float, down: float, text: str, points: float, colour: str = INK, side: str = "center") -> None:
        figure.text(
            x / WIDTH, 1 - down / height, text, fontsize=points, color=colour, ha=side, va="center", parse_math=False
        )

    top = PLOT + 0.12
    for name, x in {"threshold": 2.05, **SHARES}.items():
        write(x, top, name.upper() if len(name) == 3 else name, 9.5, PALE)
    for number, row in enumerate(rows, start=1):
        down = top + 0.02 + ROW * (number - 0.3)
        threshold = _threshold(row)
        write(0.12, down, f"{number}", 11)
        write(0.3, down, shorten(str(row["name"]), 19), 10, side="left")
        written = "above 1" if threshold > 1 else f"{threshold:.3f}"  # above 1: nobody is called positive
        write(2.05, down, "\u2013" if np.isnan(threshold) else written, 10)
        for name, x in SHARES.items():
            share: Interval | None = row.get(name)
            if share is None or np.isnan(share.value):
                write(x, down, "\u2013", 10)
                continue
            write(x, down - 0.07, f"{share.value:.3f}", 10.5)
            write(x, down + 0.11, f"{_short(share.low)} to {_short(share.high)}", 9, "#555555")
