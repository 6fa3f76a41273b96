"""One picture to an array: decoded, upright, of 8 bits, a square of the wanted size."""

import hashlib
import stat
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from medtune.data.listing import FROM_DICOM

Bytes = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # no other decoder of PIL is let near a file
FILTER = Image.Resampling.BILINEAR  # PIL widens it when it makes an image smaller: antialiased
TWELVE_BITS = 2**12
MOST_PIXELS = 90_000_000  # of a picture, and of all that are decoded at the same time
TOO_LARGE = f"more than {MOST_PIXELS // 10**6} million pixels; make it smaller"
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and what it may say

_OF_SIXTEEN = np.rint(np.arange(2**16) / 257).astype(np.uint8)  # 65535 = 255 * 257


class Unreadable(Exception):
    """Why a file is no picture that can be used, in a few words."""


@dataclass(frozen=True)
class Picture:
    """image: uint8, (size, size) where every pixel is grey, else (size, size, 3). digest: of all pixels as they were
    decoded. enlarged: it was smaller. dark: it has 16 bits, and uses 12 of them at most."""

    image: Bytes
    digest: bytes
    enlarged: bool
    dark: bool


def read_picture(path: Path | IO[bytes], size: int) -> Picture:
    """A file as a square of `size` pixels a side: the shorter side is brought to it, the middle of the longer is kept.

    Turned as its EXIF says; what is transparent lies on black; 16 bits of grey are scaled so that 65535 becomes 255.
    Raises Unreadable."""
    try:
        file = _opened(path)
        with _ROOM.taken(file.width * file.height), closing(file):  # which frees its pixels before the next begins
            return _read(file, size)
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(_what_else(path)) from error
    except Exception as error:  # each decoder has errors of its own
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(" ".join(words.partition("\n")[0].split())[:200] or type(error).__name__) from error


class _Room:
    """Pixels that are decoded at once, by all threads together: else each processor more would take memory more."""

    def __init__(self, pixels: int) -> None:
        self._left, self._changed = pixels, threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._left >= pixels)
            self._left -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify_all()


_ROOM = _Room(MOST_PIXELS)
_OPENING = threading.Lock()  # the filters of warnings are those of all threads


def _opened(path: Path | IO[bytes]) -> Image.Image:
    """A file whose header was read, and nothing else."""
    if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
        raise Unreadable("no regular file")
    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever is wrong is said in other words
            file = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Unreadable(TOO_LARGE) from error
    if file.width * file.height > MOST_PIXELS:
        file.close()
        raise Unreadable(TOO_LARGE)
    return file


def _what_else(path: Path | IO[bytes]) -> str:
    """What a file is that no decoder knows."""
    if not isinstance(path, Path):
        return "no picture"
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return f"DICOM, which is not read; {FROM_DICOM}"
    return "no picture, whatever its name says" if start else "empty"


def _read(file: Image.Image, size: int) -> Picture:
    _check_kind(file)
    ImageOps.exif_transpose(file, in_place=True)
    values = _values(file)
    return Picture(
        image=squared(_eight_bits(values), size),
        digest=pixel_digest(values),
        enlarged=min(values.shape[:2]) < size,
        dark=values.dtype != np.uint8 and int(values.max()) < TWELVE_BITS,
    )


def resized(images: Bytes, side: int) -> Bytes:
    """(cases, height, width) or (cases, height, width, 3) at `side` pixels a side, by antialiased bilinear
    resampling; the same array where it has that size already."""
    if images.shape[1:3] == (side, side):
        return images
    brought = np.empty((len(images), side, side, *images.shape[3:]), np.uint8)
    for case, image in enumerate(images):
        brought[case] = Image.fromarray(image).resize((side, side), FILTER)
    return brought


def _check_kind(file: Image.Image) -> None:
    if file.mode == "F" or (file.mode == "I" and file.format != "PPM"):
        raise Unreadable("signed, or 32 bits a pixel, on no known scale; save it with 8 or 16 bits, unsigned")
    if file.format != "MPO" and getattr(file, "is_animated", False):  # MPO: a camera's JPEG with a preview behind it
        raise Unreadable("several images in one file; save each as a file of its own")


def _values(image: Image.Image) -> npt.NDArray[np.uint8 | np.uint16]:
    """(height, width) where every pixel is grey, else (height, width, 3)."""
    if image.mode.startswith("I"):
        return _sixteen_bits(image)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    colours = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    grey = all(np.array_equal(colours[..., 0], colours[..., other]) for other in (1, 2))
    return np.ascontiguousarray(colours[..., 0]) if grey else colours


def _sixteen_bits(image: Image.Image) -> npt.NDArray[np.uint16]:
    values = np.asarray(image).astype(np.uint16)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = ~values  # PIL does so for 8 bits alone
    if isinstance(transparent := image.info.get("transparency"), int):
        values[values == transparent] = 0
    return values


def _eight_bits(values: npt.NDArray[np.uint8 | np.uint16]) -> Bytes:
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    return _OF_SIXTEEN[values]


def squared(values: Bytes, size: int) -> Bytes:
    """An image (height, width) or (height, width, 3) as a square: see `read_picture`."""
    image = Image.fromarray(values)
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return np.asarray(image.resize((size, size), FILTER, box=(left, top, left + side, top + side)))


def pixel_digest(image: npt.NDArray[Any]) -> bytes:
    """Equal for images of one shape whose pixels are identical."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def repeated(keys: Iterable[bytes]) -> list[list[int]]:
    """Groups of the numbers whose keys are equal, in ascending order."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        alike[key].append(number)
    return [group for group in alike.values() if len(group) > 1]
