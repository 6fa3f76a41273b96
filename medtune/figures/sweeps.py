"""What the pictures of a whole sweep have in common: how a trial's state looks, and where values lie on an axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtune.figures.canvas import COLOURS, INK, PALE, WARNING, add_axes, shorten

Floats = NDArray[np.float64]

# marker, colour, size in points: what came to its end stands out, what was stopped steps back
STATES = {
    "complete": ("o", COLOURS[0], 7.0),
    "pruned": ("o", "#B9C6CF", 5.0),
    "unfinished": ("^", COLOURS[2], 7.0),
    "failed": ("x", WARNING, 7.0),
}
BEST = COLOURS[1]
ZERO = 0.15  # of a log axis, on which 0 has no place: how far below the others it stands
LONGEST_TICK = 9  # characters
GOLDEN = 0.618  # its multiples, without their whole parts, are evenly spread however many there are


@dataclass(frozen=True)
class Placed:
    """A column laid out on an axis from 0 to 1. positions: NaN where the trial has no value. ticks: where, and what is
    written there. choice: whether they are places of their own, with nothing between."""

    positions: Floats
    ticks: list[tuple[float, str]]
    choice: bool = False

    @property
    def spread(self) -> Floats:
        """The positions, where they are choices with the trials of one beside each other."""
        if not self.choice:
            return self.positions
        return self.positions + 0.5 / len(self.ticks) * ((np.arange(len(self.positions)) * GOLDEN) % 1 - 0.5)


def placed(column: pd.Series, scale: str) -> Placed:
    """scale: linear, log or choice. A column that is not of numbers is a choice, whatever the scale says."""
    known = column.dropna()
    numeric = pd.api.types.is_numeric_dtype(known.infer_objects()) and not pd.api.types.is_bool_dtype(known)
    if scale == "choice" or not numeric:
        return _placed_choices(column, known)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return _placed_log(values) if scale == "log" and (values > 0).any() else _placed_numbers(values)


def _placed_choices(column: pd.Series, known: pd.Series) -> Placed:
    options = sorted(set(known), key=lambda option: (isinstance(option, str), option))
    at = {option: (index + 0.5) / len(options) for index, option in enumerate(options)}
    positions = np.array([at.get(value, np.nan) if value == value else np.nan for value in column], dtype=np.float64)
    return Placed(positions, [(at[option], shorten(_word(option), LONGEST_TICK)) for option in options], choice=True)


def _placed_numbers(values: Floats) -> Placed:
    low, high = _ends(values)
    if np.nanmin(values) == np.nanmax(values):
        return Placed((values - low) / (high - low), [(0.5, f"{np.nanmin(values):g}")])
    ticks = [tick for tick in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= tick <= high]
    return Placed((values - low) / (high - low), [((tick - low) / (high - low), f"{tick:g}") for tick in ticks])


def _placed_log(values: Floats) -> Placed:
    """Zeros, as of the weight decay of an optimizer that sweeps none, stand below the rest."""
    start = ZERO if (values <= 0).any() else 0.0
    exponents = np.log10(values[values > 0])
    low, high = _ends(exponents)
    positions = np.full(len(values), np.nan)
    positions[values <= 0] = 0.0
    positions[values > 0] = start + (1 - start) * (exponents - low) / (high - low)
    decades = np.arange(np.ceil(low), np.floor(high) + 1)
    decades = decades[:: max(1, len(decades) // 4)]
    told = decades if len(decades) > 1 else np.unique([exponents.min(), exponents.max()])
    ticks = [(float(start + (1 - start) * (each - low) / (high - low)), _power(10**each)) for each in told]
    return Placed(positions, [(0.0, "0")] * bool(start) + ticks)


def _ends(values: Floats) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if value < 0.01 or value >= 1e4 else f"{value:.2g}"


def _word(option: Any) -> str:
    if isinstance(option, bool | np.bool_):
        return str(option).lower()
    return f"{option:g}" if isinstance(option, int | float | np.number) else str(option)


def value_limits(values: Sequence[float] | Floats, direction: str) -> tuple[float, float]:
    """Of an axis of the metric: all good values, and of the bad ones those that are not far beyond the median trial.

    What lies outside is drawn at the edge: with one loss of 4,000 on the axis the others could not be told apart.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    sign = 1 if direction == "max" else -1
    best, middle = sign * (sign * known).max(), np.median(known)
    worst = sign * max((sign * known).min(), sign * (middle - 2.5 * (best - middle)))
    margin = 0.06 * abs(best - worst) or 0.01
    low, high = sorted((float(best), float(worst)))
    return low - margin, high + margin


def within(values: Floats, limits: tuple[float, float]) -> Floats:
    """The values, those outside of the limits just inside of them."""
    inset = 0.02 * (limits[1] - limits[0])
    return values.clip(limits[0] + inset, limits[1] - inset)


def scatter(axes: Axes, x: Floats, y: Floats, states: NDArray[Any], scale: float = 1.0) -> None:
    """A mark a trial, by its state; y as `within` the limits."""
    for order, (state, (marker, colour, size)) in enumerate(reversed(STATES.items())):
        chosen = (states == state) & np.isfinite(x) & np.isfinite(y)
        drawn = axes.scatter(x[chosen], y[chosen], s=(size * scale) ** 2, c=colour, marker=marker, zorder=4 + order)
        if marker != "x":
            drawn.set(edgecolors="white", linewidths=0.5)


def ring(axes: Axes, x: float, y: float) -> None:
    """Around the mark of a trial that stands out."""
    axes.scatter([x], [y], s=100, facecolors="none", edgecolors=BEST, linewidths=2, zorder=9)


def key_of_marks(figure: Figure, y: float, left: float, states: Sequence[str], step: float = 1.25) -> float:
    """A key of the states, and of the `ring` where "best" is among them, in a row; y: inches from the top, left:
    inches. Where the next entry may begin."""
    width, height = figure.get_size_inches()
    marks = add_axes(figure, (0, 0, width, height), (0, width), (0, height))
    marks.axis("off")
    for state in (state for state in (*STATES, "best") if state in states):
        if state == "best":
            ring(marks, left + 0.08, height - y)
        else:
            marker, colour, size = STATES[state]
            marks.scatter([left + 0.08], [height - y], s=size**2, c=colour, marker=marker)
        figure.text((left + 0.24) / width, 1 - y / height, state, fontsize=11, color=INK, va="center")
        left += step
    return left


def nothing_yet(figure: Figure, words: str) -> None:
    figure.text(0.5, 0.5, words, fontsize=12, color=PALE, ha="center", va="center")
