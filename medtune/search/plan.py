"""What a sweep would do: its space in words, its trials, and the time that it takes.

A few batches are timed, and then the sweep is played through some dozens of times: see `rehearsal`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from medtune.config.default import Point, default_point, settings_at, start_points
from medtune.config.space import Choice, Distribution, Range, distributions, grid
from medtune.config.sweep import SweepConfig
from medtune.config.trial import TrialConfig
from medtune.search.cost import Costs, draw_point, measure
from medtune.search.rehearsal import Planned, Rehearsal, rehearse
from medtune.search.resources import Share
from medtune.search.sweep import SECONDS_AN_HOUR, longest

POOL = 200  # random points that the rehearsed sweeps draw their trials from
FEWEST, MOST = 5, 40  # rehearsals
REHEARSED_EPOCHS = 40_000  # of all rehearsals, which they may have if none is pruned
BUDGETS = (0.25, 0.5, 1, 2, 4, 8, 12, 24, 48, 96, 168)  # hours that are told of where the file has none
TOLD_BUDGETS = 2


@dataclass(frozen=True)
class Spread:
    """Of the rehearsals: the median, and the quantiles .1 and .9."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Budget:
    """How many trials end within so many hours."""

    hours: float
    trials: Spread


@dataclass(frozen=True)
class Estimate:
    """an_epoch: seconds, the mean over the trials. at_most: seconds if no trial is stopped. epochs: trained in all.
    rehearsals: how many there were."""

    trials: int
    an_epoch: float
    seconds: Spread
    at_most: float
    pruned: Spread
    complete: Spread
    epochs: Spread
    budgets: tuple[Budget, ...]
    rehearsals: int

    @property
    def expected(self) -> float:
        return self.seconds.median


def describe_space(space: Mapping[str, Any]) -> list[str]:
    """A line for each distribution, in the order of the file."""
    return [f"{path}: {_in_words(distribution)}" for path, distribution in distributions(space)]


def _in_words(distribution: Distribution) -> str:
    if isinstance(distribution, Range):
        kind = "a whole number" if distribution.integer else "a number"
        scale = ", on a log scale" if distribution.log else ""
        step = f", in steps of {distribution.step:g}" if distribution.step else ""
        return f"{kind} from {distribution.low:g} to {distribution.high:g}{scale}{step}"
    return "one of " + ", ".join(_option(option) for option in distribution.options)


def _option(option: Any) -> str:
    if isinstance(option, Mapping):
        return str(option.get("name", "a mapping"))
    if isinstance(option, Choice | Range):
        return _in_words(option)
    return str(option).lower() if isinstance(option, bool) else str(option)


def wanted_trials(config: SweepConfig) -> int:
    """How many trials there will be: a grid may have fewer points than are asked for."""
    if config.search.sampler != "grid":
        return config.search.trials
    return min(config.search.trials, sum(1 for _ in grid(config.trial)))


def estimate(config: SweepConfig, share: Share) -> Estimate:
    """What the sweep takes on so many workers of this machine. Random points stand for what the sampler will draw."""
    return estimate_from(config, share, measure(config, share))


def estimate_from(config: SweepConfig, share: Share, costs: Costs) -> Estimate:
    """The same, from what epochs cost."""
    from medtune.search.pruning import KeepAll, build_pruner

    generator = np.random.default_rng(config.seed)
    trials, epochs = wanted_trials(config), longest(config.trial)
    first, pool = planned_trials(config, costs, generator)
    rehearsed, whole, means = [], [], []
    for _ in range(_rehearsals(trials, epochs)):
        drawn = [*first, *(pool[index] for index in generator.integers(len(pool), size=max(0, trials - len(first))))]
        pruner = build_pruner(config.pruning, "max", epochs)
        rehearsed.append(rehearse(drawn, share.concurrent, pruner, generator, costs.slowness))
        unstopped = [Planned(trial.epochs, trial.seconds) for trial in drawn]
        whole.append(rehearse(unstopped, share.concurrent, KeepAll(), generator, costs.slowness).seconds)
        means.append(np.mean([trial.seconds for trial in drawn]))
    return Estimate(
        trials=trials,
        an_epoch=float(np.mean(means)),
        seconds=_spread(one.seconds for one in rehearsed),
        at_most=max(whole),
        pruned=_spread(one.pruned for one in rehearsed),
        complete=_spread(one.complete for one in rehearsed),
        epochs=_spread(one.epochs for one in rehearsed),
        budgets=tuple(_budgets(config, rehearsed)),
        rehearsals=len(rehearsed),
    )


def planned_trials(
    config: SweepConfig, costs: Costs, generator: np.random.Generator
) -> tuple[list[Planned], list[Planned]]:
    """The trials that every sweep of this file begins with, and random ones of its space."""
    space, search = config.trial, config.search
    first = [default_point(space), *start_points(space, search.start_with)]
    if search.sampler == "grid":
        first += islice(grid(space), search.trials)
    distinct = list({repr(sorted(point.items())): point for point in first}.values())
    drawn = [draw_point(space, generator) for _ in range(POOL if any(distributions(space)) else 1)]
    return [_planned(space, at, costs) for at in distinct[: wanted_trials(config)]], [
        _planned(space, at, costs) for at in drawn
    ]


def _planned(space: Mapping[str, Any], point: Point, costs: Costs) -> Planned:
    trial = settings_at(space, point)
    epochs = 1 if isinstance(trial, TrialConfig) and trial.model.finetune == "probe" else trial.epochs
    return Planned(epochs, costs.epoch(trial), trial.early_stopping.patience)


def _rehearsals(trials: int, epochs: int) -> int:
    return min(MOST, max(FEWEST, REHEARSED_EPOCHS // (trials * epochs)))


def _budgets(config: SweepConfig, rehearsed: Sequence[Rehearsal]) -> Iterable[Budget]:
    """What the file's budget gives; without one, what some round ones would that are too short for the whole sweep."""
    asked = config.budget.hours
    if asked is not None:
        hours: Sequence[float] = [asked]
    else:
        shortest = min(one.seconds for one in rehearsed)
        hours = [each for each in BUDGETS if each * SECONDS_AN_HOUR < shortest][-TOLD_BUDGETS:]
    for each in hours:
        ended = [int(np.searchsorted(one.ends, each * SECONDS_AN_HOUR, side="right")) for one in rehearsed]
        yield Budget(each, _spread(ended))


def _spread(values: Iterable[float]) -> Spread:
    return Spread(*(float(each) for each in np.quantile(list(values), (0.5, 0.1, 0.9))))
