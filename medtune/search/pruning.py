"""Which trials are stopped early: Ray's ASHA, asked directly, so that past trials can be played into it, and a median.

What a pruner knows after the past has been played into it does not depend on the order in which it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from medtune.config.sweep import Asha, Hyperband, Median, NoPruning, Pruning


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


@dataclass
class MedianRule:
    """Stops a trial whose best value is worse than the median of what others had on average up to the same epoch.

    Golovin et al. 2017, section 3.2.2. Ray's own asks a controller, refuses more epochs of a trial that it wanted to
    stop (trial 0 has them), and decides otherwise when the past is played in another order.
    """

    grace: int
    min_trials: int
    sign: int  # 1 where more is better, else -1
    values: dict[int, list[float]] = field(default_factory=dict)
    means: dict[int, dict[int, float]] = field(default_factory=dict)  # from the grace on, up to each epoch

    def stop(self, trial: int, epoch: int, value: float) -> bool:
        self.values.setdefault(trial, []).append(self.sign * value)
        if epoch < self.grace:
            return False
        self.means.setdefault(trial, {})[epoch] = float(np.mean(self.values[trial][self.grace - 1 :]))
        others = [means[epoch] for other, means in self.means.items() if other != trial and epoch in means]
        known = [mean for mean in others if np.isfinite(mean)]
        return len(known) >= self.min_trials and bool(np.fmax.reduce(self.values[trial]) < median(known))


class RayPruner:
    """Ray's ASHA, or for Hyperband one for each bracket."""

    def __init__(self, brackets: Sequence[TrialScheduler]) -> None:
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
            return MedianRule(config.grace_epochs, config.min_trials, 1 if direction == "max" else -1)
        case Asha() | Hyperband():
            count = config.brackets if isinstance(config, Hyperband) else 1
            graces = [round(config.grace_epochs * config.reduction_factor**bracket) for bracket in range(count)]
            brackets = [_asha(config, grace, epochs, common) for grace in graces if grace <= epochs]
            return RayPruner(brackets) if brackets else KeepAll()  # the grace is longer than any trial


def _asha(config: Asha | Hyperband, grace: int, epochs: int, common: dict[str, Any]) -> ASHAScheduler:
    return ASHAScheduler(
        grace_period=grace, reduction_factor=config.reduction_factor, max_t=epochs, stop_last_trials=False, **common
    )
