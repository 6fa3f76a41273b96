"""The pictures of a folder read: the members of its file, and what a person should know of them."""

import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from medtune.data import SPLITS, DataError, SplitName
from medtune.data.division import divide
from medtune.data.listing import Listing, shown
from medtune.data.pictures import Bytes, Picture, Unreadable, read_picture, repeated

THREADS = 4  # decoders run beside each other; the allocator keeps some memory of the largest picture for each
NAMED = 10  # of the things that are wrong, or doubtful
Report = Callable[[int, int], None]  # pictures so far, pictures in all
Twins = dict[str, Any]  # {"count": groups of identical pictures, "first": [[name, name, …], …]}
Members = Iterator[tuple[str, npt.NDArray[Any]]]  # names and arrays, one in memory at a time


@dataclass(frozen=True)
class Found:
    """What is known of the pictures of a folder.

    classes: by label value. ready: the splits that the folder has itself. counts: cases by split and class. skipped:
    files that are no pictures, by kind. twins: pictures whose pixels are identical, among all (`pictures`), between
    splits (`splits`), under several classes (`classes`). enlarged: how many were smaller than asked for. dark: how many
    have 16 bits and use 12 of them at most."""

    classes: list[str]
    channels: int
    ready: list[SplitName]
    counts: dict[SplitName, list[int]]
    skipped: dict[str, int]
    twins: dict[str, Twins]
    enlarged: int
    dark: int


def read_listing(
    listing: Listing, size: int, proportions: Sequence[float], report: Report | None = None
) -> tuple[Members, Found]:
    """`{split}_images` and `{split}_labels` as MedMNIST has them, at `size` pixels a side; splits that the folder does
    not have are drawn in proportion. Raises DataError for pictures that cannot be read, and for a class too small."""
    pictures = _read_pictures(listing, size, report)
    splits = _splits(listing, pictures, proportions)
    labels = np.array([listing.classes.index(file.label) for file in listing.files], np.int64)
    cases = {split: np.flatnonzero([other == split for other in splits]) for split in SPLITS}
    channels = 3 if any(picture.image.ndim == 3 for picture in pictures) else 1
    found = Found(
        classes=list(listing.classes),
        channels=channels,
        ready=list(listing.ready),
        counts={name: np.bincount(labels[of], minlength=len(listing.classes)).tolist() for name, of in cases.items()},
        skipped=dict(listing.skipped),
        twins=_twins(listing, pictures, splits),
        enlarged=sum(picture.enlarged for picture in pictures),
        dark=sum(picture.dark for picture in pictures),
    )
    return _members(pictures, labels, cases, channels), found


def write_npz(path: Path, members: Members) -> None:
    """Not compressed and without times, so that the same pictures give the same file."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in members:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_pictures(listing: Listing, size: int, report: Report | None) -> list[Picture]:
    """All pictures, in the order of the listing. Raises DataError that names those that cannot be read."""

    def read(name: str) -> Picture | str:
        try:
            return read_picture(listing.folder / name, size)
        except Unreadable as error:
            return f"{shown(name)} ({error})"

    pictures: list[Picture] = []
    refused: list[str] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # of what a decoder can live with
        for done, one in enumerate(pool.map(read, [file.name for file in listing.files]), start=1):
            refused.append(one) if isinstance(one, str) else pictures.append(one)
            if report is not None:
                report(done, len(listing.files))
    if refused:
        named = "; ".join(refused[:NAMED]) + (f" and {len(refused) - NAMED} more" if len(refused) > NAMED else "")
        raise DataError(
            f"{listing.folder}: {len(refused)} of {len(listing.files)} pictures cannot be read: {named}; "
            "mend them, or move them away"
        )
    return pictures


def _splits(listing: Listing, pictures: Sequence[Picture], proportions: Sequence[float]) -> list[SplitName]:
    """The split of each picture: that of the folder, or where it lacks one, what is drawn here."""
    lacking = [split for split in SPLITS if split not in listing.ready]
    splits = [file.split for file in listing.files]
    if lacking:
        parts: dict[str, float] = {
            name: share for name, share in zip(SPLITS, proportions, strict=True) if name in {"train", *lacking}
        }
        drawn = [index for index, split in enumerate(splits) if split in (None, "train")]
        digests = [pictures[index].digest for index in drawn]
        try:
            divided = divide([listing.files[index].label for index in drawn], digests, parts)
        except DataError as error:
            raise DataError(f"{listing.folder}: {error}") from error
        for index, split in zip(drawn, divided, strict=True):
            splits[index] = cast(SplitName, split)
    return cast(list[SplitName], splits)


def _members(
    pictures: Sequence[Picture], labels: npt.NDArray[np.int64], cases: Mapping[SplitName, np.ndarray], channels: int
) -> Members:
    smallest = np.uint8 if labels.max() < 256 else np.int64
    for split, of in cases.items():
        yield f"{split}_images", np.stack([_with_channels(pictures[case].image, channels) for case in of])
        yield f"{split}_labels", labels[of].astype(smallest)[:, None]


def _with_channels(image: Bytes, channels: int) -> Bytes:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 and channels == 3 else image


def _twins(listing: Listing, pictures: Sequence[Picture], splits: Sequence[SplitName]) -> dict[str, Twins]:
    groups = repeated(picture.digest for picture in pictures)
    labels = [file.label for file in listing.files]
    return {
        "pictures": _told(listing, groups),
        "splits": _told(listing, [group for group in groups if len({splits[index] for index in group}) > 1]),
        "classes": _told(listing, [group for group in groups if len({labels[index] for index in group}) > 1]),
    }


def _told(listing: Listing, groups: Sequence[Sequence[int]]) -> Twins:
    first = [[shown(listing.files[index].name) for index in group[:4]] for group in groups[:NAMED]]
    return {"count": len(groups), "first": first}
