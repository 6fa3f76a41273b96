"""Cases in the order of their labels, and the folds of a cross-validation. Knows nothing of files."""

import numpy as np
import numpy.typing as npt


def stratified_order(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """All cases sorted by their labels, the rarest label first, in random order among equals: cases that lie at even
    distances have every class in proportion. labels: (cases,) or (cases, labels)."""
    columns = labels.reshape(len(labels), -1).T
    shuffled = rng.permutation(len(labels))
    common_first = columns[np.argsort(-columns.sum(axis=1), kind="stable")]
    return shuffled[np.lexsort(common_first[:, shuffled])]  # lexsort: the last key counts most


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
