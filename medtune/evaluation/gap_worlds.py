"""Worlds in which a model's bins have other gaps than the observed ones, and what a validation set would show there.

A calibration error is a sum of absolute gaps, and noise adds to those. How much it adds depends on how the true error
lies over the bins, which is not known: most where a few bins have all of it, least where each has a part in proportion
to its noise (the mean of |gap + noise| is convex in the gap). So worlds are tried along several paths, from perfect
calibration upwards, and an interval is made of what is not refuted on any of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaln

from medtune.evaluation.calibration import Binned

Array = NDArray[np.float64]
Singles = NDArray[np.float32]  # of samples: a third digit is more than they are good for
STEPS = 41  # worlds on a path


@dataclass(frozen=True)
class _Seen:
    """The cells as they were seen, (cells,) each."""

    count: Array
    mean: Array  # confidence
    gap: Array  # mean confidence less the share that came true

    @classmethod
    def of(cls, binned: Binned) -> "_Seen":
        return cls(binned.count, binned.mean, binned.excess / binned.count)

    def likely(self, rate: Array) -> Array:
        """A rate after one more case that is as calibrated as said: a cell that was all right is not without noise."""
        return (self.count * rate + self.mean) / (self.count + 1)

    @property
    def variance(self) -> Array:
        """Of the number that came true."""
        rate = self.likely(self.mean - self.gap)
        return self.count * rate * (1 - rate)

    def noise(self, rate: Array) -> Array:
        """Deviation of normal noise that is as large on average as that of a binomial number (De Moivre's formula).

        In cells of a few cases the two differ by a tenth, which the mean over many labels would show.
        """
        p = np.clip(self.likely(rate), 1e-12, 1 - 1e-12)
        below = np.minimum(np.floor(self.count * p), self.count - 1)
        ways = gammaln(self.count + 1) - gammaln(below + 2) - gammaln(self.count - below)
        chance = np.exp(ways + (self.count - below) * np.log1p(-p) + (below + 1) * np.log(p))
        return math.sqrt(2 * math.pi) * (below + 1) * chance


def _as_observed(seen: _Seen, sums: Array) -> Array:
    """Every gap the same multiple of the observed one."""
    total = np.abs(seen.gap) @ seen.count
    return seen.gap * (sums / total)[:, None] if total > 0 else _everywhere(seen, sums)


def _everywhere(seen: _Seen, sums: Array) -> Array:
    """Every gap the same multiple of its standard error, on the observed side of perfect while there is room."""
    unit = np.sqrt(seen.variance + 1e-9)
    gap = np.where(seen.gap < 0, -unit, unit) / seen.count * (sums / unit.sum())[:, None]
    return np.where((gap > seen.mean) | (gap < seen.mean - 1), -gap, gap)


def _in_few(seen: _Seen, sums: Array) -> Array:
    """The observed gaps one after the other, those that weigh most first; beyond all of them as `_as_observed`."""
    parts = seen.count * np.abs(seen.gap)
    order = np.argsort(-parts, kind="stable")
    before = np.empty_like(parts)
    before[order] = np.cumsum(parts[order]) - parts[order]
    filled = np.clip(sums[:, None] - before, 0, parts)
    return np.where(sums[:, None] > parts.sum(), _as_observed(seen, sums), np.sign(seen.gap) * filled / seen.count)


# The noise of a world is that of its rates. On the path that the estimate is from it lies half way to that of the
# observed rates: these alone have too little noise in bins of a few cases, and the others alone too much where a model
# is underconfident, whose gaps would then pass for noise.
PATHS: tuple[tuple[Callable[[_Seen, Array], Array], float], ...] = (
    (_as_observed, 0.5),
    (_everywhere, 0.0),
    (_in_few, 0.0),
)


@dataclass(frozen=True)
class Path:
    """Worlds on a path, (worlds,) each and rising: the true error; the mean error of their samples; the share of
    samples that show at least what was observed, and the share of those that show more."""

    truth: Array
    mean: Array
    at_least: Array
    more: Array

    def mean_is(self, value: float) -> float:
        """The true error of the world whose samples show `value` on average; 0 where all show more."""
        return float(np.interp(value, self.mean, self.truth, left=0.0))

    def not_rejected(self, tail: float) -> tuple[float, float]:
        """The least and greatest true error of the worlds where what was observed lies in neither tail."""
        low = np.interp(tail, self.at_least, self.truth)
        high = np.interp(1 - tail, self.more, self.truth)
        return float(low), float(high)


def walk(binned: Binned, generator: np.random.Generator, draws: int) -> list[Path]:
    """The paths: as observed, everywhere, in few. Their samples, `draws` from each world, share their noise."""
    seen, value = _Seen.of(binned), binned.value
    counts, normal = _counts(binned, generator, draws), _normal(binned, seen, generator, draws)
    observed_noise, paths = seen.noise(seen.mean - seen.gap), []
    for path, of_observed in PATHS:
        rates = np.clip(seen.mean - path(seen, _sums(binned, seen)), 0, 1)
        worlds = np.empty((len(rates), 4))
        for world, rate in zip(worlds, rates, strict=True):
            gap = seen.mean - rate
            noise = of_observed * observed_noise + (1 - of_observed) * seen.noise(rate)
            sampled = _sampled(counts, gap, normal, noise) / binned.size
            # a number of cases moves in steps: half a step is what the upper end is short of
            more = sampled > value + 0.5 / binned.size
            world[:] = np.abs(gap) @ seen.count / binned.size, sampled.mean(), np.mean(sampled >= value), more.mean()
        paths.append(Path(*np.maximum.accumulate(worlds).T))
    return paths


def _sampled(counts: Singles, gap: Array, normal: Singles, noise: Array) -> Singles:
    """Sum of |gap| over the cases of each sample, (draws,)."""
    excess = counts * gap.astype(np.float32)
    excess += normal * noise.astype(np.float32)
    return np.asarray(np.abs(excess, out=excess) @ np.ones(len(gap), np.float32))


def _sums(binned: Binned, seen: _Seen) -> Array:
    """The sums of |gap| over the cases that the worlds of a path have: as far as any could be believed."""
    of_problems = np.sqrt(np.bincount(binned.problem, weights=seen.variance)).sum()
    furthest = np.abs(binned.excess).sum() + 4 * of_problems + 5
    return np.linspace(0, min(furthest, binned.size), STEPS)


def _counts(binned: Binned, generator: np.random.Generator, draws: int) -> Singles:
    """How many cases another sample of the same size would have in each cell: (draws, cells)."""
    cases = len(binned.confidence)
    problems = [binned.count[binned.problem == problem] / cases for problem in range(binned.confidence.shape[1])]
    drawn = [generator.multinomial(cases, share, size=draws) for share in problems]
    return np.concatenate(drawn, axis=1).astype(np.float32)


def _normal(binned: Binned, seen: _Seen, generator: np.random.Generator, draws: int) -> Singles:
    """Standard normal noise (draws, cells), correlated over cells that share cases."""
    normal = generator.standard_normal((draws, len(seen.count)), dtype=np.float32)
    if binned.confidence.shape[1] == 1:
        return normal
    residual = binned.outcome - (seen.mean - seen.gap)[binned.index]
    correlation = _shared(binned) * correlation_of(residual)[np.ix_(binned.problem, binned.problem)]
    return normal @ root_of(correlation).T.astype(np.float32)


def _shared(binned: Binned) -> Array:
    """The cases that two cells have in common, by the geometric mean of their counts: (cells, cells)."""
    cases, problems = binned.index.shape
    rows = np.repeat(np.arange(cases), problems)
    member = csr_array((np.ones(binned.size), (rows, binned.index.ravel())))
    return (member.T @ member).toarray() / np.sqrt(np.outer(binned.count, binned.count))


def correlation_of(residual: Array) -> Array:
    """Correlation (problems, problems) of residuals (cases, problems) whose mean is 0."""
    squares = residual.T @ residual
    scale = np.sqrt(np.diag(squares))
    scale[scale == 0] = 1
    correlation = squares / np.outer(scale, scale)
    # a problem without residuals has nothing to be correlated with
    np.fill_diagonal(correlation, 1)
    return correlation


def root_of(correlation: Array) -> Array:
    """A matrix whose square (with its transpose) is the correlation, or what is left of it without negative parts."""
    values, vectors = np.linalg.eigh(correlation)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))
