"""What lies in a folder of pictures: its classes, its splits if it has any, its files; nothing is opened."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtune.data import SPLITS, DataError, SplitName

NAMES_OF_SPLITS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
EXTENSIONS = frozenset(".png .jpg .jpeg .bmp .gif .tif .tiff .webp .pgm .ppm".split())
DICOM = frozenset((".dcm", ".dicom"))
FROM_DICOM = "save it as a PNG of 8 or 16 bits, with its window applied"


@dataclass(frozen=True)
class Listed:
    """A picture's file. name: below the folder, with slashes. split: None where the folder is not divided."""

    name: str
    label: str
    split: SplitName | None
    size: int
    changed: int  # nanoseconds


@dataclass(frozen=True)
class Listing:
    """files: sorted by name, so that the order of the file system never matters. classes: sorted; a label is the
    position. ready: the splits that the folder has itself. skipped: how many files were passed over, by kind."""

    folder: Path
    files: tuple[Listed, ...]
    classes: tuple[str, ...]
    ready: tuple[SplitName, ...]
    skipped: Mapping[str, int]


def list_folder(folder: Path, exclude: Sequence[str] = ()) -> Listing:
    """One folder a class, or train/, val/ and test/ with one folder a class in each; `exclude`: folders left out.

    Raises DataError where that is not what it is."""
    skipped: Counter[str] = Counter()
    below = _folders(folder, skipped)
    ready = _ready_splits(folder, {name: path for name, path in below.items() if name not in exclude})
    found: dict[SplitName | None, dict[str, Path]] = {split: _folders(path, skipped) for split, path in ready.items()}
    found = found or {None: below}
    _check_exclude(folder, exclude, set(below).union(*found.values()))
    classes = _classes(folder, {split: set(paths) - set(exclude) for split, paths in found.items()})
    files = [
        file
        for split, paths in found.items()
        for label in classes
        for file in _pictures(folder, paths[label], label, split, skipped)
    ]
    return Listing(folder, tuple(sorted(files, key=lambda file: file.name)), classes, tuple(ready), dict(skipped))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _folders(folder: Path, skipped: Counter[str]) -> dict[str, Path]:
    """The folders in a folder by name. Files beside them are counted."""
    try:
        entries = {entry: entry.is_dir() for entry in sorted(folder.iterdir())}
    except OSError as error:
        raise DataError(f"{folder}: cannot be read as a folder ({error.strerror}); check data.folder") from error
    for entry, is_folder in entries.items():
        if not is_folder:
            skipped["hidden" if _hidden(entry.name) else "outside of the classes"] += 1
    below = [entry for entry, is_folder in entries.items() if is_folder and not _hidden(entry.name)]
    for entry in below:
        if not entry.name.isprintable():  # it would have to be printed, drawn and sent
            raise DataError(f"{folder}: has a folder {shown(entry.name)}, whose name cannot be printed; rename it")
        if entry.is_symlink() and folder.resolve().is_relative_to(entry.resolve()):
            raise DataError(f"{entry}: is a link to a folder that it lies in; remove it")
    return {entry.name: entry for entry in below}


def _ready_splits(folder: Path, below: Mapping[str, Path]) -> dict[SplitName, Path]:
    """The splits that a folder is divided into; none where no name is that of a split."""
    named = [(NAMES_OF_SPLITS[name.lower()], name) for name in below if name.lower() in NAMES_OF_SPLITS]
    found = {split: below[name] for split, name in named}
    if not found:
        return {}
    if len(found) < len(named):
        raise DataError(
            f"{folder}: has {', '.join(name for _, name in named)}, two of them for one split; move one away"
        )
    if others := sorted(set(below) - {name for _, name in named}):
        raise DataError(f"{folder}: beside its splits has {_some(others)}; leave it out with data.exclude")
    if "train" not in found:
        raise DataError(f"{folder}: has {named[0][1]}/ and no train/; a class must not have the name of a split")
    if "test" not in found:
        raise DataError(
            f"{folder}: has {found['train'].name}/ and no test/, and val is no test; "
            f"give {found['train']} as data.folder to have it divided into three"
        )
    return {split: found[split] for split in SPLITS if split in found}


def _check_exclude(folder: Path, exclude: Sequence[str], names: set[str]) -> None:
    if unknown := sorted(set(exclude) - names):
        raise DataError(f"{folder}: has no {_some(unknown)} for data.exclude to leave out; it has {_some(names)}")


def _classes(folder: Path, found: Mapping[SplitName | None, set[str]]) -> tuple[str, ...]:
    """The classes, of which every split must have all."""
    classes = set[str]().union(*found.values())
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(classes):
        alike[unicodedata.normalize("NFC", name).casefold()].append(name)
    if several := [" and ".join(names) for names in alike.values() if len(names) > 1]:
        raise DataError(
            f"{folder}: has the classes {', '.join(several)}, which are one name written in two ways; "
            "merge them, or leave one out with data.exclude"
        )
    for split, names in found.items():
        if lacking := sorted(classes - names):
            raise DataError(
                f"{folder}: {split} has no {_some(lacking)}, and another split has; "
                "every split needs every class, or leave it out with data.exclude"
            )
    if len(classes) < 2:
        raise DataError(f"{folder}: has {len(classes)} class folders; there must be one for each of two or more")
    return tuple(sorted(classes))


def _pictures(folder: Path, path: Path, label: str, split: SplitName | None, skipped: Counter[str]) -> Iterator[Listed]:
    """The pictures of a class, those in folders below it too."""
    passed: Counter[str] = Counter()
    pictures = [file for file in _files(path, passed) if not _pass_over(file, passed)]
    if not pictures:
        why = f" ({in_words(passed)})" if passed else ""
        way_out = f"DICOM is not read: {FROM_DICOM}" if dicom_files(passed) else "add some"
        raise DataError(f"{path}: has no pictures{why}; {way_out}, or leave it out with data.exclude")
    skipped.update(passed)
    for file in pictures:
        size, changed = _state(file)
        yield Listed(file.relative_to(folder).as_posix(), label, split, size, changed)


def _files(path: Path, skipped: Counter[str]) -> Iterator[Path]:
    for place, folders, names in os.walk(path, onerror=_refuse):
        if links := sum(os.path.islink(os.path.join(place, name)) for name in folders):
            skipped["linked folders"] += links
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(place, name) for name in names)


def _refuse(error: OSError) -> None:
    raise DataError(f"{shown(error.filename)}: cannot be read ({error.strerror}); look at its permissions") from error


def _pass_over(file: Path, skipped: Counter[str]) -> bool:
    """Whether a file is not meant to be a picture; counted."""
    extension = file.suffix.lower()
    if not _hidden(file.name) and extension in EXTENSIONS:
        return False
    skipped["hidden" if _hidden(file.name) else extension or "without an extension"] += 1
    return True


def _state(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError:  # a link to nowhere: who reads it will say so
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _some(names: Sequence[str] | set[str], most: int = 10) -> str:
    shown = sorted(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def shown(name: str) -> str:
    """A file's name on one line, whatever is in it."""
    return name if name.isprintable() else repr(name)[1:-1]


def dicom_files(skipped: Mapping[str, int]) -> int:
    """How many of the files that were passed over are DICOM by their names."""
    return sum(skipped.get(extension, 0) for extension in DICOM)


def in_words(skipped: Mapping[str, int]) -> str:
    """What was passed over, the most first."""
    return ", ".join(
        f"{count} {shown(kind)}" for kind, count in sorted(skipped.items(), key=lambda pair: -pair[1]) if count
    )
