"""Which of two models is better on the same cases, and could it be luck: paired differences.

Both take the probabilities (cases, classes) of two models and the labels that they share as `metrics` has them, treat
the cases as a sample and the models as given, and raise ValueError where `metrics` would.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, rankdata

from medtune.evaluation.intervals import Interval, accuracy_interval, auroc_parts, normal_quantile
from medtune.evaluation.metrics import Floats, Integers, check_probabilities, correct, one_vs_rest, why_undefined
from medtune.task import Task


@dataclass(frozen=True)
class Difference:
    """The first model's number less the second's, the two ends of its confidence interval, and the two-sided p of no
    difference. Where it is undefined all four are NaN and `why` says in words what is missing."""

    value: float
    low: float
    high: float
    p: float
    why: str = ""

    @classmethod
    def undefined(cls, why: str) -> "Difference":
        return cls(math.nan, math.nan, math.nan, math.nan, why)

    def as_json(self) -> dict[str, Any]:
        """`value`, `low`, `high`, `p`; nulls and `undefined`, the reason, where there is no number."""
        if math.isnan(self.value):
            return {"value": None, "low": None, "high": None, "p": None, "undefined": self.why}
        return {"value": self.value, "low": self.low, "high": self.high, "p": self.p}


def auroc_difference(first: Floats, second: Floats, labels: Integers, task: Task, level: float = 0.95) -> Difference:
    """Difference of two AUROCs, or of their means over classes or labels (DeLong et al. 1988).

    What a case adds to the error of the first is taken from what it adds to that of the second before squares are
    summed, so that what the models share cancels. Where DeLong knows of no error, at an AUROC of exactly 1 or 0 or a
    class with a single case, both get the spare deviations of `auroc_interval` as if they were independent; models
    that rank the cases alike differ by nothing, for certain. Undefined when a class is missing.
    """
    labels = check_probabilities(first, labels, task)
    check_probabilities(second, labels, task)
    if why := why_undefined(labels, first.shape[1], task):
        return Difference.undefined(why)
    pairs = list(zip(auroc_parts(first, labels, task, level), auroc_parts(second, labels, task, level), strict=True))
    value = float(np.mean([one.value - other.value for one, other in pairs]))
    influence = np.mean([one.influence - other.influence for one, other in pairs], axis=0)
    apart = ~_ranked_alike(first, second, labels, task)
    spare = np.mean([math.hypot(one.spare, other.spare) for one, other in pairs] * apart)
    deviation = math.sqrt(np.square(influence).sum() + spare**2)
    p = 2 * float(norm.sf(abs(value) / deviation)) if deviation > 0 else 1.0
    reach = normal_quantile(level) * deviation
    return Difference(value, max(value - reach, -1.0), min(value + reach, 1.0), p)


def _ranked_alike(first: Floats, second: Floats, labels: Integers, task: Task) -> NDArray[np.bool_]:
    """Which of the problems' scores have the cases in one order, ties included: (problems,)."""
    one, other = (rankdata(one_vs_rest(model, labels, task)[0], axis=1) for model in (first, second))
    return (one == other).all(axis=1)


def accuracy_difference(first: Floats, second: Floats, labels: Integers, task: Task, level: float = 0.95) -> Difference:
    """Difference of two accuracies, with Newcombe's interval and McNemar's exact p.

    The interval squares and adds the distances of both Wilson intervals from their values, less what the models share
    (Newcombe 1998, method 10; for multilabel with the plain correlation of the cases' shares of right labels and the
    intervals of `accuracy_interval`, as Zou & Donner 2008 generalised it). p is that of the sign test on the cases that
    one model alone got right (McNemar 1947); for multilabel, whose labels of a case are no independent trials, that of
    McNemar's statistic over cases as clusters (Obuchowski 1998), an approximation.
    """
    labels = check_probabilities(first, labels, task)
    one, other = (accuracy_interval(model, labels, task, level) for model in (first, second))
    right = [correct(model, labels, task).reshape(len(labels), -1).mean(axis=1) for model in (first, second)]
    shared = _correlation(*right) if task == "multilabel" else _corrected_phi(*right)
    low, high = _square_and_add(one, other, shared)
    p = _clustered_p(right[0] - right[1]) if task == "multilabel" else _mcnemar_p(right[0] - right[1])
    value = one.value - other.value
    return Difference(value, max(value - low, -1.0), min(value + high, 1.0), p)


def _square_and_add(one: Interval, other: Interval, shared: float) -> tuple[float, float]:
    """How far the interval of a difference reaches down and up."""
    reaches = []
    for a, b in ((one.value - one.low, other.high - other.value), (one.high - one.value, other.value - other.low)):
        reaches.append(math.sqrt(max(a * a + b * b - 2 * shared * a * b, 0.0)))
    return reaches[0], reaches[1]


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _corrected_phi(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The correlation of who is right, its numerator less half the cases where it is positive, but not below 0."""
    both, neither = float(one @ other), float((1 - one) @ (1 - other))
    first, second = float(one @ (1 - other)), float((1 - one) @ other)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    surplus = both * neither - first * second
    if margins == 0:
        return 0.0
    return (max(surplus - len(one) / 2, 0.0) if surplus > 0 else surplus) / math.sqrt(margins)


def _mcnemar_p(difference: NDArray[np.float64]) -> float:
    discordant = np.count_nonzero(difference)
    return float(binomtest(int((difference > 0).sum()), discordant).pvalue) if discordant else 1.0


def _clustered_p(difference: NDArray[np.float64]) -> float:
    squares = np.square(difference).sum()
    return 2 * float(norm.sf(abs(difference.sum()) / math.sqrt(squares))) if squares > 0 else 1.0
