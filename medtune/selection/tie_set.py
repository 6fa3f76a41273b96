"""Which trials cannot be told from the best: a confidence set for the best trial."""

import numpy as np
from numpy.typing import NDArray

from medtune.selection.candidates import Candidates, Draws

_KEPT_BACK = 0.2  # of the error: the maximum over epochs moves a little less in resamples than it does in truth


def tie_set(candidates: Candidates, draws: Draws, level: float = 0.95) -> NDArray[np.intp]:
    """The numbers of the trials, ascending, that may be the best; a best trial is left out in at most 1 - `level`.

    A trial is as good as its best epoch, on all cases and anew in each resample, since that epoch was chosen on the
    same cases. It is left out where some rival leads it by more than chance would have any rival lead: each lead in
    units of its deviation over the resamples, chance being the largest over the rivals of how far these move it in a
    resample (max-statistic; the comparisons with the best of Hsu 1981, studentised by the bootstrap as in the model
    confidence set of Hansen, Lunde & Nason 2011, and without its eliminations, which the level is not guaranteed
    for on few cases). Where no resample is defined, all of them.

    Of equal trials each was held in .94 to .97 of simulated sweeps, one of a single epoch among longer ones in .94 to
    .96, and a single one that is truly the best in all of 1,400 (docs/selection.md).
    """
    level += _KEPT_BACK * (1 - level)
    trials, score, drawn = _of_trials(candidates, draws)
    if not len(drawn):
        return trials
    moved = np.ascontiguousarray((drawn - score).T)
    return trials[[_may_be_best(score, moved, trial, level) for trial in range(len(trials))]]


def _may_be_best(score: NDArray[np.float64], moved: NDArray[np.float64], trial: int, level: float) -> bool:
    """score: (trials,). moved: by how much each resample changes it, (trials, resamples), a rival in one piece, as this
    is done for every trial."""
    leads, by_chance = score - score[trial], moved - moved[trial]
    variance = np.einsum("tr,tr->t", by_chance, by_chance) / moved.shape[1] - by_chance.mean(axis=1) ** 2
    deviation = np.sqrt(np.maximum(variance, 0))
    apart = deviation > 1e-8 * (1 + abs(score[trial]))
    if (leads[~apart] > 1e-6).any():  # no resample moves them against each other, and one leads
        return False
    if not apart.any():
        return True
    by_chance /= np.where(apart, deviation, 1)[:, None]
    by_chance[~apart] = -np.inf
    largest = by_chance.max(axis=0)
    return bool((leads[apart] / deviation[apart]).max() <= np.quantile(largest, level, method="higher"))


def _of_trials(
    candidates: Candidates, draws: Draws
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """The trials, and each one's best over its epochs: on all cases, and in each resample that is defined."""
    order = np.argsort(candidates.trials, kind="stable")
    trials, starts = np.unique(candidates.trials[order], return_index=True)
    drawn = np.maximum.reduceat(draws.of_defined().in_bag[:, order], starts, axis=1)
    return trials, np.maximum.reduceat(candidates.goodness[order], starts), drawn.astype(float)
