"""The mean of a number over trainings that differ by their seeds alone, on the same cases.

Two things make it uncertain, and they do not shrink together: the cases, which all trainings share, and the seeds. The
error by the cases is that of the mean of what each case adds to each training's (as in DeLong et al. 1988); that by
the seeds the t-interval of the trainings. Their squares are added, so the interval is for other cases and other seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from medtune.evaluation.calibration_error import Estimate
from medtune.evaluation.intervals import Interval, auroc_parts, normal_quantile
from medtune.evaluation.metrics import Floats, Integers, check_probabilities, correct, why_undefined
from medtune.task import Task


@dataclass(frozen=True)
class Measured:
    """A number of one training. influence: (cases,), what each case adds to its error, as in `AurocParts`; spare: a
    deviation that no case accounts for. Where it is undefined it is NaN, and `why` says what is missing."""

    value: float
    influence: NDArray[np.float64]
    spare: float = 0.0
    why: str = ""


def measured_auroc(probabilities: Floats, labels: Integers, task: Task) -> Measured:
    """Shapes as in `metrics`. The mean over classes or labels where there are several."""
    labels = check_probabilities(probabilities, labels, task)
    parts = auroc_parts(probabilities, labels, task)
    influence = np.mean([part.influence for part in parts], axis=0)
    why = why_undefined(labels, probabilities.shape[1], task) or ""
    return Measured(
        float(np.mean([part.value for part in parts])), influence, float(np.mean([part.spare for part in parts])), why
    )


def measured_accuracy(probabilities: Floats, labels: Integers, task: Task) -> Measured:
    """Of several labels the share of them that is right in each case. All right or all wrong is as sure as one case in
    as many could have been otherwise."""
    labels = check_probabilities(probabilities, labels, task)
    right = correct(probabilities, labels, task).reshape(len(labels), -1).mean(axis=1)
    cases, value = len(right), float(right.mean())
    influence = (right - value) / np.sqrt(cases * max(cases - 1, 1))
    return Measured(value, influence, 1 / (cases + 1) if value in (0, 1) else 0.0)


def mean_over_seeds(each: Sequence[Measured], level: float = 0.95) -> Interval:
    """Of numbers from 0 to 1."""
    found = difference_over_seeds(each, None, level)
    return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0), found.why)


def difference_over_seeds(each: Sequence[Measured], others: Sequence[Measured] | None, level: float = 0.95) -> Interval:
    """Of the means, paired: seed by seed, and case by case. others: as many as `each`; None: nothing is taken off."""
    for one in [*each, *(others or ())]:
        if np.isnan(one.value):
            return Interval.undefined(one.why)
    nothing = Measured(0.0, np.zeros_like(each[0].influence))
    pairs = list(zip(each, others or [nothing] * len(each), strict=True))
    values = np.array([one.value - other.value for one, other in pairs])
    influence = np.mean([one.influence - other.influence for one, other in pairs], axis=0)
    spare = np.mean([np.hypot(one.spare, other.spare) for one, other in pairs])
    by_cases = normal_quantile(level) * math.sqrt(float(np.square(influence).sum() + spare**2))
    reach = math.hypot(by_cases, reach_of_seeds(values, level))
    value = float(values.mean())
    return Interval(value, value - reach, value + reach)


def mean_calibration_error(each: Sequence[Estimate], level: float = 0.95) -> dict[str, float]:
    """`value`, the plain mean; `debiased`, `low` and `high` of the true error; `if_perfect`: see `Estimate`.

    The ends of the trainings' own intervals are averaged, as their cases are the same, and the seeds are added.
    """
    debiased = np.array([one.debiased for one in each])
    truth, seeds = float(debiased.mean()), reach_of_seeds(debiased, level)
    below, above = truth - np.mean([one.low for one in each]), np.mean([one.high for one in each]) - truth
    return {
        "value": float(np.mean([one.value for one in each])),
        "debiased": truth,
        "low": max(truth - math.hypot(max(float(below), 0.0), seeds), 0.0),
        "high": min(truth + math.hypot(max(float(above), 0.0), seeds), 1.0),
        "if_perfect": float(np.mean([one.if_perfect for one in each])),
    }


def reach_of_seeds(values: NDArray[np.float64], level: float) -> float:
    """Half of the t-interval of the mean; 0 of a single one, which says nothing of others."""
    if len(values) < 2:
        return 0.0
    return float(t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
