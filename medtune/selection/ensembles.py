"""Several (trial, epoch) pairs that predict together: what falls out of the resamples, and what a greedy search adds.

An ensemble predicts the weighted mean of its members' probabilities. Several epochs of one trial are one training with
several snapshots (Huang et al. 2017), so that what an ensemble costs is its trials.
"""

import math
from collections.abc import Set
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logit

from medtune.evaluation.metrics import Floats, Integers, evaluate
from medtune.evaluation.resampling import Booleans
from medtune.selection.candidates import Candidates, Draws, draw
from medtune.task import Task

Kind = Literal["single", "bagged", "greedy"]
Doubles = NDArray[np.float64]

LAST = 5  # epochs of a full trial that stand for it
BAGS = 100  # greedy searches, each on a resample
STEPS = 5  # what each of them adds at the most


@dataclass(frozen=True)
class Member:
    """A trial at one of its epochs, counted from 1."""

    trial: int
    epoch: int
    weight: float


@dataclass(frozen=True)
class Ensemble:
    """Members by trial and epoch, their weights above 0 and of sum 1. `single`: one of them alone."""

    kind: Kind
    members: tuple[Member, ...]

    @cached_property
    def trials(self) -> dict[int, float]:
        """The weight of each of its trials, the heaviest first: each of them is one training."""
        weights: dict[int, float] = {}
        for member in self.members:
            weights[member.trial] = weights.get(member.trial, 0.0) + member.weight
        return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0])))

    def probabilities(self, candidates: Candidates) -> Doubles:
        """What it says of the candidates' cases, (cases, classes). Raises KeyError where a member is not among them."""
        pairs = zip(candidates.trials.tolist(), candidates.epochs.tolist(), strict=True)
        index = {pair: number for number, pair in enumerate(pairs)}
        shown = [member.weight * candidates.probabilities(index[member.trial, member.epoch]) for member in self.members]
        return np.sum(shown, axis=0, dtype=np.float64)

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "members": [asdict(member) for member in self.members]}


def single(candidates: Candidates) -> Ensemble:
    """The best candidate alone; the first of equals."""
    best = candidates.goodness.argmax()
    return Ensemble("single", (Member(int(candidates.trials[best]), int(candidates.epochs[best]), 1.0),))


def bagged(candidates: Candidates, draws: Draws, complete: Set[int], most: int | None = None) -> Ensemble:
    """Each candidate weighted by the share of resamples that it wins: the choice is bagged (Breiman 1996).

    complete: the trials that ran to their end, see `stand_ins`. most: trials at the most, those that win most often.
    Where one trial wins every resample there is nothing to average, and it is a single model.
    """
    return bagged_votes(candidates, draws, complete).ensemble(most)


def greedy(
    candidates: Candidates,
    generator: np.random.Generator,
    most: int | None = None,
    complete: Set[int] = frozenset(),
) -> Ensemble:
    """Forward selection with replacement (Caruana et al. 2004), bagged over resamples of the cases.

    most: trials at the most, those of the largest weight. complete: as for `bagged`. Where no second trial is ever
    taken, a single model.
    """
    return greedy_votes(candidates, generator, complete).ensemble(most)


@dataclass(frozen=True)
class Votes:
    """What each resample by itself would choose, of which an ensemble is the mean.

    shares: sparse (resamples, candidates), rows of sum 1. left_out: (resamples, cases). stand_for: what each candidate
    counts for, sparse (candidates, candidates), rows of sum 1. Sparse, as there can be 40,000 candidates of which a
    thousand win. There are no resamples where the metric is defined on none of them: then the best candidate is alone.
    """

    kind: Kind
    candidates: Candidates
    shares: sparse.csr_array
    left_out: Booleans
    stand_for: sparse.csr_array

    def ensemble(self, most: int | None = None) -> Ensemble:
        """Of all resamples. most: trials at the most."""
        if not self.shares.shape[0]:
            return single(self.candidates)
        shares, trials, epochs = self.shares.mean(axis=0), self.candidates.trials, self.candidates.epochs
        kept = capped(shares[None], trials, most)[0]
        if len(np.unique(trials[kept > 0])) == 1:
            best = int(np.where(kept > 0, self.candidates.goodness, -np.inf).argmax())
            return Ensemble("single", (Member(int(trials[best]), int(epochs[best]), 1.0),))
        weights = kept @ self.stand_for
        order = [index for index in np.lexsort((epochs, trials)) if weights[index] > 0]
        return Ensemble(self.kind, tuple(Member(int(trials[i]), int(epochs[i]), float(weights[i])) for i in order))

    def goodness(self, most: int | None = None) -> float:
        """An estimate for new cases: each case is predicted by the ensemble of those resamples that left it out
        (Breiman 1996, "Out-of-bag estimation"). NaN where that is undefined, as for AUROC when a class has one case
        only, which is in every resample."""
        seen = self.left_out.any(axis=0)
        if not seen.any():
            return math.nan
        chosen = np.unique(self.shares.indices)
        votes = self.left_out.T.astype(np.float64) @ self.shares[:, chosen]
        stand_for = self.stand_for[chosen]
        members = np.unique(stand_for.indices)
        weights = capped(votes, self.candidates.trials[chosen], most) @ stand_for[:, members]
        shown = np.zeros(self.candidates.logits.shape[1:])
        for of_member, index in zip(weights.T, members, strict=True):
            shown += of_member[:, None] * self.candidates.probabilities(int(index))
        return goodness(shown[seen], self.candidates.labels[seen], self.candidates)


