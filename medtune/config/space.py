"""Distributions, and the one walk over a `trial:` tree that everything else is made of.

A space is the tree of the file with distributions at some nodes. `resolve` walks it and asks `pick` for a value at
each; the sampler, the untuned default, validation, grid and the description in words differ only in their `pick`.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    options: tuple[Any, ...]  # each a space of its own

    @property
    def conditional(self) -> bool:
        """Whether an option is more than a plain value, so that what is drawn is its index."""
        return any(isinstance(option, Mapping | list | Choice | Range) for option in self.options)


@dataclass(frozen=True)
class Range:
    low: float
    high: float  # inclusive
    log: bool = False
    integer: bool = False
    step: float | None = None

    def clip(self, value: float) -> float:
        """The point of the range nearest to `value`, on the grid where there is a step."""
        value = min(max(value, self.low), self.high)
        if self.step:
            # the last point of the grid may lie below `high`
            last = math.floor((self.high - self.low) / self.step + 1e-9)
            # and in the last digit above it
            value = min(self.low + min(round((value - self.low) / self.step), last) * self.step, self.high)
        return round(value) if self.integer else float(value)


Distribution = Choice | Range
Pick = Callable[[str, Distribution], Any]

KINDS: dict[str, Callable[[Any, Any], Distribution]] = {
    "choice": lambda options, step: Choice(tuple(options)),
    "uniform": lambda bounds, step: Range(bounds[0], bounds[1], step=step),
    "log_uniform": lambda bounds, step: Range(bounds[0], bounds[1], log=True),
    "int": lambda bounds, step: Range(bounds[0], bounds[1], integer=True, step=step),
    "log_int": lambda bounds, step: Range(bounds[0], bounds[1], log=True, integer=True),
}


def resolve(space: Any, pick: Pick, path: str = "") -> Any:
    """The plain tree that `pick(path, distribution)` makes of a space; for a `Choice`, `pick` gives an option's index.

    Paths are dotted and hold the branch: `optimizer[0].lr` is the lr of the first option of `optimizer`. A mapping's
    `name` is asked for first, because it decides what the keys beside it mean.
    """
    if isinstance(space, Choice):
        index = pick(path, space)
        return resolve(space.options[index], pick, f"{path}[{index}]")
    if isinstance(space, Range):
        return pick(path, space)
    if isinstance(space, Mapping):
        keys = sorted(space, key=lambda key: key != "name")
        return {key: resolve(space[key], pick, f"{path}.{key}" if path else str(key)) for key in keys}
    if isinstance(space, list):
        return [resolve(item, pick, f"{path}.{i}") for i, item in enumerate(space)]
    return space


def distributions(space: Any, path: str = "") -> Iterator[tuple[str, Distribution]]:
    """Every distribution of a space with its path, outer ones first, those of all branches included."""
    if isinstance(space, Choice | Range):
        yield path, space
    if isinstance(space, Choice):
        for index, option in enumerate(space.options):
            yield from distributions(option, f"{path}[{index}]")
    elif isinstance(space, Mapping):
        for key in sorted(space, key=lambda key: key != "name"):
            yield from distributions(space[key], f"{path}.{key}" if path else str(key))
    elif isinstance(space, list):
        for index, item in enumerate(space):
            yield from distributions(item, f"{path}.{index}")


def corners(space: Any) -> Iterator[Pick]:
    """Picks that show every option and every bound once: the first and low ones, then others one by one."""
    yield _towards("")
    for path, distribution in distributions(space):
        if isinstance(distribution, Range):
            yield _towards(path)
        else:
            yield from (_towards(f"{path}[{index}]") for index in range(1, len(distribution.options)))


def _towards(target: str) -> Pick:
    """A pick by which the node at `target` is active: a range there at its high bound, all others first or low."""

    def pick(path: str, distribution: Distribution) -> Any:
        if isinstance(distribution, Range):
            bound = distribution.high if path == target else distribution.low
            # a whole number as a bound of `uniform` must not pass for what a trial gets
            return int(bound) if distribution.integer else float(bound)
        options = range(len(distribution.options))
        return next((index for index in options if target.startswith(f"{path}[{index}]")), 0)

    return pick


def grid(space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every point of a space of choices and stepped ranges, once: branches that are not active do not multiply."""
    yield from _grid(space, "")


def _grid(space: Any, path: str) -> Iterator[dict[str, Any]]:
    if isinstance(space, Choice):
        for index, option in enumerate(space.options):
            for below in _grid(option, f"{path}[{index}]"):
                yield {path: index, **below}
    elif isinstance(space, Range):
        yield from ({path: value} for value in _steps(space))
    elif isinstance(space, Mapping | list):
        named = space.items() if isinstance(space, Mapping) else enumerate(space)
        parts = [list(_grid(value, f"{path}.{key}" if path else str(key))) for key, value in named]
        for combination in itertools.product(*parts):
            yield {path: value for part in combination for path, value in part.items()}
    else:
        yield {}


def grid_size(space: Any) -> int:
    """How many points `grid` has, without making them."""
    if isinstance(space, Choice):
        return sum(map(grid_size, space.options))
    if isinstance(space, Range):
        return _count(space)
    if isinstance(space, Mapping | list):
        return math.prod(map(grid_size, space.values() if isinstance(space, Mapping) else space))
    return 1


def _count(bounds: Range) -> int:
    return math.floor((bounds.high - bounds.low) / (bounds.step or 1) + 1e-9) + 1


def _steps(bounds: Range) -> list[float]:
    return [bounds.clip(bounds.low + index * (bounds.step or 1)) for index in range(_count(bounds))]
