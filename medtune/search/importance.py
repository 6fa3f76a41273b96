"""How much of the difference between trials each swept dimension explains: fANOVA, Hutter et al. 2014.

A random forest learns the value of a trial from its point; the importance of a dimension is the share of the forest's
variance over the whole space that the dimension explains by itself. What is missing from 1 lies in interactions.

With early stopping few trials have an end to compare: of 60 under ASHA some ten. Those alone are too few, and they are
the ones that already did well; a value of each trial's own last epoch compares trainings of 1 epoch with those of 20.
So all trials are compared at the last epoch that all of them reached, see `comparable_values`. That is a look at the
early epochs, and what matters late (a schedule, a weight decay) can be underrated by it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import create_trial

from medtune.config.default import Point
from medtune.config.space import Choice
from medtune.search.dimensions import Dimension, dimensions
from medtune.search.entries import Entry, best_epoch_of

FEWEST, MOST = 10, 200  # trials from which a forest learns; its time grows with their square
TREES, NOISE_TREES, NOISES = 64, 16, 5
FAR_OUT = 3.0  # interquartile ranges
BOUNDED = 2.0  # what no metric but the loss can exceed
_NOISE = "noise"

Known = Sequence[tuple[Point, float]]


@dataclass(frozen=True)
class Importance:
    """value: 0 to 1, NaN where it is undefined, and `why` says what is missing. noise: the most that one of five
    dimensions of random numbers got from the same trials; what is not above it may be chance. trials: how many there
    were to learn from, of a branch those of the branch."""

    dimension: Dimension
    value: float
    noise: float
    trials: int
    why: str = ""


def comparable_values(entries: Iterable[Entry], direction: str) -> tuple[int | None, dict[int, float]]:
    """A value of each trial that can be compared with those of the others, by number: the best up to the last epoch
    that every pruned trial reached. And this epoch; None where no trial was pruned, and each has its own best.

    A trial that completed earlier has its best; a failed one and one that has not come so far are left out.
    """
    known = [entry for entry in entries if entry.state != "failed" and entry.values]
    epoch = min((max(entry.values) for entry in known if entry.state == "pruned"), default=None)
    if epoch is None:
        return None, {entry.number: entry.value for entry in known if entry.state == "complete"}
    values = {}
    for entry in known:
        seen = {at: value for at, value in entry.values.items() if at <= epoch}
        best = best_epoch_of(seen, direction)
        if best is not None and (epoch in entry.values or entry.state == "complete"):
            values[entry.number] = seen[best]
    return epoch, values


def importances(
    space: Mapping[str, Any], points: Sequence[Point], values: Sequence[float], seed: int = 0
) -> list[Importance]:
    """The importance of each dimension of a space, the most important first, the undefined ones last.

    points, values: of the trials to learn from; a value that is NaN is left out, and a loss that is far out by Tukey
    1977 counts as the nearest that is not, so that one diverged training is not all of the variance. A dimension that
    every trial has is judged over all of them; one of a branch over the trials of that branch, together with all that
    these have in common, so that its share is of the variance there. Of very many trials 200 are drawn. Ranges on a log
    scale are given to the forest as logarithms: Optuna would weigh a decade by its width.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = [(point, value) for point, value in zip(points, values, strict=True) if not math.isnan(value)]
    groups: dict[str, list[Dimension]] = {}
    for dimension in dimensions(space):
        groups.setdefault(dimension.group, []).append(dimension)
    found = [one for group in groups.values() for one in _of_group(group, space, known, seed)]
    return sorted(found, key=lambda one: -math.inf if math.isnan(one.value) else one.value, reverse=True)


def _of_group(group: Sequence[Dimension], space: Mapping[str, Any], known: Known, seed: int) -> list[Importance]:
    """Of the dimensions of one branch, or of those outside of all."""
    trials: Known = [(point, value) for point, value in known if group[0].active(point)]
    why = _too_little([value for _, value in trials], group[0].branch)
    if why:
        return [Importance(one, math.nan, math.nan, len(trials), why) for one in group]
    trials = _some(trials, seed)
    there = [one for one in dimensions(space) if all(one.active(point) for point, _ in trials)]
    varied = [one for one in there if len({point[one.path] for point, _ in trials}) > 1]
    shares, noise = _fanova(varied, trials, seed)
    found = []
    for one in group:
        why = "all trials have the same value of it" if one not in varied else ""
        share = float(shares.get(one.path, math.nan))
        found.append(Importance(one, share, math.nan if why else noise, len(trials), why))
    return found


def _too_little(values: Sequence[float], branch: str) -> str:
    """Why nothing can be learnt from these, in words; empty where it can."""
    of = f" of {branch}" if branch else ""
    if len(values) < FEWEST:
        return f"{len(values)} trial{'s' * (len(values) != 1)}{of}, at least {FEWEST} are needed"
    if max(values) == min(values):
        return f"all {len(values)} trials{of} have the same value"
    return ""


def _some(trials: Known, seed: int) -> Known:
    if len(trials) <= MOST:
        return trials
    drawn = np.sort(np.random.default_rng(seed).permutation(len(trials))[:MOST])
    return [trials[index] for index in drawn]


def _fanova(varied: Sequence[Dimension], trials: Known, seed: int) -> tuple[dict[str, float], float]:
    """The share of each dimension, by path, and the most that noise beside them gets."""
    if not varied:
        return {}, math.nan
    columns = {one.path: [_place(one, point[one.path]) for point, _ in trials] for one in varied}
    kinds = {one.path: _kind(one) for one in varied}
    values = _without_far_out(np.array([value for _, value in trials]))
    shares = _shares(columns, kinds, values, FanovaImportanceEvaluator(seed=seed, n_trees=TREES))
    generator, noises = np.random.default_rng(seed), []
    for _ in range(NOISES):
        beside = {**columns, _NOISE: generator.random(len(values)).tolist()}
        evaluator = FanovaImportanceEvaluator(seed=seed, n_trees=NOISE_TREES)
        noises.append(_shares(beside, {**kinds, _NOISE: FloatDistribution(0, 1)}, values, evaluator)[_NOISE])
    return shares, float(max(noises))


def _without_far_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Losses beyond Tukey's upper outer fence, brought to it."""
    low, high = np.quantile(values, (0.25, 0.75))
    return values.clip(None, max(high + FAR_OUT * (high - low), BOUNDED))


def _shares(
    columns: Mapping[str, Sequence[Any]],
    kinds: Mapping[str, BaseDistribution],
    values: NDArray[np.float64],
    evaluator: FanovaImportanceEvaluator,
) -> dict[str, float]:
    study = optuna.create_study()
    rows = zip(*columns.values(), strict=True)
    study.add_trials(
        create_trial(params=dict(zip(columns, row, strict=True)), distributions=dict(kinds), value=float(value))
        for row, value in zip(rows, values, strict=True)
    )
    return evaluator.evaluate(study, params=list(columns))


def _kind(dimension: Dimension) -> BaseDistribution:
    distribution = dimension.distribution
    if isinstance(distribution, Choice):
        return CategoricalDistribution(range(len(distribution.options)))
    return FloatDistribution(_place(dimension, distribution.low), _place(dimension, distribution.high))


def _place(dimension: Dimension, value: Any) -> Any:
    """Where a value lies on the scale on which the sampler draws; of a choice, which option it is."""
    return math.log(value) if dimension.scale == "log" else value
