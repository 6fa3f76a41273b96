"""A bootstrap over cases for the numbers of discrimination that no formula gives an interval for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from medtune.evaluation.intervals import Interval
from medtune.evaluation.metrics import Floats, Integers, one_vs_rest
from medtune.evaluation.resampling import Booleans, resampled
from medtune.task import Task

Array = NDArray[np.float64]
Weights = NDArray[np.float32]  # (rows, cases): whole numbers


def case_weights(cases: int, resamples: int, generator: np.random.Generator) -> Iterator[Weights]:
    """How often each case counts, (rows, cases) at a time: once for the sample as it is, then for each resample.

    Cases are drawn without regard to their class: average precision and precision depend on how frequent a class is,
    and that is as uncertain as the rest.
    """
    yield np.ones((1, cases), np.float32)
    for counts in resampled(cases, resamples, generator):
        yield counts.astype(np.float32)


def mean_interval(
    draws: Array,
    fallbacks: list[Interval],
    single: NDArray[np.bool_],
    level: float,
    lowest: float = 0.0,
) -> Interval:
    """The mean of some numbers in lowest..1 with its basic (reverse percentile) bootstrap interval on the logit scale
    (Davison & Hinkley 1997, ch. 5), where average precision, which resamples overstate, is held far better than by the
    percentiles.

    draws: (1 + resamples, numbers), the sample first. A number that is undefined in a resample (NaN) stays as it was.
    Where no resample moves a number, as when every case was right, or where a class has a `single` case (numbers,), the
    bootstrap would call it certain. There the distance to the end of its own fallback interval is added, in squares;
    such distances count as fully correlated, as for AUROC.
    Undefined where one of the fallbacks is, for the same reason.

    Held the truth at 95 %, in 400 simulated sets each of 80 to 250 cases, two to seven classes or five labels: average
    precision .91 to .95 (percentiles, cases drawn by class: .86 to .90), macro means and kappa .93 to .97.
    """
    for fallback in fallbacks:
        if np.isnan(fallback.value):
            return fallback
    draws = np.where(np.isnan(draws), draws[:1], draws)
    value = float(draws[0].mean())
    low, high = _reflected(draws.mean(axis=1), level, lowest)
    # at the end of the scale a reflection has no room
    blind = single | (draws == draws[:1]).all(axis=0) | np.isin(draws[0], [lowest, 1.0])
    below = draws[0] - [fallback.low for fallback in fallbacks]
    above = [fallback.high for fallback in fallbacks] - draws[0]
    down = np.hypot(np.clip(value - low, 0, below.mean()), (blind * below).mean())
    up = np.hypot(np.clip(high - value, 0, above.mean()), (blind * above).mean())
    return Interval(value, max(float(value - down), lowest), min(float(value + up), 1.0))


def _reflected(means: Array, level: float, lowest: float) -> tuple[float, float]:
    # an end of the scale is as far away as anything needs to be
    scale = logit(np.clip((means - lowest) / (1 - lowest), 1e-9, 1 - 1e-9))
    ends = 2 * scale[0] - np.quantile(scale, [(1 + level) / 2, (1 - level) / 2])
    low, high = lowest + (1 - lowest) * expit(ends)
    return float(low), float(high)


@dataclass(frozen=True)
class Sample:
    """What each case is, was called and scored, as one problem a class or label: (cases, problems)."""

    positive: Booleans
    decided: Booleans
    rankings: tuple["_Ranking", ...]
    steps: NDArray[np.float64]  # (cases, 5): what quadratic kappa is a function of the sums of

    @classmethod
    def of(cls, probabilities: Floats, labels: Integers, task: Task, predicted: Integers) -> "Sample":
        """probabilities, labels: as `metrics`, checked; task: not binary. predicted: of the shape of the labels."""
        scores, positive = one_vs_rest(probabilities, labels, task)
        _, decided = one_vs_rest(probabilities, predicted, task)
        rankings = tuple(_Ranking.of(*problem) for problem in zip(scores, positive, strict=True))
        y, called = labels.astype(float), predicted.astype(float)
        steps = np.stack([(y - called) ** 2, y**2, called**2, y, called], axis=-1)
        return cls(positive.T, decided.T, rankings, steps)

    @cached_property
    def actual(self) -> NDArray[np.intp]:
        """How many cases are positive: (problems,)."""
        return self.positive.sum(axis=0)

    @cached_property
    def called(self) -> NDArray[np.intp]:
        return self.decided.sum(axis=0)

    @cached_property
    def hits(self) -> NDArray[np.intp]:
        return (self.positive & self.decided).sum(axis=0)

    def draws(self, weights: Iterable[Weights]) -> dict[str, Array]:
        """`numbers` of all rows of weights."""
        blocks = [self.numbers(rows) for rows in weights]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def numbers(self, weights: Weights) -> dict[str, Array]:
        """precision, recall, specificity, f1, average_precision (rows, problems) and kappa (rows, 1); NaN where
        undefined. Sums are exact in float32 up to 16 million cases."""
        hits = (weights @ (self.positive & self.decided)).astype(float)
        called, actual = (weights @ self.decided).astype(float), (weights @ self.positive).astype(float)
        every = weights.sum(axis=1, dtype=float)[:, None]
        return {
            "precision": _ratio(hits, called),
            "recall": _ratio(hits, actual),
            "specificity": _ratio(every - called - actual + hits, every - actual),
            "f1": _ratio(2 * hits, called + actual),
            "average_precision": np.stack([ranking.average_precision(weights) for ranking in self.rankings], axis=1),
            "kappa": self._kappa(weights, every) if self.steps.ndim == 2 else np.empty((len(weights), 0)),
        }

    def _kappa(self, weights: Weights, every: Array) -> Array:
        """Cohen 1968 with quadratic weights: 1 less the squared steps observed over those expected by chance."""
        observed, y2, called2, y, called = (weights @ self.steps).T[..., None]
        return 1 - _ratio(observed, y2 + called2 - 2 * y * called / every)


@dataclass(frozen=True)
class _Ranking:
    """One problem's cases from the highest score down."""

    order: NDArray[np.intp]
    at: NDArray[np.intp]  # the places of the positives
    through: NDArray[np.intp]  # the last place with the score of each positive
    positives_through: NDArray[np.intp]  # which positive is the last one with its score

    @classmethod
    def of(cls, scores: Floats, positive: Booleans) -> "_Ranking":
        order = np.argsort(-scores, kind="stable")
        falling, at = -scores[order], np.flatnonzero(positive[order])
        through = np.searchsorted(falling, falling[at], "right") - 1
        return cls(order, at, through, np.searchsorted(falling[at], falling[at], "right") - 1)

    def average_precision(self, weights: Weights) -> Array:
        """The sum over scores of the recall gained times the precision there: (rows,). As scikit-learn's."""
        ranked = weights[:, self.order]
        gained = ranked[:, self.at].astype(float)
        precision = _ratio(
            np.cumsum(gained, axis=1)[:, self.positives_through],
            np.cumsum(ranked, axis=1, dtype=float)[:, self.through],
            empty=0.0,
        )
        return _ratio((gained * precision).sum(axis=1), gained.sum(axis=1))


def _ratio(part: NDArray[Any], whole: NDArray[Any], empty: float = np.nan) -> Array:
    return np.divide(part, whole, out=np.full(np.shape(part), empty), where=whole > 0)
