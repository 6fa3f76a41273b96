"""The folds of a cross-validation."""

import numpy as np
import numpy.typing as npt

from medtune.data.splits import stratified_order


def stratified_folds(labels: npt.NDArray[np.int64], folds: int, seed: int = 0) -> list[npt.NDArray[np.int64]]:
    """Indices, sorted, of the cases of each fold; every case is in one, and their numbers differ by one at most.

    labels: (cases,) or (cases, labels). A fold has of every class its share to within one case. Of several labels,
    every fold has its share of each combination to within one, and so of each label nearly. A class with fewer cases
    than there are folds is missing from some: the AUROC of such a fold is NaN. Raises ValueError unless there are two
    folds or more, and as many cases."""
    if not 2 <= folds <= len(labels):
        raise ValueError(f"{len(labels)} cases cannot be {folds} folds; there must be two, and a case for each")
    ordered = stratified_order(labels, np.random.default_rng(seed))
    return [np.sort(ordered[fold::folds]) for fold in range(folds)]
