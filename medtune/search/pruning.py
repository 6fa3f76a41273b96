"""Which trials are stopped early: Ray's schedulers, asked directly, so that past trials can be played into them."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

from medtune.config.sweep import Asha, Hyperband, Median, NoPruning, Pruning

NEVER = 10**9  # epochs


@dataclass(frozen=True)
class Seat:
    """All that Ray's schedulers read of a trial."""

    trial_id: str


class Pruner(Protocol):
    """Sees the value of every epoch of every trial, in the order in which they arrived."""

    def stop(self, trial: int, epoch: int, value: float) -> bool: ...


class KeepAll:
    """Stops nothing."""

    def stop(self, trial: int, epoch: int, value: float) -> bool:
        return False


class RayPruner:
    """One of Ray's schedulers, or for Hyperband one for each bracket."""

    def __init__(self, brackets: list[TrialScheduler]) -> None:
        self.brackets = brackets
        # deeper brackets stop later; as Ray weighs them, but drawn from the trial's number, not from global state
        weights = np.exp(-np.arange(len(brackets)))
        self.shares = weights / weights.sum()
        self.added: dict[int, TrialScheduler] = {}

    def stop(self, trial: int, epoch: int, value: float) -> bool:
        seat: Any = Seat(f"{trial:06d}")
        if trial not in self.added:
            self.added[trial] = self.brackets[self._bracket(trial)]
            self.added[trial].on_trial_add(_NO_CONTROLLER, seat)
        result = {"epoch": epoch, "value": value}
        return self.added[trial].on_trial_result(_NO_CONTROLLER, seat, result) == TrialScheduler.STOP

    def _bracket(self, trial: int) -> int:
        return int(np.random.default_rng(trial).choice(len(self.brackets), p=self.shares))


_NO_CONTROLLER: Any = None  # none of the schedulers used here asks it for anything


def build_pruner(config: Pruning, direction: str, epochs: int) -> Pruner:
    """The pruner of a sweep file.

    direction: max or min of the metric. epochs: the most that a trial can have.
    """
    common: dict[str, Any] = {"time_attr": "epoch", "metric": "value", "mode": direction}
    match config:
        case NoPruning():
            return KeepAll()
        case Median():
            rule = MedianStoppingRule(
                grace_period=config.grace_epochs,
                min_samples_required=config.min_trials,
                min_time_slice=NEVER,  # never pauses a trial for others
                **common,
            )
            return RayPruner([rule])
        case Asha() | Hyperband():
            count = config.brackets if isinstance(config, Hyperband) else 1
            graces = [round(config.grace_epochs * config.reduction_factor**bracket) for bracket in range(count)]
            return RayPruner([_asha(config, grace, epochs, common) for grace in graces if grace <= epochs])


def _asha(config: Asha | Hyperband, grace: int, epochs: int, common: dict[str, Any]) -> ASHAScheduler:
    return ASHAScheduler(
        grace_period=grace, reduction_factor=config.reduction_factor, max_t=epochs, stop_last_trials=False, **common
    )
