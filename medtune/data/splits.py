"""Train and val for everything, and the sealed test for `medtune test` alone.

While searching, the test split of a file is only looked at from outside: the headers of its members are read, their
bytes run through the CRC, and no value of them becomes an array. Only `load_sealed_test` decodes it.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from medtune.config.sweep import Data
from medtune.data import SPLITS, DataError, Split, SplitName
from medtune.data.catalogue import describe
from medtune.data.dataset import DatasetInfo
from medtune.data.fetch import fetch
from medtune.data.folds import stratified_order
from medtune.data.members import Members, opened
from medtune.data.phantoms import make_phantom, phantom_md5

__all__ = [
    "Split",
    "data_md5",
    "load_sealed_test",
    "load_search_splits",
    "read_search_splits",
    "stratified_subset",
]


def load_search_splits(data: Data) -> tuple[Split, Split]:
    """Train (all of it, whatever `train_fraction` says) and val, at `data.side` pixels. Raises DataError.

    Downloads the file if need be; a folder is read if need be."""
    info = describe(data)
    if info.made:
        train, val = (make_phantom(info.phantom, name, data.difficulty, data.size) for name in SPLITS[:2])
    else:
        path = fetch(data)
        train, val = read_search_splits(path, describe(data), data.size)  # the folder may have been read anew
    return _at_side(train, data.side), _at_side(val, data.side)


def load_sealed_test(data: Data) -> Split:
    """The test split, at `data.side` pixels. Only what reports the final number may call this. Raises DataError."""
    info = describe(data)
    if info.made:
        return _at_side(make_phantom(info.phantom, "test", data.difficulty, data.size), data.side)
    path = fetch(data)
    info = describe(data)  # the folder may have been read anew
    with opened(path, info, data.size) as members:
        return _at_side(_decode(members, path, info, "test"), data.side)


def _at_side(split: Split, side: int) -> Split:
    if split.images.shape[1] == side:
        return split
    from medtune.data.pictures import resized

    return Split(resized(split.images, side), split.labels)


def data_md5(data: Data) -> str:
    """MD5 of the file, the only one that is ever loaded; of a phantom, of what it is made from.

    Of a folder, that of its last reading. What is done to the images after loading does not change it."""
    info = describe(data)
    if info.made:
        return phantom_md5(info.phantom, data.difficulty, data.size)
    return info.md5[data.size]


def stratified_subset(labels: npt.NDArray[np.int64], fraction: float, seed: int) -> npt.NDArray[np.int64]:
    """Indices, sorted, of a fraction of the cases with every class in proportion and at least once.

    labels: (cases,) or (cases, labels). Of the cases in stratified order every (1 / fraction)-th is taken: so each
    class has its share to within one case, and of several labels rare combinations are taken together with those that
    are most like them. Then one random case is added for each value of a label that was missed.
    Raises ValueError unless 0 < fraction <= 1."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, not {fraction}")
    rng = np.random.default_rng(seed)
    columns = labels.reshape(len(labels), -1).T
    ordered = stratified_order(labels, rng)
    count = max(1, round(fraction * len(labels)))
    positions = (np.arange(count) + rng.random()) * len(labels) / count
    chosen = ordered[positions.astype(np.int64)]
    missed = [
        rng.choice(np.flatnonzero(column == value))
        for column in columns
        for value in np.setdiff1d(column, column[chosen])
    ]
    return np.unique(np.concatenate([chosen, np.array(missed, np.int64)]))


def read_search_splits(path: Path, info: DatasetInfo, size: int) -> tuple[Split, Split]:
    """Train and val of a file with MedMNIST's members, whatever its hash. Raises DataError."""
    with opened(path, info, size) as members:
        for member in ("test_images", "test_labels"):
            members.check(member)
        train, val = (_decode(members, path, info, name) for name in SPLITS[:2])
    return train, val


def _decode(members: Members, path: Path, info: DatasetInfo, split: SplitName) -> Split:
    images, labels = members.read(f"{split}_images"), members.read(f"{split}_labels")
    if info.task != "multilabel":
        labels = labels.reshape(len(labels))  # (cases, 1) in the file, and (cases,) from here on
    top = 1 if info.task == "multilabel" else len(info.classes) - 1
    if labels.min() < 0 or labels.max() > top:
        raise DataError(
            f"{path}: {split}_labels holds {labels.min()} to {labels.max()}, {info.flag} has 0 to {top}; "
            "the file is damaged or of another set"
        )
    return Split(images, labels.astype(np.int64))
