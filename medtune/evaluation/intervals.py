"""How sure the numbers are: intervals for AUROC, accuracy and shares on the cases that were seen.

Those of a model take probabilities (cases, classes) and labels as `metrics` has them, treat the cases as a sample and
the model as given, and raise ValueError where `metrics` would.
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


def normal_quantile(level: float) -> float:
    """How many standard deviations each way hold `level` of a normal distribution: 1.96 for .95."""
    return NormalDist().inv_cdf((1 + level) / 2)


@dataclass(frozen=True)
class AurocParts:
    """One AUROC with what each case adds to its error, and a standard deviation that no case accounts for.

    influence: (cases,); the sum of its squares is DeLong's variance, that of products with another model's on the same
    cases DeLong's covariance. spare: above 0 where the cases say nothing, see `auroc_interval`.
    """

    value: float
    influence: NDArray[np.float64]
    spare: float


def _placements(scores: Floats, others: Floats) -> NDArray[np.float64]:
    """The share of `others` below each score, ties counting half: DeLong's structural components."""
    others = np.sort(others)
    return (np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")) / (2 * len(others))


def _structure(scores: Floats, positive: NDArray[np.bool_], level: float) -> AurocParts:
    """DeLong et al. 1988 in O(n log n), as Sun & Xu 2014 showed; the sum of squared influences is DeLong's variance."""
    m, n = int(positive.sum()), int((~positive).sum())
    influence = np.zeros(len(scores))
    if m == 0 or n == 0:
        return AurocParts(math.nan, influence, math.nan)
    v10 = _placements(scores[positive], scores[~positive])
    v01 = 1 - _placements(scores[~positive], scores[positive])
    value = float(v10.mean())
    if value in (0, 1):
        # min(m, n) disjoint pairs were all concordant, and these are independent: Clopper & Pearson's bound for them
        return AurocParts(value, influence, (1 - ((1 - level) / 2) ** (1 / min(m, n))) / normal_quantile(level))
    if m == 1 or n == 1:
        # one case has no sample variance; the largest possible is that of Birnbaum & Klose 1957
        return AurocParts(value, influence, math.sqrt(value * (1 - value)))
    influence[positive] = (v10 - value) / math.sqrt(m * (m - 1))
    influence[~positive] = (v01 - value) / math.sqrt(n * (n - 1))
    return AurocParts(value, influence, 0.0)


def auroc_interval(probabilities: Floats, labels: Integers, task: Task, level: float = 0.95) -> Interval:
    """AUROC, or its mean over classes or labels, with a logit-transformed DeLong interval (Pepe 2003, ch. 5).

    For a mean of AUROCs the influences of a case on each are averaged first, so that what they share, the cases, counts
    once; with one AUROC this is DeLong's variance, small-sample correction and all. An AUROC of exactly 1 or 0, of
    which DeLong says that it is certain, gets the exact binomial bound of min(positives, negatives) disjoint pairs
    instead, and a class with a single case the largest variance that there can be; both are wide on purpose, and
    in a mean they count as fully correlated. All NaN when a class is missing (see `metrics.auroc`).
    """
    labels = check_probabilities(probabilities, labels, task)
    parts = auroc_parts(probabilities, labels, task, level)
    return _auroc_interval(parts, why_undefined(labels, probabilities.shape[1], task) or "", level)


def auroc_intervals_per_class(
    probabilities: Floats, labels: Integers, task: Task, level: float = 0.95
) -> list[Interval]:
    """As `auroc_interval`, of each class against the rest or of each label; of class 1 alone for binary.

    One that is undefined says so, and leaves the others as they are.
    """
    labels = check_probabilities(probabilities, labels, task)
    _, positive = one_vs_rest(probabilities, labels, task)
    parts = auroc_parts(probabilities, labels, task, level)
    names = [1] if task == "binary" else range(len(parts))
    return [
        _auroc_interval([part], _one_sided(name, cases, task), level)
        for name, part, cases in zip(names, parts, positive, strict=True)
    ]


def auroc_parts(probabilities: Floats, labels: Integers, task: Task, level: float = 0.95) -> list[AurocParts]:
    """What each of the AUROCs that the task's mean is made of consists of; see `metrics.one_vs_rest`.

    level: that of the interval that a spare deviation is for.
    """
    labels = check_probabilities(probabilities, labels, task)
    return [_structure(*problem, level) for problem in zip(*one_vs_rest(probabilities, labels, task), strict=True)]


def _auroc_interval(parts: list[AurocParts], why: str, level: float) -> Interval:
    value = float(np.mean([part.value for part in parts]))
    if math.isnan(value):
        return Interval.undefined(why)
    variance = np.square(np.mean([part.influence for part in parts], axis=0)).sum()
    reach = normal_quantile(level) * math.sqrt(variance + np.mean([part.spare for part in parts]) ** 2)
    if value in (0, 1):
        ends = value - reach, value + reach
    else:
        on_scale = reach / (value * (1 - value))
        ends = expit(logit(value) - on_scale), expit(logit(value) + on_scale)
    return Interval(value, max(float(ends[0]), 0.0), min(float(ends[1]), 1.0))


def _one_sided(name: int, positive: NDArray[np.bool_], task: Task) -> str:
    amount = "every case has" if positive.all() else "no case has"
    return f"AUROC is undefined: {amount} {'label' if task == 'multilabel' else 'class'} {name}"


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
    return wilson_interval(value, trials, level)


def share_interval(part: float, whole: float, why: str, level: float = 0.95) -> Interval:
    """`part` of `whole` cases as a share with Wilson's interval; undefined because of `why` where there are none."""
    return wilson_interval(float(part / whole), float(whole), level) if whole > 0 else Interval.undefined(why)


def f1_of(share: Interval) -> Interval:
    """F1 from the share of hits among hits, misses and false alarms, of which it is an increasing function."""
    value, low, high = (2 * end / (1 + end) for end in (share.value, share.low, share.high))
    return Interval(value, low, high, share.why)


def wilson_interval(value: float, trials: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share of so many trials, which need not be a whole number."""
    low, high = wilson(np.array(value * trials), np.array(trials), level)
    return Interval(value, min(float(low), value), max(float(high), value))  # value * trials is rounded


def wilson(true: Floats, count: Floats, level: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the score interval of the shares true / count (Wilson 1927), arrays of one shape.

    count must be above 0; it need not be whole, as an effective number of cases is not.
    """
    z2 = normal_quantile(level) ** 2
    centre, reach = true + z2 / 2, np.sqrt(z2 * (true * (1 - true / count) + z2 / 4))
    # at shares of 0 and 1 the formula gives the share itself, up to rounding
    low, high = np.minimum((centre - reach) / (count + z2), true / count), (centre + reach) / (count + z2)
    return np.maximum(low, 0.0), np.minimum(np.maximum(high, true / count), 1.0)
