"""How sure a calibration error is: an estimate without most of its bias, an interval, a test against perfect
calibration.

A reliability diagram of few cases has gaps from noise alone, and an ECE sums them up: .10 at 78 cases of a perfectly
calibrated model. A percentile bootstrap adds the same noise again; its interval hardly ever holds the truth.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtune.evaluation.calibration import KINDS, Binned, Kind, binned, looked_at
from medtune.evaluation.gap_worlds import Array, walk
from medtune.evaluation.metrics import Floats, Integers, check_probabilities
from medtune.evaluation.perfect_calibration import errors_if_perfect
from medtune.task import Task

SIZE = 0.05  # of the test


@dataclass(frozen=True)
class Estimate:
    """A calibration error and how sure it is. Where it is undefined the numbers are NaN and `why` says what is missing.

    `value` is the plain number; `debiased` the estimate of the true error, that of endless cases in the same bins;
    `low` and `high` its 95 % interval, which need not hold the plain number. `if_perfect` is what a perfectly
    calibrated model with these confidences would read on average, and `p` the share of such readings that are at least
    as large. An MCE has no interval: it is the gap of one bin, which may hold a single case.
    """

    kind: Kind
    cases: int
    value: float
    debiased: float
    low: float
    high: float
    if_perfect: float
    p: float
    why: str = ""

    @classmethod
    def undefined(cls, kind: Kind, cases: int, why: str) -> "Estimate":
        return cls(kind, cases, *(math.nan,) * 6, why)

    @property
    def told_from_perfect(self) -> bool:
        return self.p < SIZE

    @property
    def words(self) -> str:
        """What it means, in a sentence."""
        if self.why:
            return f"undefined: {self.why}"
        cases = "1 case" if self.cases == 1 else f"{self.cases:,} cases"
        most = "" if math.isnan(self.high) else f"; the true error is at most {self.high:.3f}"
        within = f"{self.low:.3f} to {self.high:.3f}" if self.low >= 0.0005 else f"at most {self.high:.3f}"
        ends = "" if math.isnan(self.high) else f": the true error is {within}"
        if self.told_from_perfect:
            return f"not calibrated (p = {self.p:.3f} with {cases}){ends}"
        return (
            f"cannot be told from calibrated with {cases}: it reads {self.value:.3f}, a perfectly calibrated model "
            f"{self.if_perfect:.3f} on average{most}"
        )

    def as_json(self) -> dict[str, Any]:
        """The numbers by name, null where there is none, and `words`, or `undefined`, the reason."""
        names = ("value", "debiased", "low", "high", "if_perfect", "p")
        numbers = {name: None if math.isnan(number := getattr(self, name)) else number for name in names}
        return {**numbers, "cases": self.cases, **({"undefined": self.why} if self.why else {"words": self.words})}


def calibration_estimates(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    generator: np.random.Generator,
    kinds: Iterable[Kind] = tuple(KINDS.values()),
    level: float = 0.95,
    draws: int = 1000,
) -> dict[str, Estimate]:
    """An estimate of each kind, by its name; undefined with a reason where the task has none.

    Test: labels drawn as the probabilities say (Brocker & Smith 2007; Vaicenavicius et al. 2019), for multilabel as
    correlated over the labels of a case as they are here.

    Interval: the inversion of a test (Neyman 1937). `gap_worlds` draws validation sets from worlds with ever larger
    true error, in which it is spread over the bins in the two ways that make noise add least and most to it, and in one
    between. A world is kept when the observed error lies within the central `level` of its samples, and perfect
    calibration is among them when the test does not reject it at 5 %, whatever the level. `debiased` is the true error
    of that world of the path between in which samples show the observed one on average, with noise half way between
    that world's and that of the observed rates.

    In 1,000 simulated sets of 78 to 624 cases, true ECE 0 to .13, the interval held it in .97 to 1.00: it is wide on
    purpose (.16 to .23 at 78 cases, .06 to .09 at 600), as how the error lies over the bins is not known. The bias left
    is .4 of the plain one at perfect calibration, near 0 at most other worlds, and half where one bin has all of the
    error; from a truth of .2 on, where the plain bias is small, 78 cases get as much too little as the plain has too
    much. Means over classes or labels are held as often, at widths of .07 to .14 and .02 to .06; there the debiased
    number hangs most on how the error is spread. `benchmarks/intervals.py` has the tables.

    Raises ValueError as `metrics.check_probabilities`.
    """
    labels = check_probabilities(probabilities, labels, task)
    probabilities, kinds, cases = probabilities.astype(np.float64), list(kinds), len(probabilities)
    defined = [kind for kind in kinds if kind.why_undefined(task) is None]
    shown = [binned(probabilities, labels, task, kind) for kind in defined]
    looks = [looked_at(probabilities, task, kind) for kind in defined]
    perfect = errors_if_perfect(probabilities, labels, task, list(zip(shown, looks, strict=True)), generator, draws)
    estimates = {
        kind.name: _estimate(kind, one, errors, generator, level, draws)
        for kind, one, errors in zip(defined, shown, perfect, strict=True)
    }
    return {
        kind.name: estimates.get(kind.name) or Estimate.undefined(kind, cases, kind.why_undefined(task) or "")
        for kind in kinds
    }


def calibration_estimate(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    kind: Kind,
    generator: np.random.Generator,
    level: float = 0.95,
    draws: int = 1000,
) -> Estimate:
    """The estimate of one kind, as `calibration_estimates` has it."""
    return calibration_estimates(probabilities, labels, task, generator, [kind], level, draws)[kind.name]


def _estimate(
    kind: Kind, shown: Binned, perfect: Array, generator: np.random.Generator, level: float, draws: int
) -> Estimate:
    value = shown.value
    # the observed labels are one of the sets that a perfectly calibrated model could have met
    p = float((1 + np.sum(perfect >= value - 1e-12)) / (1 + len(perfect)))
    against = float(perfect.mean()), p
    if kind.worst:
        return Estimate(kind, len(shown.confidence), value, math.nan, math.nan, math.nan, *against)
    paths = walk(shown, generator, draws)
    debiased = paths[0].mean_is(value)
    ends = [path.not_rejected((1 - level) / 2) for path in paths]
    low = 0.0 if p >= SIZE else min(debiased, *(low for low, _ in ends))
    # labels more regular than any chance would have them leave no world: noise adds to an error, so it is at most this
    high = max(debiased, *(high for _, high in ends)) or value
    return Estimate(kind, len(shown.confidence), value, debiased, low, high, *against)
