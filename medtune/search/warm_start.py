"""Which points of a space to try first, by what earlier sweeps found: the best of each, and apart from each other.

Values of different data sets and metrics cannot be compared, so a trial counts by its rank within its own sweep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtune.config.default import Point, default_point, start_points
from medtune.config.fill import plain
from medtune.config.space import Choice, Range, distributions, resolve
from medtune.search.dimensions import Dimension, dimensions
from medtune.search.entries import Entry, ranked

MOST = 5  # points that are taken over
KNOWN = 0.5  # of the dimensions that are active in a point, from which on it is an earlier configuration at all
GOOD = 1 / 3  # the part of an earlier sweep, from the top, of which anything is taken
APART = 0.5  # what a distance counts beside a quality
SAME = 1e-5  # apart: the tracking server keeps six digits
_ABSENT: Any = object()


@dataclass(frozen=True)
class EarlierTrial:
    """entry: what came of it. configuration: the plain tree of its TrialConfig."""

    entry: Entry
    configuration: Mapping[str, Any]


@dataclass(frozen=True)
class EarlierSweep:
    """name: for people. direction: max or min, of its own metric. swept: names of its dimensions, as `optimizer.lr`."""

    name: str
    direction: str
    swept: frozenset[str]
    trials: Sequence[EarlierTrial]


@dataclass(frozen=True)
class Candidate:
    """A point of this space after an earlier trial. quality: 1 for the best of its sweep, towards 0 for the last. said:
    the part of the point's dimensions that the trial has said."""

    sweep: str
    trial: int
    quality: float
    point: Point
    said: float = 1.0


