"""Decision curves: whether acting on a model does more good than acting on everyone or on no one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.metrics import Floats, Integers, check_probabilities, one_vs_rest
from medtune.task import Task

Array = NDArray[np.float64]
THRESHOLDS: Array = np.arange(1, 100) / 100


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit of one problem at each threshold probability, in true positives a case; all arrays (thresholds,).

    Acting on no one has a net benefit of 0. `gain` is the model's less that of the better of everyone and no one,
    with the better of these as it is in the sample: above 0 the model is worth having at that threshold.
    """

    cases: int
    positives: int
    thresholds: Array
    model: Array
    low: Array
    high: Array
    treat_all: Array
    gain: Array
    gain_low: Array
    gain_high: Array

    @property
    def note(self) -> str:
        """What the curve cannot show; empty where both sides are there."""
        if self.positives in (0, self.cases):
            return f"every case is {'positive' if self.positives else 'negative'}: the curve shows one side only"
        return ""

    def as_json(self) -> dict[str, Any]:
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()
        } | {"note": self.note}


def decision_curve(
    scores: Floats,
    positive: NDArray[np.bool_],
    generator: np.random.Generator,
    thresholds: Array = THRESHOLDS,
    level: float = 0.95,
    resamples: int = 1000,
) -> DecisionCurve:
    """Decision curve analysis (Vickers & Elkin 2006) of probabilities (cases,) and who is positive (cases,).

    At a threshold probability t, whoever acts from t on holds one case treated for nothing to be worth t / (1 - t) of a
    case rightly treated. The net benefit is tp / n - fp / n * t / (1 - t), with cases at or above t positive. Only
    calibrated probabilities make sense here: of raw ones the curve shows what acting on them as they are does.

    The band is that of percentiles of a bootstrap over cases, at each threshold by itself, stretched to hold the value.
    thresholds: rising, inside 0..1. Raises ValueError unless they are, and for no case or a probability out of 0..1.
    """
    if len(scores) == 0 or not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError("probabilities in 0..1 of one case at least are needed")
    if not len(thresholds) or not (np.diff(thresholds, prepend=0, append=1) > 0).all():
        raise ValueError("threshold probabilities must rise, and lie above 0 and below 1")
    # a case matters only by its side and by how many thresholds it reaches, so the counts of these are all there is
    reached = np.searchsorted(thresholds, scores.astype(np.float64), "right")
    cells = np.bincount(reached + (len(thresholds) + 1) * positive, minlength=2 * len(thresholds) + 2)
    drawn = generator.multinomial(len(scores), cells / len(scores), size=resamples)
    counts = np.concatenate([cells[None], drawn]).astype(np.float64)
    model, treat_all = _net_benefits(counts, thresholds)
    everyone_is_better = treat_all[0] > 0
    gain = model - np.where(everyone_is_better, treat_all, 0)
    low, high = _band(model, level)
    gain_low, gain_high = _band(gain, level)
    return DecisionCurve(
        len(scores),
        int(positive.sum()),
        thresholds,
        model[0],
        low,
        high,
        treat_all[0],
        gain[0],
        gain_low,
        gain_high,
    )


def _net_benefits(counts: Array, thresholds: Array) -> tuple[Array, Array]:
    """Of the model and of everyone, (samples, thresholds), from counts (samples, 2 x (1 + thresholds reached))."""
    half, odds = len(thresholds) + 1, thresholds / (1 - thresholds)
    size = counts.sum(axis=1, keepdims=True)
    fp, tp = (side[:, ::-1].cumsum(axis=1)[:, ::-1] for side in (counts[:, :half], counts[:, half:]))
    return (tp[:, 1:] - fp[:, 1:] * odds) / size, (tp[:, :1] - fp[:, :1] * odds) / size


def _band(values: Array, level: float) -> tuple[Array, Array]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.minimum(low, values[0]), np.maximum(high, values[0])


def decision_curves(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> list[DecisionCurve]:
    """The curve of class 1 for binary, else of each class against the rest or each label. Raises as `metrics`."""
    labels = check_probabilities(probabilities, labels, task)
    problems = zip(*one_vs_rest(probabilities, labels, task), strict=True)
    return [decision_curve(*problem, generator, level=level, resamples=resamples) for problem in problems]
