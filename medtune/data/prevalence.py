"""Whether classes are as frequent in one split as in another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import MonteCarloMethod, chi2_contingency, fisher_exact

Counts = npt.NDArray[np.int64]

FEWEST = 5  # expected cases in a cell below which the chi-square distribution is no good approximation (Cochran 1954)
DRAWN = 9_999  # tables; the least p-value that they can give is .0001


@dataclass(frozen=True)
class Shift:
    """A test of equal frequencies. test: its name. p: None where there is nothing to test. v: Cramér's V, 0 to 1."""

    test: str
    p: float | None
    v: float


def prevalence_shift(counts: Counts, rng: np.random.Generator) -> Shift:
    """counts: (splits, classes) cases. Chi-square where every cell expects five cases or more; else exact: Fisher for
    two by two, else Freeman and Halton 1951 by tables drawn with `rng`. V: Cramér 1946, section 21.9."""
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    if min(counts.shape) < 2:
        return Shift("none: one class or one split", None, 0.0)
    statistic, p, _, expected = chi2_contingency(counts, correction=False)
    v = float(np.sqrt(statistic / (counts.sum() * (min(counts.shape) - 1))))
    if expected.min() >= FEWEST:
        return Shift("chi-square", float(p), v)
    if counts.shape == (2, 2):
        return Shift("Fisher's exact test", float(fisher_exact(counts).pvalue), v)
    drawn = fisher_exact(counts, method=MonteCarloMethod(n_resamples=DRAWN, rng=rng))
    return Shift(f"Freeman and Halton's exact test, {DRAWN:,} tables drawn", float(drawn.pvalue), v)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p-values of several tests, each raised so that by chance alone one of them falls below .05 in at most one
    set in twenty (Holm 1979). None stays None and counts for nothing."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        adjusted[place] = least
    return adjusted
