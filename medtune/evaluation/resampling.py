"""AUROC of many models on many bootstrap resamples of the same cases, in and out of the bag; exact, ties and all."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medtune.evaluation.intervals import Interval
from medtune.evaluation.metrics import Floats, Integers, auroc, check_probabilities, one_vs_rest, why_undefined
from medtune.task import Task

Booleans = NDArray[np.bool_]

RESAMPLES = 2_000
_AT_ONCE = 4_000_000  # cases x resamples in memory
_BLOCK = 500  # resamples at a time: few enough for a processor's cache, and of no influence on what is drawn


def strata_of(labels: Integers, classes: int, task: Task) -> NDArray[np.intp]:
    """The stratum (cases,) that each case is resampled in: its class, so that no resample loses one.

    Multilabel: the rarest label that the case has, or none. A label that only ever comes with rarer ones can still be
    lost in a resample.
    """
    if task != "multilabel":
        return labels.astype(np.intp)
    frequency = np.where(labels == 1, labels.sum(axis=0), len(labels) + 1)
    return np.where(labels.any(axis=1), frequency.argmin(axis=1), classes)


def problems(models: Iterable[Floats], labels: Integers, task: Task) -> tuple[Floats, Booleans]:
    """Scores (models, problems, cases) and who is positive (problems, cases), as `metrics.one_vs_rest` makes them.

    models: probabilities (cases, classes) of each, on the same cases. Raises ValueError as `metrics`.
    """
    scores = []
    for probabilities in models:
        flat = check_probabilities(probabilities, labels, task)
        of_model, positive = one_vs_rest(probabilities, flat, task)
        scores.append(of_model)
    return np.stack(scores), positive


@dataclass(frozen=True)
class Resamples:
    """How often each case is in each resample: `counts` (resamples, cases). The same for every model: paired."""

    counts: NDArray[np.uint16]

    @classmethod
    def draw(cls, strata: Integers, resamples: int, generator: np.random.Generator) -> "Resamples":
        """As many cases of each stratum as there are, with replacement (Efron & Tibshirani 1993, ch. 8).

        strata: (cases,), any integers: classes, see `strata_of`.
        """
        counts = np.zeros((resamples, len(strata)), np.uint16)
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            for start in range(0, resamples, _BLOCK):
                rows = min(_BLOCK, resamples - start)
                drawn = generator.integers(len(members), size=(rows, len(members)))
                drawn += len(members) * np.arange(rows)[:, None]
                times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
                counts[start : start + rows, members] = times
        return cls(counts)

    @property
    def out_of_bag(self) -> Booleans:
        """Who is not in a resample: (resamples, cases), some 37 % of them."""
        return self.counts == 0

    def in_bag_auroc(self, scores: Floats, positive: Booleans, threads: int | None = None) -> NDArray[np.float32]:
        """AUROC of each model on each resample: (resamples, models).

        scores: (models, cases), and positive (cases,); or (models, problems, cases) and (problems, cases), where the
        result is the mean over the problems: see `problems`. NaN where a resample has no positive or no negative case,
        which strata of the classes rule out. Raises ValueError when shapes do not fit or a score is NaN.

        Exact: pairs are counted in integers, a tie half. O(cases log cases) a model and O(cases) a resample.
        """
        return _aurocs(self.counts, scores, positive, threads)

    def out_of_bag_auroc(self, scores: Floats, positive: Booleans, threads: int | None = None) -> NDArray[np.float32]:
        """As `in_bag_auroc`, on the cases that a resample left out, each once.

        NaN where no positive or no negative case was left out; so always for a class of one case.
        """
        return _aurocs(self.out_of_bag, scores, positive, threads)


def resampled(cases: int, resamples: int, generator: np.random.Generator) -> Iterator[NDArray[np.uint16]]:
    """How often each case is in a sample of as many with replacement, whatever its class: (rows, cases) at a time,
    until there are `resamples`."""
    rows = max(1, _AT_ONCE // cases)
    for start in range(0, resamples, rows):
        yield Resamples.draw(np.zeros(cases, int), min(rows, resamples - start), generator).counts


def resampled_auroc(
    scores: Floats, positive: Booleans, resamples: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """AUROC of models (models, cases) on resamples: (resamples, models). Positives and negatives (cases,) are resampled
    apart, and each resample is the same for every model. Raises ValueError as `Resamples.in_bag_auroc`."""
    return Resamples.draw(positive.astype(np.intp), resamples, generator).in_bag_auroc(scores, positive)


def auroc_bootstrap(
    probabilities: Floats, labels: Integers, task: Task, generator: np.random.Generator, level: float = 0.95
) -> Interval:
    """AUROC with the percentile bootstrap interval that papers print, of 2,000 resamples within the classes: narrower
    than it should be on few cases, where `auroc_interval` is to be believed. Undefined where a class is missing."""
    labels = check_probabilities(probabilities, labels, task)
    if why := why_undefined(labels, probabilities.shape[1], task):
        return Interval.undefined(why)
    scores, positive = problems([probabilities], labels, task)
    drawn = Resamples.draw(strata_of(labels, probabilities.shape[1], task), RESAMPLES, generator)
    low, high = np.nanquantile(drawn.in_bag_auroc(scores, positive)[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return Interval(auroc(probabilities, labels, task), float(low), float(high))


def _aurocs(weights: NDArray[Any], scores: Floats, positive: Booleans, threads: int | None) -> NDArray[np.float32]:
    if scores.ndim == 2:
        scores, positive = scores[:, None], positive[None]
    if scores.shape[1:] != positive.shape or weights.shape[1] != positive.shape[-1]:
        raise ValueError(
            f"scores of shape {scores.shape}, positive of {positive.shape} and {weights.shape[1]} resampled cases: "
            "(models, problems, cases), (problems, cases) and as many cases are needed"
        )
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    # no sum of counts is over the number of cases, and narrow integers are twice as fast
    exact = np.uint16 if weights.shape[1] <= np.iinfo(np.uint16).max else np.int32
    starts = range(0, len(weights), _BLOCK)
    blocks = [np.ascontiguousarray(weights[start : start + _BLOCK].T, exact) for start in starts]

    def of_model(scores: Floats) -> NDArray[np.float32]:
        return np.mean([_auroc(blocks, *problem) for problem in zip(scores, positive, strict=True)], axis=0)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return np.stack(list(pool.map(of_model, scores)), axis=1).astype(np.float32)


def _auroc(blocks: Sequence[NDArray[Any]], scores: Floats, positive: Booleans) -> NDArray[np.float64]:
    """AUROC (resamples,) of one problem with weights (cases, resamples) in blocks."""
    steps = _Steps.of(scores, positive, blocks[0].dtype)
    return np.concatenate([steps.auroc(block) for block in blocks])


@dataclass(frozen=True)
class _Steps:
    """The cases in the order of their scores, cut into steps in which every negative is below every positive.

    The number of steps is that of the corners of the ROC curve, far less than that of the cases where a model is good.
    A score that both sides share is a step by itself, in which every pair is tied.
    """

    negatives: Any  # sparse (steps, cases): 1 where a negative case is in a step
    positives: Any
    tied: NDArray[np.intp]

    @classmethod
    def of(cls, scores: Floats, positive: Booleans, dtype: np.dtype[Any]) -> "_Steps":
        order = np.argsort(scores, kind="stable")
        step, tied = _step_of(scores[order], positive[order])
        sides = []
        for side in (~positive[order], positive[order]):
            ends = np.cumsum(np.bincount(step[side], minlength=step[-1] + 1))
            structure = np.ones(side.sum(), dtype), order[side], np.concatenate([[0], ends])
            sides.append(sparse.csr_array(structure, shape=(len(ends), len(order))))
        negatives, positives = sides
        return cls(negatives, positives, tied)

    def auroc(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """weights: (cases, resamples). NaN where one side has no weight."""
        n, m = self.negatives @ weights, self.positives @ weights
        twice = 2 * _pairs(n, m) - _products(n[self.tied], m[self.tied])
        whole = 2.0 * n.sum(axis=0, dtype=np.int64) * m.sum(axis=0, dtype=np.int64)
        return np.divide(twice, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _step_of(scores: Floats, positive: Booleans) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The step of each case, scores ascending, and which of the steps are ties."""
    level = np.concatenate([[0], np.cumsum(scores[1:] != scores[:-1])])
    has_positive = np.bincount(level, weights=positive) > 0
    has_negative = np.bincount(level, weights=~positive) > 0
    both = has_positive & has_negative
    begins = (has_positive[:-1] & has_negative[1:]) | both[:-1] | both[1:]
    step = np.concatenate([[0], np.cumsum(begins)])
    return step[level], step[both]


def _products(n: NDArray[Any], m: NDArray[Any]) -> NDArray[np.int64]:
    return np.einsum("sr,sr->r", n, m, dtype=np.int64)


def _pairs(n: NDArray[Any], m: NDArray[Any]) -> NDArray[np.int64]:
    """The sum of n[i] m[j] over i <= j, (steps, resamples) to (resamples,): neighbours are merged until one is left."""
    total = _products(n, m)
    while len(n) > 1:
        total += _products(n[:-1:2], m[1::2])
        n, m = _merged(n), _merged(m)
    return total


def _merged(sums: NDArray[Any]) -> NDArray[Any]:
    merged = sums[::2].copy()
    merged[: len(sums) // 2] += sums[1::2]  # the last of an odd number is alone
    return merged
