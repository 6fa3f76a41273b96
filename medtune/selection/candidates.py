"""What is chosen from, and how each of it does on resamples of the cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medtune.config.trial import METRICS, Metric
from medtune.evaluation.metrics import Floats, Integers, evaluate, probabilities
from medtune.evaluation.resampling import Resamples, strata_of
from medtune.selection.scores import Weights, resampled_values
from medtune.task import Task


@dataclass(frozen=True)
class Candidates:
    """Each is a trial at one of its epochs, and all are of the same cases: the choice of the epoch is a choice too.

    trials, epochs: (candidates,). logits: float32 (candidates, cases, classes), finite. labels: (cases,), or (cases,
    labels). metric: what is chosen by.
    """

    trials: NDArray[np.intp]
    epochs: NDArray[np.intp]
    logits: NDArray[np.float32]
    labels: Integers
    task: Task
    metric: Metric

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, -1 where less is."""
        return 1 if METRICS[self.metric] == "max" else -1

    @cached_property
    def metrics(self) -> Sequence[dict[str, float]]:
        """`val/auroc` and the others of each, on all cases."""
        return [
            {f"val/{name}": value for name, value in evaluate(logits, self.labels, self.task).items()}
            for logits in self.logits
        ]

    @cached_property
    def goodness(self) -> NDArray[np.float64]:
        """(candidates,): the metric on all cases, with its sign turned where less is better."""
        return self.sign * np.array([metrics[self.metric] for metrics in self.metrics])

    def probabilities(self, index: int) -> Floats:
        """Of one of them, (cases, classes)."""
        return probabilities(self.logits[index], self.task)

    def part(self, which: NDArray[np.intp]) -> "Candidates":
        """Some of them, in this order."""
        return Candidates(
            self.trials[which], self.epochs[which], self.logits[which], self.labels, self.task, self.metric
        )


@dataclass(frozen=True)
class Draws:
    """How the candidates do on resamples of the cases, the same for all.

    resamples: how often each case is in each. in_bag: float32 (resamples, candidates), goodness as `Candidates` has it.
    winners: (resamples,), the index of the best in each; the first of equals. out_of_bag: (resamples,), the winner's
    goodness on the cases that the resample left out; NaN where that is undefined. A resample that is not `defined` has
    no winner, whatever stands there: what counts winners takes `of_defined` alone.
    """

    resamples: Resamples
    in_bag: NDArray[np.float32]
    winners: NDArray[np.intp]
    out_of_bag: NDArray[np.float32]

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Which of the resamples have a winner, (resamples,): not one that lost a rare label of several."""
        return np.asarray(~np.isnan(self.in_bag).any(axis=1))

    def of_defined(self) -> "Draws":
        """The resamples that have a winner, in their order; none where none has."""
        kept = self.defined
        if kept.all():
            return self
        return Draws(
            Resamples(self.resamples.counts[kept]), self.in_bag[kept], self.winners[kept], self.out_of_bag[kept]
        )


def best_of_trials(candidates: Candidates, behind: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """The index of each trial's best candidate, the first of equals; trials ascending.

    behind: (candidates,), those that stand behind all others of their trial.
    """
    last = np.zeros(len(candidates), bool) if behind is None else behind
    order = np.lexsort((-candidates.goodness, last, candidates.trials))
    return order[np.unique(candidates.trials[order], return_index=True)[1]]


def draw(candidates: Candidates, resamples: int, generator: np.random.Generator) -> Draws:
    """Resamples the cases within their classes (Efron & Tibshirani 1993), lets every candidate run on each resample,
    and its winner on the cases that it left out. Raises ValueError where the metric is undefined on all of the cases.
    """
    if not np.isfinite(candidates.goodness).all():
        raise ValueError(f"{candidates.metric} is not defined on these cases")
    drawn = Resamples.draw(
        strata_of(candidates.labels, candidates.logits.shape[2], candidates.task), resamples, generator
    )
    in_bag = _goodness(candidates, drawn.counts)
    winners = np.nan_to_num(in_bag, nan=-np.inf).argmax(axis=1)
    out_of_bag = np.full(resamples, np.nan, np.float32)
    for winner in np.unique(winners):
        rows = np.flatnonzero(winners == winner)
        out_of_bag[rows] = _goodness(candidates.part(np.array([winner])), drawn.out_of_bag[rows])[:, 0]
    return Draws(drawn, in_bag, winners, out_of_bag)


def _goodness(candidates: Candidates, weights: Weights) -> NDArray[np.float32]:
    values = resampled_values(candidates.logits, candidates.labels, candidates.task, candidates.metric, weights)
    return candidates.sign * values
