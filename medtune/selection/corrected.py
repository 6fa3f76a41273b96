"""What the chosen candidate is worth, once it is counted that it was chosen on the cases that it is judged by."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from medtune.config.trial import Metric
from medtune.evaluation.intervals import Interval, normal_quantile
from medtune.selection.candidates import Candidates, Draws, best_of_trials

_LEFT_OUT = math.exp(-1)  # the share of the cases that a resample leaves out
_BETTER_HALF = 1 - 2 / math.pi  # the variance of the better half of a normal sample, as a part of the whole sample's
_FEWEST = 8  # trials from which a spread can be told
_HIGHEST: dict[Metric, float] = {"val/loss": math.inf, "val/brier": 2.0}  # 1 for the others


@dataclass(frozen=True)
class Corrected:
    """The best candidate's score as it reads, `raw`, and what it is worth, `interval`, both as the metric reads."""

    raw: float
    interval: Interval

    @property
    def value(self) -> float:
        return self.interval.value

    @property
    def optimism(self) -> float:
        """`raw` less what it is worth: above 0 where a metric flatters of which more is better, below 0 where less is.
        NaN where there is no corrected score."""
        return self.raw - self.value

    def as_json(self) -> dict[str, Any]:
        """`raw`, `corrected`, `optimism` and `corrected_interval`; nulls where there is no corrected score."""
        known = not math.isnan(self.value)
        return {
            "raw": self.raw,
            "corrected": self.value if known else None,
            "optimism": self.optimism if known else None,
            "corrected_interval": self.interval.as_json(),
        }


def corrected(
    candidates: Candidates, draws: Draws, tied: NDArray[np.intp], raw: Interval, level: float = 0.95
) -> Corrected:
    """What the best candidate is worth on cases that had no part in choosing it.

    The bootstrap bias corrected score (BBC, Tsamardinos et al. 2018): the winner of each resample, scored on the cases
    that the resample left out, on average over the resamples where that is defined. Those winners were chosen on
    noisier scores than the best candidate, and so are a little worse: by how much lower they read on all cases, shrunk
    by `signal_share`, which is added. That the best is the best of equals adds nothing; that it is better does.

    The interval is that of the scores on left-out cases: a share of the cases without replacement varies by 1 / share
    - 1 times what all of them do; on the logit scale for AUROC. It holds the true score of the best candidate.

    tied: the trials of `tie_set`. raw: the best one's interval as if it had not been chosen, for where the scores on
    left-out cases do not vary. Undefined, with the reason, where no resample left a case of each class out. An ECE
    reads higher on fewer cases, and so a corrected one is too high: it is that of some third of the cases.
    """
    best = int(candidates.goodness.argmax())
    shown = float(candidates.sign * candidates.goodness[best])
    known = draws.defined & ~np.isnan(draws.out_of_bag)
    if not known.any():
        return Corrected(shown, Interval.undefined("no resample leaves out a case of each class: one has too few"))
    left_out = draws.out_of_bag[known].astype(float)
    behind = candidates.goodness[best] - candidates.goodness[draws.winners[known]].mean()
    goodness = float(left_out.mean() + signal_share(candidates, draws, tied) * behind)
    value = min(max(candidates.sign * goodness, 0.0), _HIGHEST.get(candidates.metric, 1.0))
    deviation = float(left_out.std()) / math.sqrt(1 / _LEFT_OUT - 1)
    if deviation == 0:
        return Corrected(shown, _moved(raw, value))
    return Corrected(shown, around(value, normal_quantile(level) * deviation, candidates.metric))


def signal_share(candidates: Candidates, draws: Draws, tied: NDArray[np.intp]) -> float:
    """How much of the spread of the tied trials is of their true scores, 0..1: the shrinkage of empirical Bayes (Efron
    & Morris 1975). 0 for fewer than eight trials.

    The spread is that of the better half of them, each at its best epoch, taken for half of a normal sample, so that
    trials that learned little do not count; its noise is what the resamples move these apart.
    """
    best = best_of_trials(candidates)
    best = best[np.isin(candidates.trials[best], tied)]
    half = best[np.argsort(-candidates.goodness[best], kind="stable")[: len(best) // 2]]
    spread = float(candidates.goodness[half].var(ddof=1)) / _BETTER_HALF if len(best) >= _FEWEST else 0.0
    if spread == 0 or not draws.defined.any():
        return 0.0
    moved = draws.in_bag[draws.defined][:, half].astype(float)
    noise = float((moved - moved.mean(axis=1, keepdims=True)).var(axis=0).mean())
    return max(0.0, 1 - noise / spread)


def around(value: float, reach: float, metric: Metric) -> Interval:
    """Both ways as far, on the logit scale for AUROC, within what the metric can be."""
    if metric == "val/auroc" and 0 < value < 1:
        on_scale = reach / (value * (1 - value))
        return Interval(value, float(expit(logit(value) - on_scale)), float(expit(logit(value) + on_scale)))
    return Interval(value, max(value - reach, 0.0), min(value + reach, _HIGHEST.get(metric, 1.0)))


def _moved(interval: Interval, value: float) -> Interval:
    if math.isnan(interval.value):
        return Interval.undefined(interval.why)
    return Interval(value, min(interval.low, value), max(interval.high, value))