def bagged_votes(candidates: Candidates, draws: Draws, complete: Set[int]) -> Votes:
    """Each resample that is defined for its winner."""
    draws, stand_for = draws.of_defined(), stand_ins(candidates, complete)
    return Votes("bagged", candidates, _winners(candidates, draws), draws.resamples.out_of_bag, stand_for)


def greedy_votes(candidates: Candidates, generator: np.random.Generator, complete: Set[int] = frozenset()) -> Votes:
    """Each resample that is defined for what a greedy search finds on it."""
    draws = draw(candidates, BAGS, generator).of_defined()
    stand_for = stand_ins(candidates, complete)
    return Votes("greedy", candidates, _climbed(candidates, draws), draws.resamples.out_of_bag, stand_for)


def _winners(candidates: Candidates, draws: Draws) -> sparse.csr_array:
    rows = len(draws.winners)
    return sparse.csr_array((np.ones(rows), draws.winners, np.arange(rows + 1)), shape=(rows, len(candidates)))


def _climbed(candidates: Candidates, draws: Draws) -> sparse.csr_array:
    """The weights of the ensemble that is best on each resample: (resamples, candidates), rows of sum 1.

    It starts from the winner by the metric, and adds what lowers its Brier score on the resample's cases most, as long
    as anything does. By a proper score, as ranks or hits of few cases are too coarse to be climbed: on AUROC the search
    ends with what fits the noise.
    """
    shown, truth = _flat(candidates)
    times = np.repeat(draws.resamples.counts, shown.shape[1] // len(candidates.labels), axis=1).astype(np.float32)
    squares = times @ np.square(shown).T
    taken = _winners(candidates, draws).toarray()
    rows = np.arange(len(taken))
    total = shown[draws.winners]
    best = (times * np.square(total - truth)).sum(axis=1)
    for size in range(2, STEPS + 2):
        # |total + p - size truth|^2 of every candidate p at once
        rest = total - size * truth
        errors = (times * rest**2).sum(axis=1)[:, None] + 2 * (times * rest) @ shown.T + squares
        added = errors.argmin(axis=1)
        least = errors[rows, added] / size**2
        better = (least < best * (1 - 1e-6)) & (taken.sum(axis=1) == size - 1)
        taken[rows[better], added[better]] += 1
        total = np.where(better[:, None], total + shown[added], total)
        best = np.where(better, least, best)
    return sparse.csr_array(taken / taken.sum(axis=1, keepdims=True))


def _flat(candidates: Candidates) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (candidates, cases x classes) and what they ought to be, (cases x classes,)."""
    every = range(len(candidates))
    shown = np.stack([candidates.probabilities(index).astype(np.float32).ravel() for index in every])
    if candidates.task == "multilabel":
        return shown, candidates.labels.astype(np.float32).ravel()
    return shown, np.eye(candidates.logits.shape[2], dtype=np.float32)[candidates.labels].ravel()


def stand_ins(candidates: Candidates, complete: Set[int]) -> sparse.csr_array:
    """What each candidate counts for, sparse (candidates, candidates), rows of sum 1: itself, or where its trial is
    complete the mean of the trial's last five epochs. Which epoch of those is best is mostly noise, and their mean is
    better than any (Chen et al. 2017). A pruned trial's early epochs differ, and its best one is the better guess."""
    blocks = []
    for trial in np.unique(candidates.trials):
        of_trial = np.flatnonzero(candidates.trials == trial)
        last = of_trial[np.argsort(candidates.epochs[of_trial])[-LAST:]]
        every = np.repeat(of_trial, len(last)), np.tile(last, len(of_trial))
        blocks.append(np.stack(every if trial in complete else (of_trial, of_trial)))
    rows, columns = np.concatenate(blocks, axis=1)
    weights = 1 / np.bincount(rows)[rows]
    return sparse.csr_array((weights, (rows, columns)), shape=(len(candidates), len(candidates)))


def capped(weights: Floats, trials: NDArray[np.intp], most: int | None) -> Doubles:
    """Weights (ensembles, candidates) of sum 1 for each ensemble, of its `most` heaviest trials alone; the lowest
    number of equals. An ensemble that has no weight has none still."""
    weights = weights.astype(np.float64)
    if most is not None:
        names, of_trial = np.unique(trials, return_inverse=True)
        every = np.arange(len(trials))
        sums = weights @ sparse.csr_array((np.ones(len(trials)), (every, of_trial)), shape=(len(trials), len(names)))
        places = np.argsort(np.argsort(-sums, axis=1, kind="stable"), axis=1)
        weights = np.where(places[:, of_trial] < most, weights, 0)
    sums = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)


def goodness(probabilities: Doubles, labels: Integers, candidates: Candidates) -> float:
    """The metric that the candidates are chosen by, for a model (cases, classes), more being better; NaN where it is
    undefined."""
    values = evaluate(logits_of(probabilities, candidates.task), labels, candidates.task)
    return candidates.sign * values[candidates.metric.removeprefix("val/")]


def logits_of(probabilities: Doubles, task: Task) -> Doubles:
    """Finite logits that `metrics.probabilities` makes these of again."""
    if task == "multilabel":
        return np.asarray(logit(probabilities.clip(1e-15, 1 - 1e-15)))
    return np.asarray(np.log(probabilities.clip(min=1e-30)))
