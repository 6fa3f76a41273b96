"""Images that are there twice: with identical pixels, or the same picture slightly turned, moved or brightened.

Two images are near twins when the hashes of their low frequencies are close and, once they lie on each other, their
pixels agree. The hash finds candidates fast; the agreement decides. Both look at a disc in the middle of a small grey
image, so that what a turned image has in its corners does not matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import rotate

from medtune.data.pictures import FILTER, Bytes, pixel_digest, repeated

SIDE = 32  # pixels a side of what is hashed and compared
HASHED_TURNS = (-5.0, -2.5, 0.0, 2.5, 5.0)  # degrees: one hash each, so that a turn between them changes few bits
COMPARED_TURNS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
MOVES = (-1, 0, 1)  # pixels of the small image, right and down
REACH = 10  # bits of 64 that may differ; those of planted twins, turned or brightened, differed by 6 at most
AGREEMENT = 0.98  # correlation; of planted twins .9947 and more
FLAT = 1.0  # grey levels (standard deviation) below which an image shows nothing that could be compared
MOST = 1_000_000  # candidates that are compared
BLOCK = 128

Floats32 = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]

_FROM_MIDDLE = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2))
_DISC = _FROM_MIDDLE <= SIDE / 2 - 2
_RAMP = np.clip((SIDE / 2 - 0.5 - _FROM_MIDDLE) / 3, 0, 1)
_WINDOW = (_RAMP**2 * (3 - 2 * _RAMP)).astype(np.float32)  # a disc with a soft edge


@dataclass(frozen=True)
class NearTwins:
    """Pairs of images, those that agree most first.

    first, second: (pairs,) numbers of images. distance: (pairs,) bits by which the hashes differ. agreement: (pairs,)
    correlation where they lie on each other best. reach: distance up to which pairs were compared, less than `REACH`
    where more than `MOST` pairs would have been, and -1 where that many hashes are equal. compared: how many were."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    distance: npt.NDArray[np.uint8]
    agreement: Floats32
    reach: int
    compared: int

    def __len__(self) -> int:
        return len(self.first)


def exact_twins(images: Sequence[Bytes]) -> list[list[int]]:
    """Groups of images whose pixels are identical, as numbers in ascending order. images: of uint8, any shapes."""
    return repeated(pixel_digest(image) for image in images)


def small_grey(images: Bytes) -> Floats32:
    """(cases, side, side) or (cases, side, side, 3) as what is hashed: float32 (cases, 32, 32), antialiased."""
    small = np.empty((len(images), SIDE, SIDE), np.float32)
    for case, image in enumerate(images):
        small[case] = np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE), FILTER))
    return small


def perceptual_hash(small: Floats32) -> Hashes:
    """One bit for each of 8 x 8 low frequencies, without the lowest row and column: above their median or not (Zauner
    2010, section 3.2.1), of the disc in the middle. small: (cases, 32, 32). Gives (cases,)."""
    mean = (small * _WINDOW).sum(axis=(1, 2), keepdims=True) / _WINDOW.sum()
    low = dctn((small - mean) * _WINDOW, axes=(1, 2), norm="ortho")[:, 1:9, 1:9].reshape(len(small), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def near_twins(small: Floats32) -> NearTwins:
    """All near twins of a set, identical images among them. small: (cases, 32, 32), as `small_grey` gives them.

    The hashes of all pairs are compared, which takes a second for 10,000 images and a hundred times that for
    100,000. Images that show nothing are nobody's twin."""
    shown = np.flatnonzero(small[:, _DISC].std(axis=1) >= FLAT) if len(small) else np.zeros(0, np.int64)
    small = small[shown]
    (first, second, distance), reach = _candidates(small)
    agreement = _agreement(small, first, second)
    order = np.argsort(-agreement, kind="stable")
    kept = order[agreement[order] >= AGREEMENT]
    return NearTwins(
        shown[first[kept]], shown[second[kept]], distance[kept], agreement[kept], reach, compared=len(first)
    )


class _Pairs(NamedTuple):
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    distance: npt.NDArray[np.uint8]

    def within(self, reach: int) -> "_Pairs":
        close = self.distance <= reach
        return _Pairs(self.first[close], self.second[close], self.distance[close])


def _candidates(small: Floats32) -> tuple[_Pairs, int]:
    """Pairs with close hashes, the first number below the second and in ascending order, and the reach."""
    upright = perceptual_hash(small)
    turned = np.stack([perceptual_hash(_turned(small, degrees)) for degrees in HASHED_TURNS])
    found, reach = [_Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))], REACH
    for pairs in _close_pairs(turned, upright):
        found.append(pairs.within(reach))
        while sum(len(some.first) for some in found) > MOST:
            reach -= 1
            found = [_joined(found).within(reach)]
    return _joined(found), reach


def _joined(found: Sequence[_Pairs]) -> _Pairs:
    return _Pairs(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _close_pairs(turned: npt.NDArray[np.uint64], upright: Hashes) -> Iterator[_Pairs]:
    """Pairs within REACH, some rows of the triangle of all pairs at a time."""
    for start in range(0, len(upright), BLOCK):
        rest = upright[None, start:]
        rows = turned[:, start : start + BLOCK, None]
        distance = np.bitwise_count(rows[0] ^ rest)
        for row in rows[1:]:
            np.minimum(distance, np.bitwise_count(row ^ rest), out=distance)
        row_numbers, columns = np.nonzero(distance <= REACH)
        above = columns > row_numbers
        row_numbers, columns = row_numbers[above], columns[above]
        yield _Pairs(row_numbers + start, columns + start, distance[row_numbers, columns])


def _agreement(small: Floats32, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Floats32:
    """The highest correlation of each pair over small turns and moves of the first."""
    agreement = np.empty(len(first), np.float32)
    still = _standardised(small)
    numbers, starts = np.unique(first, return_index=True)
    ends = np.append(starts[1:], len(first))
    for block in range(0, len(numbers), BLOCK):
        laid = _laid(small[numbers[block : block + BLOCK]])
        for one, start, end in zip(laid, starts[block:], ends[block:], strict=False):
            agreement[start:end] = (still[second[start:end]] @ one.T).max(axis=1)
    return agreement


def _laid(small: Floats32) -> Floats32:
    """Each image in all its turns and moves, standardised: (cases, turns and moves, pixels of the disc)."""
    ways = []
    for degrees in COMPARED_TURNS:
        turned = _turned(small, degrees)
        ways += [_standardised(np.roll(turned, (down, right), axis=(1, 2))) for down in MOVES for right in MOVES]
    return np.stack(ways, axis=1)


def _turned(small: Floats32, degrees: float) -> Floats32:
    return rotate(small, degrees, axes=(2, 1), reshape=False, order=1, mode="nearest") if degrees else small


def _standardised(small: Floats32) -> Floats32:
    """The pixels of the disc with mean 0 and length 1, so that a product is a correlation."""
    pixels = small[:, _DISC]
    pixels = pixels - pixels.mean(axis=1, keepdims=True)
    return np.asarray(pixels / np.linalg.norm(pixels, axis=1, keepdims=True).clip(1e-6))
