"""What a model is asked about: pictures, folders of them, and the arrays of `.npz` files, one image at a time."""

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from medtune.data import DataError
from medtune.data.listing import EXTENSIONS
from medtune.data.pictures import Bytes, Unreadable, read_picture, squared

ARRAYS = re.compile(r"(\w*images)\.npy")  # as MedMNIST names them, or `images`
_DAMAGE = (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Source:
    """A file. array: what is read of it, where it is an `.npz`. why: what is wrong with it, if it is known already."""

    path: Path
    array: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Shown:
    """An image of a source. index: its place in the array of an `.npz`. image: uint8 (side, side) or (side, side, 3);
    None where `why` says what is wrong."""

    path: Path
    index: int | None
    image: Bytes | None
    why: str = ""


def sources(given: Sequence[Path], array: str | None = None) -> list[Source]:
    """The files given, and all pictures below the folders given, sorted; an `.npz` only where it is named itself.

    array: the one that is read of each `.npz`; unless given, its only array of images. Raises DataError where there is
    nothing, and where an `.npz` holds several such arrays: none is taken by chance, as one may be a sealed test.
    """
    found = [source for path in given for source in _below(path, array)]
    return list(dict.fromkeys(found))


def images(source: Source, side: int, channels: int) -> Iterator[Shown]:
    """Those of a source, brought to `side` pixels and to 1 or 3 channels as the model's data was: the shorter side is
    resized, and the middle of the longer is kept. What cannot be read comes as a single one with `why`."""
    try:
        if source.why:
            raise Unreadable(source.why)
        if source.array is None:
            yield Shown(source.path, None, _with_channels(read_picture(source.path, side).image, channels))
            return
        for index, image in enumerate(_members(source.path, source.array)):
            yield Shown(source.path, index, fitted(image, side, channels))
    except Unreadable as error:
        yield Shown(source.path, None, None, str(error))


def fitted(image: Bytes, side: int, channels: int) -> Bytes:
    """An image (height, width) or (height, width, 3) as the model's data was, see `images`."""
    return _with_channels(squared(image, side), channels)


def _below(path: Path, array: str | None) -> list[Source]:
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; check the path")
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS)
        if not found:
            raise DataError(f"{path} holds no pictures: {', '.join(sorted(EXTENSIONS))} are read")
        return [Source(file) for file in found]
    return [_npz(path, array) if path.suffix.lower() == ".npz" else Source(path)]


def _npz(path: Path, array: str | None) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _DAMAGE:
        return Source(path, why="no .npz file, whatever its name says")
    known = [name.removesuffix(".npy") for name in names if array or ARRAYS.fullmatch(name)]
    if array is not None and array not in known:
        raise DataError(f"{path} has no array {array}: there are {', '.join(known) or 'none'}")
    if array is None and len(known) > 1:
        raise DataError(f"{path} holds several arrays of images: say which with --array: {', '.join(known)}")
    return Source(path, array or known[0]) if known else Source(path, why="no array of images: name one with --array")


def _members(path: Path, name: str) -> Iterator[Bytes]:
    """The images of an array, decoded one after the other: no file is too large, and no other array is read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            shape = _shape(stream, name)
            length = int(np.prod(shape[1:]))
            for _ in range(shape[0]):
                read = stream.read(length)
                if len(read) < length:
                    raise Unreadable(f"{name} is cut short")
                yield np.frombuffer(read, np.uint8).reshape(shape[1:])
    except _DAMAGE as error:
        raise Unreadable(f"{name} is damaged: {error}") from error


def _shape(stream: IO[bytes], name: str) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = header(stream)
    if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)) or 0 in shape[1:]:
        raise Unreadable(f"{name} is {dtype} {shape}: uint8 (n, height, width) or (n, height, width, 3) is read")
    if columns_first:
        raise Unreadable(f"{name} lies with its columns first: save it with numpy.ascontiguousarray")
    return tuple(shape)


def _with_channels(image: Bytes, channels: int) -> Bytes:
    return np.asarray(Image.fromarray(image).convert("L" if channels == 1 else "RGB"))
