"""The six members of a file as MedMNIST has them. Nothing that a file says of itself is believed.

Every length is held against what the catalogue says of the data set before anything of that length is read, so that a
file can make nobody take more memory than the right one would.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from medtune.data import SPLITS, DataError, SplitName
from medtune.data.dataset import DatasetInfo

NAMES = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))
CHUNK = 2**20  # bytes that are read at once
DIRECTORY = 2**16  # bytes of an archive's table of contents; six members take 400
HEADER = 2**10  # bytes of an array's header; numpy writes 128
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks the others without a limit


@contextmanager
def opened(path: Path, info: DatasetInfo, size: int) -> Iterator["Members"]:
    """The members of a file that has each of the six once. Raises DataError, as all that is done with them."""
    with ExitStack() as stack:
        with _told(f"{path}: cannot be opened as .npz", "move it away and fetch it again"):
            file = stack.enter_context(_File(io.FileIO(path)))
            archive = stack.enter_context(zipfile.ZipFile(file))
        file.most = CHUNK
        names = Counter(archive.namelist())
        for member in NAMES:
            if (times := names[f"{member}.npy"]) != 1:
                why = f"has {member} {times} times" if times else f"has no {member}"
                raise DataError(f"{path}: {why}; it is no MedMNIST file, move it away")
        places = sorted((entry.header_offset, entry.header_offset + entry.compress_size) for entry in archive.filelist)
        if any(after < end for (_, end), (after, _) in pairwise(places)):
            raise DataError(f"{path}: has members that overlap; it is no MedMNIST file, move it away")
        yield Members(archive, path, info, size)


class Members:
    """What may be asked of an open file; see `opened`."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, info: DatasetInfo, size: int) -> None:
        self._archive, self._path, self._info, self._size = archive, path, info, size

    def read(self, member: str) -> npt.NDArray[Any]:
        """The array of a member, once its header has been found right."""
        self._header(member)
        with self._damage(member), self._archive.open(f"{member}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def check(self, member: str) -> None:
        """Header, length and CRC of a member. Its values stay bytes and are dropped."""
        self._header(member)
        with self._damage(member), self._archive.open(f"{member}.npy") as stream:
            length = 0
            while read := stream.read(CHUNK):  # at the end zipfile compares the CRC
                length += len(read)
            if length != self._archive.getinfo(f"{member}.npy").file_size:
                raise ValueError(f"{length} bytes")

    def _header(self, member: str) -> None:
        """Raises DataError unless a member is the array that the catalogue says it is."""
        entry = self._archive.getinfo(f"{member}.npy")
        with self._damage(member):
            if entry.compress_type not in METHODS:
                raise ValueError(f"compressed by method {entry.compress_type}, zip and numpy use {METHODS}")
            with self._archive.open(entry) as stream:
                header = _read_header(stream.read(HEADER))
        info, (split, kind) = self._info, cast(tuple[SplitName, str], tuple(member.split("_")))
        allowed = _image_shapes(info, self._size) if kind == "images" else _label_shapes(info)
        shapes = [(info.cases[split], *shape) for shape in allowed]
        right_type = header.dtype == np.uint8 if kind == "images" else header.dtype.kind in "ui"
        if header.shape not in shapes or not right_type:
            wanted = f"{'uint8' if kind == 'images' else 'integers'} {shapes[0]}"
            raise DataError(
                f"{self._path}: {member} is {_short(f'{header.dtype} {header.shape}')}, "
                f"{info.flag} at {self._size} px has {wanted}; "
                "check data.dataset and data.size, or move the file away"
            )
        with self._damage(member):
            values = entry.file_size - header.length
            if values != int(np.prod(header.shape)) * header.dtype.itemsize:
                raise ValueError(f"{values} bytes of values")

    def _damage(self, member: str) -> AbstractContextManager[None]:
        return _told(f"{self._path}: {member} is damaged", "move it away and fetch it again")


class _File(io.BufferedReader):
    """A file of which at most `most` bytes are read at once, whatever the archive in it asks for."""

    most = DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most:
            raise zipfile.BadZipFile(f"{size} bytes of table of contents")
        return super().read(size)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    length: int  # bytes before the values


def _read_header(start: bytes) -> _Header:
    """The header at the beginning of a member. It must lie in these bytes, however long it says that it is."""
    stream = io.BytesIO(start)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(stream)
    except MemoryError as error:  # what Python says of brackets that are too deep
        raise ValueError("header cannot be read") from error
    return _Header(shape, dtype, stream.tell())


@contextmanager
def _told(what: str, way_out: str) -> Iterator[None]:
    """Whatever is raised, but for a lack of memory, becomes one line: zipfile, zlib and numpy raise everything from
    struct.error to NotImplementedError for a damaged file."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{what} ({_short(error) or type(error).__name__}); {way_out}") from error


def _short(words: object) -> str:
    return " ".join(str(words).split())[:200]


def _image_shapes(info: DatasetInfo, size: int) -> list[tuple[int, ...]]:
    return [(size, size)] if info.channels == 1 else [(size, size, info.channels)]


def _label_shapes(info: DatasetInfo) -> list[tuple[int, ...]]:
    return [(len(info.classes),)] if info.task == "multilabel" else [(1,), ()]
