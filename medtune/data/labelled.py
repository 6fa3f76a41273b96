"""Which cases' labels are known, where few are to be. Imports little: trained models go about with this room."""

import numpy as np
import numpy.typing as npt

from medtune.data.folds import stratified_order


def labelled_subset(labels: npt.NDArray[np.int64], fraction: float, seed: int) -> npt.NDArray[np.int64]:
    """Indices, sorted, of the cases whose labels are known: of each class its share, and at least one case.

    labels: (cases,) or (cases, labels). Of one seed, a smaller fraction's cases lie within a larger one's. Of several
    labels each value of each has at least one case, and every part of the whole has its combinations in proportion.
    Raises ValueError unless 0 < fraction <= 1."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, not {fraction}")
    rng = np.random.default_rng(seed)
    if labels.ndim == 1:
        shuffled = (rng.permutation(np.flatnonzero(labels == value)) for value in np.unique(labels))
        return np.sort(np.concatenate([cases[: max(1, round(fraction * len(cases)))] for cases in shuffled]))
    order = _evenly(stratified_order(labels, rng), rng)
    chosen = set(order[: max(1, round(fraction * len(order)))])
    for column in labels.T:  # the first in the order that has it, which is the same for every fraction
        chosen.update(order[np.argmax(column[order] == value)] for value in np.unique(column))
    return np.sort(np.array(list(chosen), np.int64))


def _evenly(ordered: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """An order in which the first cases of any number lie evenly among those of the given one: by halving the gaps
    (van der Corput 1935)."""
    bits = max(1, int(len(ordered) - 1).bit_length())
    steps = np.arange(2**bits)
    reversed_ = sum(((steps >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    places = (reversed_ + int(rng.integers(2**bits))) % 2**bits
    return ordered[places[places < len(ordered)]]
