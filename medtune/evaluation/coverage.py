"""What a model gets right when it may say nothing about the cases it is least sure of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.intervals import Interval, wilson
from medtune.evaluation.metrics import Floats, Integers, check_probabilities, correct
from medtune.evaluation.proper_scores import percentiles
from medtune.task import Task

Array = NDArray[np.float64]
_AT_ONCE = 1_000_000  # cases x resamples in memory
_TOLD = np.arange(1, 11) / 10


@dataclass(frozen=True)
class CoverageCurve:
    """Accuracy among the k surest cases, for k = 1 to all of them: arrays (cases,).

    low, high: Wilson's interval (1927) of each accuracy, with the order of the cases as given. aurc: the mean of the
    risk, 1 - accuracy, over k, which for an order that knows nothing is the risk of all cases. excess_aurc: how much
    of it an order with the right cases first would not have.
    """

    coverage: Array
    accuracy: Array
    low: Array
    high: Array
    aurc: Interval
    excess_aurc: Interval

    def at(self, coverage: float) -> Interval:
        """Accuracy when at least this share of the cases, above 0 and at most 1, is answered.

        Raises ValueError for any other share."""
        if not 0 < coverage <= 1:
            raise ValueError(f"a coverage of {coverage}: it must be above 0 and at most 1")
        index = min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self.coverage) - 1)
        return Interval(float(self.accuracy[index]), float(self.low[index]), float(self.high[index]))

    def as_json(self) -> dict[str, Any]:
        """The two areas, and the accuracy at a coverage of .1 to 1."""
        told = [{"coverage": float(share), **self.at(share).as_json()} for share in _TOLD]
        return {"aurc": self.aurc.as_json(), "excess_aurc": self.excess_aurc.as_json(), "accuracy": told}


def coverage_curve(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    generator: np.random.Generator,
    uncertainty: Floats | None = None,
    level: float = 0.95,
    resamples: int = 1000,
) -> CoverageCurve:
    """The accuracy-coverage curve (El-Yaniv & Wiener 2010) with its area and excess area (Geifman & El-Yaniv 2017;
    Geifman et al. 2019, with the least area as it is and not as its approximation).

    The surest cases come first: those of the highest probability of the top class; for multilabel of the highest mean
    over the labels of max(p, 1 - p), where a case counts with its share of right labels. uncertainty: (cases,), any
    numbers that are larger where a case is less sure, to go by instead. Cases that are equally sure come in every order
    alike: the curve is the mean over these.

    Both areas have the percentiles of a bootstrap over cases, which orders each resample anew; a single case has no
    spread, and the areas are undefined. Raises ValueError as `metrics`, and for uncertainties that are not (cases,) or
    not finite.
    """
    labels = check_probabilities(probabilities, labels, task)
    right = correct(probabilities, labels, task).astype(np.float64)
    right = right.mean(axis=1) if right.ndim == 2 else right
    doubt = _doubt(probabilities, task) if uncertainty is None else np.asarray(uncertainty, np.float64)
    if doubt.shape != right.shape or not np.isfinite(doubt).all():
        raise ValueError(f"uncertainties of shape {doubt.shape}: {right.shape} of finite numbers are needed")
    rank = np.unique(doubt, return_inverse=True)[1]  # equal for cases that are equally sure
    order = np.argsort(rank, kind="stable")
    rank, right = rank[order], right[order]
    size = len(right)
    count = np.arange(1, size + 1, dtype=np.float64)
    accuracy = np.clip(_true(rank[None], right[None])[0].cumsum() / count, 0, 1)
    low, high = wilson(accuracy * count, count, level)
    areas = _areas(rank, right, generator, level, resamples)
    return CoverageCurve(count / size, accuracy, np.minimum(low, accuracy), np.maximum(high, accuracy), *areas)


def _doubt(probabilities: Floats, task: Task) -> Array:
    probabilities = probabilities.astype(np.float64)
    if task == "multilabel":
        return -np.asarray(np.maximum(probabilities, 1 - probabilities).mean(axis=1))
    return -np.asarray(probabilities.max(axis=1))


def _true(rank: NDArray[np.intp], right: Array) -> Array:
    """How right the case at each place is on average over the orders of the equally sure, both (samples, cases)."""
    samples, highest = len(rank), int(rank.max()) + 1
    cell = (rank + highest * np.arange(samples)[:, None]).ravel()
    total = np.bincount(cell, right.ravel(), samples * highest)
    members = np.bincount(cell, minlength=samples * highest)
    return np.asarray((total[cell] / members[cell]).reshape(rank.shape))


def _aurc(right: Array) -> Array:
    """Mean risk over the k first cases, k = 1 to all: (samples, cases) to (samples,)."""
    return 1 - np.asarray((right.cumsum(axis=1) / np.arange(1, right.shape[1] + 1)).mean(axis=1))


def _both_areas(rank: NDArray[np.intp], right: Array) -> tuple[Array, Array]:
    aurc = _aurc(_true(rank, right))
    return aurc, aurc - _aurc(-np.sort(-right, axis=1))


def _areas(
    rank: NDArray[np.intp], right: Array, generator: np.random.Generator, level: float, resamples: int
) -> tuple[Interval, Interval]:
    """AURC and its excess, of cases (cases,) in their order."""
    size = len(right)
    if size == 1:
        undefined = Interval.undefined("a single case has no spread to make an interval from")
        return undefined, undefined
    values = _both_areas(rank[None], right[None])
    drawn, at_once = [], max(1, _AT_ONCE // size)
    for start in range(0, resamples, at_once):
        sample = np.sort(generator.integers(size, size=(min(at_once, resamples - start), size)), axis=1)
        drawn.append(_both_areas(rank[sample], right[sample]))
    aurc, excess = (
        # rounding can leave a hair below 0
        percentiles(max(float(value[0]), 0.0), np.maximum(np.concatenate(draws), 0), level)
        for value, draws in zip(values, zip(*drawn, strict=True), strict=True)
    )
    return aurc, excess
