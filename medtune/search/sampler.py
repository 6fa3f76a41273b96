"""Points of a space from Optuna's samplers, and from a grid of our own."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from medtune.config.default import Point
from medtune.config.space import Choice, Distribution, distributions, resolve
from medtune.search.whole_space import CmaEs, GaussianProcess, WholeSpace

EVERYWHERE = {"qmc", "gp", "cmaes", "nsga2"}  # these need the same dimensions in every trial
POPULATION = 10  # of NSGA-II: Optuna's 50 would leave a sweep of 40 trials random


class SeededSampler(BaseSampler):
    """The sampler of a sweep, seeded anew for each trial by its number: a resumed sweep does not repeat its first
    draws, and of several drivers each draws what the trial that it got would have had anyhow."""

    def __init__(self, name: str, seed: int, space: Mapping[str, Any]) -> None:
        self.build = partial(build_sampler, name, seed, space=space)
        self.inner: BaseSampler = RandomSampler()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner = self.build(trial=trial.number)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(study, trial, param_name, param_distribution)


def build_sampler(name: str, seed: int, trial: int, space: Mapping[str, Any]) -> BaseSampler:
    """The sampler for one trial.

    TPE learns from pruned trials by their last epoch; GP, CMA-ES and NSGA-II by their best one, see `WholeSpace`.
    """
    ask_seed = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    whole = {path: optuna_distribution(distribution) for path, distribution in distributions(space)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(multivariate=True, group=True, constant_liar=True, seed=ask_seed)
            case "random" | "grid":  # every point of a grid is given beforehand
                return RandomSampler(seed=ask_seed)
            case "qmc":
                return Sequence(trial, seed, RandomSampler(seed=ask_seed))
            case "gp":
                return WholeSpace(whole, GaussianProcess(seed=ask_seed, warn_independent_sampling=False))
            case "cmaes":
                return WholeSpace(whole, CmaEs(whole, ask_seed))
            case "nsga2":
                return WholeSpace(whole, NSGAIISampler(population_size=POPULATION, seed=ask_seed))
    raise ValueError(f"no sampler is called {name}")


class Sequence(QMCSampler):
    """Optuna's, with a trial's place in the sequence by its number: Optuna counts in the ledger, where a trial that a
    kill cut short moves all later ones on by one place. The scrambling is the sweep's."""

    def __init__(self, trial: int, seed: int, independent: BaseSampler) -> None:
        super().__init__(scramble=True, seed=seed, independent_sampler=independent)
        self.place = max(trial - 1, 0)  # trial 0 is the default

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self.place


def suggest(trial: optuna.Trial | FrozenTrial, space: Mapping[str, Any], sampler: str) -> Point:
    """The point that a trial gets, one suggestion a distribution; a frozen trial gives what it was given.

    TPE learns of each branch by itself. The others that learn are asked for all branches, and what is inactive is left
    out of the point.
    """
    named = distributions(space) if sampler in EVERYWHERE else ()
    everywhere = {path: _suggest(trial, path, distribution) for path, distribution in named}
    point: Point = {}

    def pick(path: str, distribution: Distribution) -> Any:
        point[path] = everywhere[path] if everywhere else _suggest(trial, path, distribution)
        return point[path]

    resolve(space, pick)
    return point


def optuna_distribution(distribution: Distribution) -> BaseDistribution:
    """A distribution in Optuna's words. Options that are more than plain values are known by their index."""
    if isinstance(distribution, Choice):
        return CategoricalDistribution(_labels(distribution))
    low, step = distribution.low, distribution.step
    high = distribution.clip(distribution.high)  # the last point of the grid where there is a step
    if distribution.integer:
        return IntDistribution(int(low), int(high), log=distribution.log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=distribution.log, step=step)


def ledger_params(space: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """A point as the ledger holds it: values in the place of the indices of plain options."""
    by_path = dict(distributions(space))
    return {
        path: _labels(by_path[path])[value] if isinstance(by_path[path], Choice) else value  # type: ignore[arg-type]
        for path, value in point.items()
    }


def _labels(choice: Choice) -> list[Any]:
    return list(range(len(choice.options))) if choice.conditional else list(choice.options)


def _suggest(trial: optuna.Trial | FrozenTrial, path: str, distribution: Distribution) -> Any:
    match optuna_distribution(distribution):
        case CategoricalDistribution(choices=labels):
            return labels.index(trial.suggest_categorical(path, labels))
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(path, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(path, low, high, step=step, log=log)
