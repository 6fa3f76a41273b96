"""How sure the numbers are: intervals for AUROC and accuracy on the cases that were seen.

All take probabilities (cases, classes) and labels as `metrics` has them, treat the cases as a sample and a model as
given, and raise ValueError where `metrics` would.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from medtune.evaluation.metrics import (
    Floats,
    Integers,
    accuracy,
    check_probabilities,
    correct,
    one_vs_rest,
    why_undefined,
)
from medtune.task import Task


@dataclass(frozen=True)
class Interval:
    """A number and the two ends of its confidence interval; `low <= value <= high`. Where it is undefined all three
    are NaN and `why` says in words what is missing."""

    value: float
    low: float
    high: float
    why: str = ""

    @classmethod
    def undefined(cls, why: str) -> "Interval":
        return cls(math.nan, math.nan, math.nan, why)

    def as_json(self) -> dict[str, Any]:
        """`value`, `low`, `high`; nulls and `undefined`, the reason, where there is no number."""
        if math.isnan(self.value):
            return {"value": None, "low": None, "high": None, "undefined": self.why}
        return {"value": self.value, "low": self.low, "high": self.high}


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


@dataclass(frozen=True)
class _Auroc:
    """One AUROC with what each case adds to its error, and a standard deviation that no case accounts for."""

    value: float
    influence: NDArray[np.float64]
    spare: float


def _placements(scores: Floats, others: Floats) -> NDArray[np.float64]:
    """The share of `others` below each score, ties counting half: DeLong's structural components."""
    others = np.sort(others)
    return (np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")) / (2 * len(others))


def _structure(scores: Floats, positive: NDArray[np.bool_], level: float) -> _Auroc:
    """DeLong et al. 1988 in O(n log n), as Sun & Xu 2014 showed; the sum of squared influences is DeLong's variance."""
    m, n = int(positive.sum()), int((~positive).sum())
    influence = np.zeros(len(scores))
    if m == 0 or n == 0:
        return _Auroc(math.nan, influence, math.nan)
    v10 = _placements(scores[positive], scores[~positive])
    v01 = 1 - _placements(scores[~positive], scores[positive])
    value = float(v10.mean())
    if value in (0, 1):
        # min(m, n) disjoint pairs were all concordant, and these are independent: Clopper & Pearson's bound for them
        return _Auroc(value, influence, (1 - ((1 - level) / 2) ** (1 / min(m, n))) / _z(level))
    if m == 1 or n == 1:
        # one case has no sample variance; the largest possible is that of Birnbaum & Klose 1957
        return _Auroc(value, influence, math.sqrt(value * (1 - value)))
    influence[positive] = (v10 - value) / math.sqrt(m * (m - 1))
    influence[~positive] = (v01 - value) / math.sqrt(n * (n - 1))
    return _Auroc(value, influence, 0.0)


def auroc_interval(probabilities: Floats, labels: Integers, task: Task, level: float = 0.95) -> Interval:
    """AUROC, or its mean over classes or labels, with a logit-transformed DeLong interval (Pepe 2003, ch. 5).

    For a mean of AUROCs the influences of a case on each are averaged first, so that what they share, the cases, counts
    once; with one AUROC this is DeLong's variance, small-sample correction and all. An AUROC of exactly 1 or 0, of
    which DeLong says that it is certain, gets the exact binomial bound of min(positives, negatives) disjoint pairs
    instead, and a class with a single case the largest variance that there can be; both are wide on purpose, and
    in a mean they count as fully correlated. All NaN when a class is missing (see `metrics.auroc`).
    """
    labels = check_probabilities(probabilities, labels, task)
    parts = [_structure(*problem, level) for problem in zip(*one_vs_rest(probabilities, labels, task), strict=True)]
    value = float(np.mean([part.value for part in parts]))
    variance = np.square(np.mean([part.influence for part in parts], axis=0)).sum()
    deviation = math.sqrt(variance + np.mean([part.spare for part in parts]) ** 2)
    if math.isnan(value):
        return Interval.undefined(why_undefined(labels, probabilities.shape[1], task) or "")
    if value in (0, 1):
        ends = value - _z(level) * deviation, value + _z(level) * deviation
    else:
        reach = _z(level) * deviation / (value * (1 - value))
        ends = expit(logit(value) - reach), expit(logit(value) + reach)
    return Interval(value, max(float(ends[0]), 0.0), min(float(ends[1]), 1.0))


def accuracy_interval(probabilities: Floats, labels: Integers, task: Task, level: float = 0.95) -> Interval:
    """Accuracy with Wilson's score interval (Wilson 1927).

    Multilabel: the labels of a case are not independent, so the number of trials is the effective one, that of as many
    independent labels as would vary like the cases' shares of right labels (Korn & Graubard 1998), between cases
    and cases x labels; where every case has the same share, the number of cases.
    """
    labels = check_probabilities(probabilities, labels, task)
    value = accuracy(probabilities, labels, task)
    right = correct(probabilities, labels, task)
    trials = float(len(right))
    if right.ndim == 2 and (spread := float(right.mean(axis=1).var())) > 0:
        trials = min(value * (1 - value) * trials / spread, float(right.size))
    return _wilson(value, trials, _z(level))


def _wilson(value: float, trials: float, z: float) -> Interval:
    centre = (value + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * math.sqrt(value * (1 - value) / trials + z**2 / (4 * trials**2))
    # at 0 and 1 the formula gives the value itself, up to rounding
    return Interval(value, max(min(centre - reach, value), 0.0), min(max(centre + reach, value), 1.0))
