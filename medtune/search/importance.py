"""How much of the difference between trials each swept dimension explains: fANOVA, Hutter et al. 2014.

A random forest learns the value of a trial from its point; the importance of a dimension is the share of the forest's
variance over the whole space that the dimension explains by itself. What is missing from 1 lies in interactions.
"""

import math
from collections.abc import Mapping, Sequence
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

FEWEST = 10  # trials from which a forest is asked at all
NOISES = 5  # dimensions of pure noise, one after the other, that show what chance alone gets
_NOISE = "noise"


@dataclass(frozen=True)
class Importance:
    """value: 0 to 1, NaN where it is undefined, and `why` says what is missing. noise: what a dimension without any
    meaning gets from the same trials. trials: how many there were to learn from, those of the branch."""

    dimension: Dimension
    value: float
    noise: float
    trials: int
    why: str = ""


def importances(
    space: Mapping[str, Any], points: Sequence[Point], values: Sequence[float], seed: int = 0
) -> list[Importance]:
    """The importance of each dimension of a space, the most important first, the undefined ones last.

    points, values: of the trials to learn from, all values of one kind; a trial whose value is NaN is left out. A
    dimension that every trial has is judged over all of them; one of a branch over the trials of that branch, together
    with all that these have in common, so that its share is of the variance there. Ranges on a log scale are given to
    the forest as logarithms: Optuna would weigh a decade by its width.
    """
    known = [(point, value) for point, value in zip(points, values, strict=True) if not math.isnan(value)]
    groups: dict[str, list[Dimension]] = {}
    for dimension in dimensions(space):
        groups.setdefault(dimension.group, []).append(dimension)
    found = [one for group in groups.values() for one in _of_group(group, space, known, seed)]
    return sorted(found, key=lambda one: -math.inf if math.isnan(one.value) else one.value, reverse=True)


def _of_group(
    group: Sequence[Dimension], space: Mapping[str, Any], known: Sequence[tuple[Point, float]], seed: int
) -> list[Importance]:
    """Of the dimensions of one branch, or of those outside of all."""
    trials = [(point, value) for point, value in known if group[0].active(point)]
    why = _too_little([value for _, value in trials], group[0].branch)
    if why:
        return [Importance(one, math.nan, math.nan, len(trials), why) for one in group]
    there = [one for one in dimensions(space) if all(one.active(point) for point, _ in trials)]
    varied = [one for one in there if len({point[one.path] for point, _ in trials}) > 1]
    shares, noise = _fanova(varied, trials, seed)
    found = []
    for one in group:
        share = shares.get(one.path, math.nan)
        reason = "all trials have the same value of it" if one not in varied else ""
        found.append(Importance(one, share, math.nan if reason else noise, len(trials), reason))
    return found


def _too_little(values: Sequence[float], branch: str) -> str:
    """Why nothing can be learnt from these, in words; empty where it can."""
    which = f" of {branch}" if branch else ""
    if len(values) < FEWEST:
        return f"{len(values)} trial{'s' * (len(values) != 1)}{which}: at least {FEWEST} are needed"
    if max(values) == min(values):
        return f"all {len(values)} trials{which} have the same value"
    return ""


def _fanova(
    varied: Sequence[Dimension], trials: Sequence[tuple[Point, float]], seed: int
) -> tuple[dict[str, float], float]:
    """The share of each dimension, by path, and the mean share of noise beside them."""
    columns = {one.path: [_place(one, point[one.path]) for point, _ in trials] for one in varied}
    kinds = {one.path: _kind(one) for one in varied}
    values = [value for _, value in trials]
    shares = _shares(columns, kinds, values, seed)
    generator, noises = np.random.default_rng(seed), []
    for _ in range(NOISES if columns else 0):
        noise: NDArray[np.float64] = generator.random(len(values))
        beside = {**columns, _NOISE: noise.tolist()}
        noises.append(_shares(beside, {**kinds, _NOISE: FloatDistribution(0, 1)}, values, seed)[_NOISE])
    return shares, float(np.mean(noises)) if noises else math.nan


def _shares(
    columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, BaseDistribution], values: Sequence[float], seed: int
) -> dict[str, float]:
    if not columns:
        return {}
    study = optuna.create_study()
    study.add_trials(
        create_trial(params=dict(zip(columns, row, strict=True)), distributions=dict(kinds), value=value)
        for row, value in zip(zip(*columns.values(), strict=True), values, strict=True)
    )
    return FanovaImportanceEvaluator(seed=seed).evaluate(study, params=list(columns))


def _kind(dimension: Dimension) -> BaseDistribution:
    distribution = dimension.distribution
    if isinstance(distribution, Choice):
        return CategoricalDistribution(range(len(distribution.options)))
    return FloatDistribution(_place(dimension, distribution.low), _place(dimension, distribution.high))


def _place(dimension: Dimension, value: Any) -> Any:
    """Where a value lies on the scale on which the sampler draws."""
    return math.log(value) if dimension.scale == "log" else value