def default_count(trials: int) -> int:
    """How many points a sweep of so many trials takes over: a quarter of them at most, so that it still searches."""
    return min(MOST, max(1, trials // 4))


def warm_points(
    space: Mapping[str, Any], sweeps: Sequence[EarlierSweep], count: int, taken: Sequence[Point] = ()
) -> tuple[list[Candidate], list[str]]:
    """The points to try first, at most `count`, and a line for each sweep of which trials were left out.

    space: this sweep's `trial:` tree. taken: points that are tried anyhow.
    """
    candidates: list[Candidate] = []
    notes: list[str] = []
    for sweep in sweeps:
        found, unknown = _candidates(space, sweep)
        candidates += found
        if unknown:
            notes.append(
                f"{unknown} of {unknown + len(found)} trials of {sweep.name} are left out: "
                "they say less than half of what this sweep varies"
            )
        elif not found:
            notes.append(f"{sweep.name} has no trial with a value")
    return choose(space, candidates, count, taken), notes


def _candidates(space: Mapping[str, Any], sweep: EarlierSweep) -> tuple[list[Candidate], int]:
    """The trials of a sweep that overlap with the space, the best first, and how many do not."""
    by_number = {trial.entry.number: trial for trial in sweep.trials}
    order = ranked((trial.entry for trial in sweep.trials), sweep.direction)
    found = []
    for rank, entry in enumerate(order):
        point, said = overlapping_point(space, by_number[entry.number].configuration, sweep.swept)
        if said >= KNOWN:
            found.append(Candidate(sweep.name, entry.number, 1 - rank / len(order), point, said))
    return found, len(order) - len(found)


def choose(
    space: Mapping[str, Any], candidates: Sequence[Candidate], count: int, taken: Sequence[Point] = ()
) -> list[Candidate]:
    """Of the good ones the best, then each time the one with the greatest sum of its quality and half of its distance
    to the nearest of those chosen, none of them twice. A quality counts by the part of the point that the trial has
    said. Maximal marginal relevance, Carbonell and Goldstein 1998, with lambda 2/3."""
    named = dimensions(space)
    left = [candidate for candidate in candidates if candidate.quality > 1 - GOOD]
    for point in taken:
        left = [candidate for candidate in left if distance(named, candidate.point, point) > SAME]
    chosen: list[Candidate] = []
    apart = np.ones(len(left))  # of each from the nearest of those chosen
    while left and len(chosen) < count:
        best = int(np.argmax([one.quality * one.said for one in left] + APART * apart))
        chosen.append(left[best])
        apart = np.minimum(apart, [distance(named, one.point, left[best].point) for one in left])
        kept = np.flatnonzero(apart > SAME)
        left, apart = [left[index] for index in kept], apart[kept]
    return chosen


def distance(named: Sequence[Dimension], first: Point, second: Point) -> float:
    """Between two points of a space, 0 to 1: the root of the mean square over the dimensions that both have.

    named: the dimensions of the space. A choice is 0 or 1 apart, a range its part of the range, in the logarithm where
    it is drawn so.
    """
    both = [dimension for dimension in named if dimension.active(first) and dimension.active(second)]
    parts = [_apart(dimension, first[dimension.path], second[dimension.path]) for dimension in both]
    return float(np.sqrt(np.mean(np.square(parts)))) if parts else 0.0


def _apart(dimension: Dimension, first: float, second: float) -> float:
    bounds = dimension.distribution
    if isinstance(bounds, Choice):
        return float(first != second)
    scale = np.log if bounds.log else float
    width = scale(bounds.high) - scale(bounds.low)
    return float(abs(scale(first) - scale(second)) / width) if width else 0.0


# ---------------------------------------------------------------- from one space to another


def overlapping_point(
    space: Mapping[str, Any], configuration: Mapping[str, Any], swept: frozenset[str]
) -> tuple[Point, float]:
    """The point of a space that is nearest to a configuration of another sweep; what that one does not say is at this
    space's default. Beside it the part of the dimensions active in the point that the configuration says, 0 to 1.

    It says a dimension that this space can follow, and that was swept there or stands at something else than here the
    default: what nobody has ever varied is no knowledge. swept: the names of what was swept there.
    """
    shared = shared_part(space, configuration)
    shared = {} if shared is _ABSENT else shared
    point, default = start_points(space, [shared])[0], default_point(space)
    active = [dimension for dimension in dimensions(space) if dimension.active(point)]
    said = [
        _holds(shared, dimension.name)
        and (_swept(dimension.name, swept) or point[dimension.path] != default.get(dimension.path))
        for dimension in active
    ]
    return point, float(np.mean(said)) if said else 0.0


def shared_part(space: Any, wanted: Any) -> Any:
    """What a space can give of a tree that is wanted, with ranges clipped and the other keys left out.

    Below another `name` nothing is shared: the lr of SGD says nothing of Adam's.
    """
    if isinstance(space, Range):
        number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
        return space.clip(wanted) if number else _ABSENT
    if isinstance(space, Choice):
        parts = [part for option in space.options if (part := shared_part(option, wanted)) is not _ABSENT]
        return max(parts, key=lambda part: _kept(part, wanted), default=_ABSENT)
    if isinstance(space, Mapping):
        return _shared_mapping(space, wanted) if isinstance(wanted, Mapping) else _ABSENT
    if isinstance(space, list) and any(distributions(space)):
        fits = isinstance(wanted, list | tuple) and len(wanted) == len(space)
        items = [shared_part(*pair) for pair in zip(space, wanted, strict=True)] if fits else [_ABSENT]
        return items if all(item is not _ABSENT for item in items) else _ABSENT
    here, there = plain(space), plain(wanted)
    return here if here == there and isinstance(here, bool) == isinstance(there, bool) else _ABSENT


def _shared_mapping(space: Mapping[str, Any], wanted: Mapping[str, Any]) -> Any:
    if "name" in space and "name" in wanted and shared_part(space["name"], wanted["name"]) is _ABSENT:
        return _ABSENT
    parts = {key: shared_part(space[key], wanted[key]) for key in space if key in wanted}
    return {key: part for key, part in parts.items() if part is not _ABSENT} or _ABSENT


def _kept(part: Any, wanted: Any) -> int:
    """How many leaves of a part are as they were wanted."""
    if isinstance(part, Mapping):
        return sum(_kept(part[key], wanted[key]) for key in part)
    return int(part == wanted)


def _holds(tree: Any, name: str) -> bool:
    """Whether a tree has a node of this dotted name."""
    for step in name.split("."):
        if isinstance(tree, list):
            return True  # a list is shared as a whole or not at all
        if not isinstance(tree, Mapping) or step not in tree:
            return False
        tree = tree[step]
    return True


def _swept(name: str, swept: frozenset[str]) -> bool:
    """Whether a dimension, a node above it or one below it was swept."""
    return any(f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.") for other in swept)


def as_entry(space: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """A point as `search.start_with` says it: every outermost distribution with all that is drawn for it."""
    entry = _swept_part(space, resolve(space, lambda path, _: point[path]))
    return {} if entry is _ABSENT else entry


def _swept_part(space: Any, value: Any) -> Any:
    if isinstance(space, Mapping):
        parts = {key: _swept_part(space[key], value[key]) for key in space}
        return {key: part for key, part in parts.items() if part is not _ABSENT} or _ABSENT
    return value if any(distributions(space)) else _ABSENT
