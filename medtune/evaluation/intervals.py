"""How sure the numbers are: intervals for AUROC, accuracy and ECE on the cases that were seen.

All take probabilities (cases, classes) and labels as `metrics` has them, treat the cases as a sample and a model as
given, and raise ValueError where `metrics` would.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from medtune.evaluation.metrics import (
    BINS,
    Floats,
    Integers,
    accuracy,
    cell_of,
    check_probabilities,
    check_range,
    confidences,
    correct,
    ece,
    one_vs_rest,
)
from medtune.task import Task


@dataclass(frozen=True)
class Interval:
    """A number and the two ends of its confidence interval; `low <= value <= high`, or NaN where undefined."""

    value: float
    low: float
    high: float


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
    check_probabilities(probabilities, labels, task)
    parts = [_structure(*problem, level) for problem in zip(*one_vs_rest(probabilities, labels, task), strict=True)]
    value = float(np.mean([part.value for part in parts]))
    variance = np.square(np.mean([part.influence for part in parts], axis=0)).sum()
    deviation = math.sqrt(variance + np.mean([part.spare for part in parts]) ** 2)
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
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


@dataclass(frozen=True)
class _Cells:
    """The bins of a reliability diagram that hold a case, of one problem after the other (multilabel has several)."""

    index: NDArray[np.intp]  # (cases, problems): which of the cells below
    problem: NDArray[np.intp]
    count: NDArray[np.float64]
    confidence: NDArray[np.float64]  # mean
    gap: NDArray[np.float64]  # mean confidence less the share that came true


def _cells(confidence: Floats, outcome: NDArray[np.bool_]) -> _Cells:
    filled, flat = np.unique(cell_of(confidence), return_inverse=True)
    count = np.bincount(flat.ravel()).astype(np.float64)
    total = np.bincount(flat.ravel(), weights=confidence.ravel())
    true = np.bincount(flat.ravel(), weights=outcome.ravel())
    return _Cells(flat.reshape(confidence.shape), filled // BINS, count, total / count, (total - true) / count)


def _noise(
    cells: _Cells, outcome: NDArray[np.bool_], generator: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    """Standard normal noise (draws, cells), correlated over the labels of a case as their residuals are."""
    size = (draws, len(cells.count))
    if outcome.shape[1] == 1:
        return generator.standard_normal(size)
    rate = cells.confidence - cells.gap
    residuals = np.zeros((len(outcome), len(cells.count)))
    np.put_along_axis(residuals, cells.index, outcome - rate[cells.index], axis=1)
    covariance = residuals.T @ residuals
    scale = np.sqrt(np.diag(covariance))
    scale[scale == 0] = 1
    correlation = covariance / np.outer(scale, scale)
    # cells that were all right or all wrong have no residuals to learn from: independent
    np.fill_diagonal(correlation, 1)
    return generator.multivariate_normal(np.zeros(size[1]), correlation, size=draws, method="eigh")


def _counts(cells: _Cells, cases: int, generator: np.random.Generator, draws: int) -> NDArray[np.float64]:
    """How many cases another sample of the same size would have in each cell: (draws, cells)."""
    problems = [cells.count[cells.problem == problem] / cases for problem in np.unique(cells.problem)]
    return np.concatenate([generator.multinomial(cases, share, size=draws) for share in problems], axis=1).astype(float)


@dataclass(frozen=True)
class _Worlds:
    """Worlds whose gaps are a multiple of those observed, and samples from them that share their random numbers."""

    cells: _Cells
    counts: NDArray[np.float64]  # (draws, cells)
    noise: NDArray[np.float64]  # (draws, cells)
    size: int  # cases x problems

    def at(self, strength: float) -> tuple[float, NDArray[np.float64]]:
        """The true ECE where gaps are `strength` times the observed ones, and the ECE of each sample: (draws,)."""
        rate = np.clip(self.cells.confidence - strength * self.cells.gap, 0, 1)
        gap = self.cells.confidence - rate
        sampled = np.abs(self.counts * gap + self.noise * np.sqrt(self.counts * rate * (1 - rate))).sum(axis=1)
        return float(self.cells.count @ np.abs(gap)) / self.size, sampled / self.size

    def not_rejected(self, observed: float, tail: float) -> list[float]:
        """The true ECEs of the worlds in which `observed` lies in neither tail of the samples."""
        # far enough for gaps to double, or to grow by 5 points where the model is nearly perfect
        strongest = 2 + 0.05 / observed if observed > 0 else 0.0
        worlds = [self.at(strength) for strength in np.linspace(0, strongest, 41)]
        return [truth for truth, sampled in worlds if tail <= np.mean(sampled >= observed) <= 1 - tail]

    def basic_bootstrap(self, tail: float) -> list[float]:
        """Both ends of the reverse percentile interval."""
        truth, sampled = self.at(1.0)
        return [2 * truth - float(quantile) for quantile in np.quantile(sampled, [1 - tail, tail])]


def ece_interval(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """ECE as `metrics.ece` gives it, with an interval for the ECE that endless cases would show in the same bins.

    Few cases make ECE too large (.096 at 78 cases of a perfectly calibrated model), and a percentile bootstrap adds the
    same error again: it hardly ever holds the truth. Here samples are drawn instead from worlds in which each bin's gap
    is s times the observed one, s >= 0, and a world is kept when the observed ECE lies within the central `level` of
    its samples' ECEs: the inversion of a test (Neyman 1937), in which s = 0 is perfect calibration. Joined with the
    basic (reverse percentile) bootstrap, the better where cases are many, and stretched to hold the value itself.
    `low` is 0 when the model cannot be told from a calibrated one.

    Held the truth at 95 %, binary, in 400 simulated sets each (`benchmarks/ece_interval.py`):

    | true ECE     | 78 cases | 156 | 624 | percentile bootstrap |
    |--------------|----------|-----|-----|----------------------|
    | 0            | .98      | .98 | .98 | 0                    |
    | .034         | .94      | .95 | .93 | 0 to .47             |
    | .060 (wavy)  | .92      | .87 | .93 | .03 to .65           |
    | .077 to .082 | .93      | .91 | .93 | .20 to .91           |
    | .131         | .92      | .90 | .92 | .65 to .90           |

    The mean of fourteen labels has less spread but the same error upwards: there .75 to .97.
    """
    value = ece(probabilities, labels, task)
    confidence, outcome = confidences(probabilities, labels, task)
    cells = _cells(confidence, outcome)
    counts = _counts(cells, len(confidence), generator, resamples)
    worlds = _Worlds(cells, counts, _noise(cells, outcome, generator, resamples), confidence.size)
    tail = (1 - level) / 2
    ends = [value, *worlds.not_rejected(value, tail), *worlds.basic_bootstrap(tail)]
    return Interval(value, max(min(ends), 0.0), min(max(ends), 1.0))


def ece_of_perfect(probabilities: Floats, task: Task, generator: np.random.Generator, resamples: int = 400) -> float:
    """The mean ECE of a perfectly calibrated model with these confidences on as many cases: what ECE reads for nothing.

    From labels drawn as the confidences say (Brocker & Smith 2007), for multilabel each label on its own.
    """
    check_range(probabilities)
    confidence = probabilities if task == "multilabel" else probabilities.max(axis=1, keepdims=True)
    cell, flat = cell_of(confidence).ravel(), confidence.ravel()
    gaps = (np.bincount(cell, weights=flat - (generator.random(flat.size) < flat)) for _ in range(resamples))
    return float(np.mean([np.abs(gap).sum() for gap in gaps]) / flat.size)
