"""One picture to an array: decoded, upright, of 8 bits, a square of the wanted size."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Bytes = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # no other decoder of PIL is let near a file
FILTER = Image.Resampling.BILINEAR  # PIL widens it when it makes an image smaller: antialiased
TWELVE_BITS = 2**12


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
        with Image.open(path, formats=FORMATS) as file:
            _check_kind(file)
            ImageOps.exif_transpose(file, in_place=True)
            values = _values(file)
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable("no picture, whatever its name says") from error
    except Exception as error:  # each decoder has errors of its own
        raise Unreadable(str(error).partition("\n")[0] or type(error).__name__) from error
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
        raise Unreadable("32 bits a pixel, on no known scale; save it with 8 or 16")
    if file.format != "MPO" and getattr(file, "n_frames", 1) > 1:  # MPO: a camera's JPEG with a preview behind it
        raise Unreadable("several images in one file; save each as a file of its own")


def _values(image: Image.Image) -> npt.NDArray[np.uint8 | np.uint16]:
    """(height, width) where every pixel is grey, else (height, width, 3)."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    colours = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    grey = all(np.array_equal(colours[..., 0], colours[..., other]) for other in (1, 2))
    return np.ascontiguousarray(colours[..., 0]) if grey else colours


def _eight_bits(values: npt.NDArray[np.uint8 | np.uint16]) -> Bytes:
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    return np.rint(values / 257).astype(np.uint8)  # 65535 = 255 * 257


def squared(values: Bytes, size: int) -> Bytes:
    """An image (height, width) or (height, width, 3) as a square: see `read_picture`."""
    image = Image.fromarray(values)
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return np.asarray(image.resize((size, size), FILTER, box=(left, top, left + side, top + side)))


def pixel_digest(image: npt.NDArray[Any]) -> bytes:
    """Equal for images of one shape whose pixels are identical."""
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()


def repeated(keys: Iterable[bytes]) -> list[list[int]]:
    """Groups of the numbers whose keys are equal, in ascending order."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        alike[key].append(number)
    return [group for group in alike.values() if len(group) > 1]
