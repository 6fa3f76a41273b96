"""Samplers that need every dimension of a space in every trial: a Gaussian process, CMA-ES, NSGA-II."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from medtune.search.entries import best_epoch_of, violation

SIGMA = 0.2  # of the first generation of CMA-ES, on the scale on which every range is 0 to 1
BEST_EPOCH = "best_epoch"  # what the driver writes down of a trial
ENDED = "ended"  # which of the trials that ended it was: not by the clock, which may jump
GENERATION = ":generation"  # the end of the names by which NSGA-II and CMA-ES write down where a trial is from
CMAES = "cmaes" + GENERATION


class WholeSpace(BaseSampler):
    """A sampler that draws every dimension of a space at once, from a copy of the ledger in memory.

    In the copy pruned trials are complete ones with the value at their best epoch: with ASHA most trials are pruned,
    and without them these samplers would stay random for long. Of constraints, which a pruned trial has none of, it
    gets the mean of the others, which says nothing either way. What a sampler writes goes with the copy, but for the
    generation from which a trial was drawn.
    """

    def __init__(self, space: dict[str, BaseDistribution], inner: BaseSampler) -> None:
        self.space, self.inner = space, inner

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self.space.keys() <= trial.params.keys():  # an unfinished trial is taken up again
            return {}
        copy = self._copy(study)
        copy.ask(self.space)
        drawn = copy.get_trials(deepcopy=False)[-1]
        for name, value in _generation(drawn).items():
            if name not in trial.system_attrs:
                study._storage.set_trial_system_attr(trial._trial_id, name, value)
        return drawn.params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError(f"{param_name} is not in the space")

    def _copy(self, study: optuna.Study) -> optuna.Study:
        copy = optuna.create_study(direction=study.direction, sampler=self.inner)
        trials = [t for t in study.get_trials(deepcopy=False) if self.space.keys() <= t.params.keys()]
        ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        # so that one that ends late changes no generation that is full
        ended.sort(key=lambda t: (t.user_attrs.get(ENDED, -1), t.datetime_complete or datetime.max))
        means = _means([t.constraints for t in ended if t.constraints])
        direction = "max" if _sign(study) < 0 else "min"
        for trial in ended:
            _, value = best_of(trial, direction)
            if not math.isnan(value):
                copy.add_trial(self._copied(trial, value=value, constraints=trial.constraints or means))
        copy.add_trials(self._copied(t, state=t.state) for t in trials if t.state == TrialState.RUNNING)
        return copy

    def _copied(self, trial: FrozenTrial, **what: Any) -> FrozenTrial:
        params = {path: trial.params[path] for path in self.space}
        return create_trial(params=params, distributions=self.space, system_attrs=_generation(trial), **what)


def _generation(trial: FrozenTrial) -> dict[str, Any]:
    return {name: value for name, value in trial.system_attrs.items() if name.endswith(GENERATION)}


def _means(constraints: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in constraints])) for name in (*constraints, {})[0]}


class GaussianProcess(GPSampler):
    """Optuna's, on one thread: more of them make it slower, and take the cores from the workers."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return super().sample_relative(study, trial, search_space)
        finally:
            torch.set_num_threads(threads)


class CmaEs(BaseSampler):
    """CMA-ES over the ranges of a space, Hansen and Ostermeier 2001; choices, which it does not know, come from TPE.

    Its state is played again at each ask from the generations that are full: Optuna's own sampler keeps a pickle of it
    in the ledger. Trials that break constraints rank after all others, by how much they do.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        self.ranges = {
            path: distribution
            for path, distribution in space.items()
            if not isinstance(distribution, CategoricalDistribution) and not distribution.single()
        }
        self.seed, self.of_choices = seed, TPESampler(multivariate=False, seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.ranges

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not self.ranges:
            return {}
        from cmaes import CMA  # takes a second: it imports scipy's statistics

        scale = _SearchSpaceTransform(self.ranges, transform_0_1=True)
        cma = CMA(np.full(len(self.ranges), 0.5), SIGMA, bounds=scale.bounds, seed=self.seed)
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        while len(drawn := [t for t in ended if t.system_attrs.get(CMAES) == cma.generation]) >= cma.population_size:
            generation = drawn[: cma.population_size]
            ranked = sorted(generation, key=lambda t: (violation(t.constraints), _sign(study) * t.values[0]))
            cma.tell([(scale.transform(t.params), float(rank)) for rank, t in enumerate(ranked)])
        study._storage.set_trial_system_attr(trial._trial_id, CMAES, cma.generation)
        return scale.untransform(cma.ask())

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.of_choices.sample_independent(study, trial, param_name, param_distribution)


def _sign(study: optuna.Study) -> int:
    return 1 if study.direction == StudyDirection.MINIMIZE else -1


def best_of(trial: FrozenTrial, direction: str) -> tuple[int | None, float]:
    """The best epoch, which the driver wrote down, or else the values tell, and the value there; None, nan where there
    is none."""
    values = trial.intermediate_values
    epoch = trial.user_attrs.get(BEST_EPOCH) or best_epoch_of(values, direction)
    value = math.nan if epoch is None else values.get(epoch, math.nan)
    return (None, math.nan) if math.isnan(value) else (epoch, value)
