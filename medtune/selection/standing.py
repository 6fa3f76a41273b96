"""How each trial stands beside the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.front import pareto_front
from medtune.evaluation.intervals import Interval, accuracy_interval, auroc_interval, normal_quantile
from medtune.selection.candidates import Candidates, Draws
from medtune.selection.corrected import around
from medtune.selection.scores import Weights, resampled_values


@dataclass(frozen=True)
class Standing:
    """A trial at the epoch that it is shown at. value: the metric as it reads. interval: of it, as if it had not been
    chosen. wins: the share of resamples that the trial wins with any of its epochs. tied: it cannot be told from the
    best. broken: the constraints that it breaks, and by how much. front: no other trial that keeps the constraints is
    better in AUROC or ECE and not worse in the other."""

    trial: int
    epoch: int
    value: float
    interval: Interval
    wins: float
    tied: bool
    broken: Mapping[str, float]
    front: bool
    cost: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "epoch": self.epoch,
            "value": self.value,
            "interval": self.interval.as_json(),
            "wins": self.wins,
            "tied": self.tied,
            "feasible": not self.broken,
            "broken": dict(self.broken),
            "pareto": self.front,
            "cost": self.cost,
        }


def wins_of_trials(candidates: Candidates, draws: Draws) -> dict[int, float]:
    """The share of the resamples that each trial wins with any of its epochs; one that wins none is not there."""
    trials, counts = np.unique(candidates.trials[draws.winners[draws.defined]], return_counts=True)
    return dict(zip(trials.tolist(), (counts / counts.sum()).tolist(), strict=True))


def front_of(metrics: Sequence[Mapping[str, float]], eligible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the eligible, (candidates,), no other beats in AUROC and ECE together. metrics: of each."""
    auroc, ece = (np.array([each[name] for each in metrics]) for name in ("val/auroc", "val/ece"))
    return pareto_front(np.where(eligible, auroc, math.nan), ece)


def intervals(candidates: Candidates, which: NDArray[np.intp], weights: Weights, level: float = 0.95) -> list[Interval]:
    """Of the value of each of some candidates, as if it had not been chosen: `auroc_interval` or `accuracy_interval`,
    and for the other metrics the normal one with the deviation over resamples. weights: (resamples, cases)."""
    task, metric, labels = candidates.task, candidates.metric, candidates.labels
    if metric in ("val/auroc", "val/accuracy"):
        interval = auroc_interval if metric == "val/auroc" else accuracy_interval
        return [interval(candidates.probabilities(int(index)), labels, task, level) for index in which]
    if len(labels) == 1:
        return [Interval.undefined("a single case has no spread to make an interval from")] * len(which)
    deviations = resampled_values(candidates.logits[which], labels, task, metric, weights).std(axis=0, dtype=float)
    return [
        around(candidates.metrics[index][metric], normal_quantile(level) * float(deviation), metric)
        for index, deviation in zip(which, deviations, strict=True)
    ]
