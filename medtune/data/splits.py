"""Train and val for everything, and the sealed test for `medtune test` alone.

While searching, the test split of a file is only looked at from outside: the headers of its members are read, their
bytes run through the CRC, and no value of them becomes an array. Only `load_sealed_test` decodes it.
"""

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from medtune.config.sweep import Data
from medtune.data import SPLITS, DataError, Split, SplitName
from medtune.data.catalogue import describe
from medtune.data.dataset import DatasetInfo
from medtune.data.fetch import fetch
from medtune.data.folds import stratified_order
from medtune.data.phantoms import make_phantom, phantom_md5

__all__ = [
    "Split",
    "data_md5",
    "load_sealed_test",
    "load_search_splits",
    "read_search_splits",
    "stratified_subset",
]

CHUNK = 2**20
_DAMAGE = (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile)  # what a damaged member raises


def load_search_splits(data: Data) -> tuple[Split, Split]:
    """Train (all of it, whatever `train_fraction` says) and val, at `data.side` pixels. Raises DataError.

    Downloads the file if need be; a folder is read if need be."""
    info = describe(data)
    if info.made:
        train, val = (make_phantom(info.task, name, data.difficulty, data.size) for name in SPLITS[:2])
    else:
        path = fetch(data)
        train, val = read_search_splits(path, describe(data), data.size)  # the folder may have been read anew
    return _at_side(train, data.side), _at_side(val, data.side)


def load_sealed_test(data: Data) -> Split:
    """The test split, at `data.side` pixels. Only what reports the final number may call this. Raises DataError."""
    info = describe(data)
    if info.made:
        return _at_side(make_phantom(info.task, "test", data.difficulty, data.size), data.side)
    path = fetch(data)
    with _open(path) as archive:
        return _at_side(_decode(archive, path, describe(data), data.size, "test"), data.side)


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
        return phantom_md5(info.task, data.difficulty, data.size)
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
    with _open(path) as archive:
        for member in ("test_images", "test_labels"):
            _check_unread(archive, path, info, size, member)
        train, val = (_decode(archive, path, info, size, name) for name in SPLITS[:2])
    return train, val


def _decode(archive: zipfile.ZipFile, path: Path, info: DatasetInfo, size: int, split: SplitName) -> Split:
    images = _read(archive, path, info, size, f"{split}_images")
    labels = _read(archive, path, info, size, f"{split}_labels").astype(np.int64)
    if info.task != "multilabel":
        labels = labels.reshape(len(labels))  # (cases, 1) in the file, and (cases,) from here on
    top = 1 if info.task == "multilabel" else len(info.classes) - 1
    if labels.min() < 0 or labels.max() > top:
        raise DataError(
            f"{path}: {split}_labels holds {labels.min()} to {labels.max()}, {info.flag} has 0 to {top}; "
            "the file is damaged or of another set"
        )
    return Split(images, labels)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be opened as .npz ({error}); move it away and fetch it again") from error


def _read(archive: zipfile.ZipFile, path: Path, info: DatasetInfo, size: int, member: str) -> npt.NDArray[Any]:
    """The array of a member, after its header has been found right: a wrong shape never takes memory."""
    with _member(archive, path, member) as stream:
        _check_header(archive, stream, path, info, size, member)
    try:
        with _member(archive, path, member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGE as error:
        raise _damaged(path, member, error) from error


def _check_unread(archive: zipfile.ZipFile, path: Path, info: DatasetInfo, size: int, member: str) -> None:
    """Header and CRC of a member. Its values stay bytes and are dropped."""
    with _member(archive, path, member) as stream:
        _check_header(archive, stream, path, info, size, member)
        try:
            while stream.read(CHUNK):  # at the end zipfile compares the CRC
                pass
        except _DAMAGE as error:
            raise _damaged(path, member, error) from error


def _member(archive: zipfile.ZipFile, path: Path, member: str) -> IO[bytes]:
    try:
        return archive.open(f"{member}.npy")
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: has no {member}; it is no MedMNIST file, move it away") from error


def _damaged(path: Path, member: str, error: Exception) -> DataError:
    return DataError(f"{path}: {member} is damaged ({error}); move it away and fetch it again")


def _check_header(
    archive: zipfile.ZipFile, stream: IO[bytes], path: Path, info: DatasetInfo, size: int, member: str
) -> None:
    try:
        header = _header(stream)
    except _DAMAGE as error:
        raise _damaged(path, member, error) from error
    split, kind = cast(tuple[SplitName, str], tuple(member.split("_")))
    allowed = _image_shapes(info, size) if kind == "images" else _label_shapes(info)
    shapes = [(info.cases[split], *shape) for shape in allowed]
    right_type = header.dtype == np.uint8 if kind == "images" else header.dtype.kind in "ui"
    if header.shape not in shapes or not right_type:
        wanted = f"{'uint8' if kind == 'images' else 'integers'} {shapes[0]}"
        raise DataError(
            f"{path}: {member} is {header.dtype} {header.shape}, {info.flag} at {size} px has {wanted}; "
            "check data.dataset and data.size, or move the file away"
        )
    stored = archive.getinfo(f"{member}.npy").file_size - stream.tell()
    if stored != int(np.prod(header.shape)) * header.dtype.itemsize:
        raise _damaged(path, member, ValueError(f"{stored} bytes of values"))


def _header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return _Header(shape, dtype)


def _image_shapes(info: DatasetInfo, size: int) -> list[tuple[int, ...]]:
    return [(size, size)] if info.channels == 1 else [(size, size, info.channels)]


def _label_shapes(info: DatasetInfo) -> list[tuple[int, ...]]:
    return [(len(info.classes),)] if info.task == "multilabel" else [(1,), ()]
