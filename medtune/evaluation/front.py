"""Discrimination against calibration: what nothing beats in both."""

import numpy as np
from numpy.typing import NDArray


def pareto_front(auroc: NDArray[np.float64], ece: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the pairs, (trials,) each, no other pair dominates: none has at least as high an AUROC with at least as
    low an ECE, and one of both better. A pair with a NaN is none."""
    front = np.zeros(len(auroc), dtype=bool)
    lowest, level = np.inf, np.nan
    for trial in np.lexsort((ece, -auroc)):
        if np.isnan(auroc[trial] + ece[trial]):
            continue
        # an equal pair is on the front with the first of them
        if ece[trial] < lowest or (ece[trial] == lowest and auroc[trial] == level):
            front[trial], lowest, level = True, ece[trial], auroc[trial]
    return front
