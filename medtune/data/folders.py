"""A folder of pictures as a data set: read once, into a file with MedMNIST's members in the user's cache.

Beside that file lies a JSON of the same name with what is known of it. A folder that has changed since, by the names,
sizes or times of its files, is read again.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from medtune.config.sweep import Data
from medtune.data import DataError
from medtune.data.dataset import DatasetInfo
from medtune.data.download import file_md5, turn
from medtune.data.listing import FROM_DICOM, Listing, dicom_files, list_folder
from medtune.data.reading import Found, Report, Twins, read_listing, write_npz

log = logging.getLogger(__name__)

VERSION = 2  # raise it with any change of the pixels or of the division


@dataclass(frozen=True)
class Reading:
    """One reading of a folder; the JSON beside the file. listing: a hash of the names, sizes and times of the folder's
    files. md5: of the file that it was read into."""

    source: str
    exclude: list[str]
    split: list[float]
    size: int
    listing: str
    md5: str
    found: Found


def folder_path(data: Data) -> Path:
    """The folder that a sweep file names. A relative path begins where we are."""
    assert data.folder is not None
    return Path(data.folder).expanduser().resolve()


def cached_file(data: Data) -> Path:
    """Where the file of a folder is, or would be: one for each folder, exclude, split and size, so that what a folder
    was when it was read is known without a look at it."""
    options = [str(folder_path(data)), sorted(data.exclude), list(data.split), data.size]
    title = re.sub(r"[^A-Za-z0-9._-]", "_", folder_path(data).name)
    return _cache() / f"{title[:100]}-{_short_hash(options)}.npz"


def _cache() -> Path:
    return platformdirs.user_cache_path("medtune") / "folders"


def _short_hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def import_folder(data: Data, report: Report | None = None) -> Path:
    """The file of a folder as it is now; read if it has not been yet. Of a folder that is gone, the last reading.

    report: is told how many pictures have been read. Raises DataError."""
    source, path = folder_path(data), cached_file(data)
    if not os.path.exists(source) and _is_whole(path):
        log.warning("%s is not there; taking what was read of it before, %s", source, path)
        return path
    listing = list_folder(source, data.exclude)
    key = _short_hash([VERSION, *(asdict(file) for file in listing.files)])
    with turn(path, "or say with XDG_CACHE_HOME where else a cache may be"):
        known = _reading(path)
        if known is None or known.listing != key or not _is_whole(path):
            _read(data, listing, key, path, report)
    return path


def _is_whole(path: Path) -> bool:
    known = _reading(path)
    return known is not None and path.exists() and file_md5(path) == known.md5


def export(path: Path, out: Path) -> None:
    """Copies a file of the cache. Raises DataError where it cannot be written."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(path, part)
        part.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        part.unlink(missing_ok=True)


def reading_of(data: Data) -> Reading:
    """What is known of a folder: of its last reading, without a look at the folder; it is read if there is none.

    Raises DataError."""
    known = _reading(cached_file(data)) or _reading(import_folder(data))
    assert known is not None
    return known


def readings_of(folder: Path) -> list[tuple[Path, Reading]]:
    """All that the cache has of a folder: the files, and what is known of them."""
    found = ((path, _reading(path)) for path in sorted(_cache().glob("*.npz")))
    return [(path, known) for path, known in found if known is not None and known.source == str(folder.resolve())]


def folder_info(data: Data) -> DatasetInfo:
    """A folder as a data set. Raises DataError."""
    known = reading_of(data)
    return DatasetInfo(
        flag=data.title,
        title=f"Pictures of the folder {data.title}",
        task="binary" if len(known.found.classes) == 2 else "multiclass",
        classes=tuple(known.found.classes),
        channels=known.found.channels,
        cases={split: sum(counts) for split, counts in known.found.counts.items()},
        licence="as the pictures'",
        md5={data.size: known.md5},
        traps=tuple(doubts(known.found)),
    )


def doubts(found: Found) -> Iterator[str]:
    """What a person should know before believing a number measured on a folder."""
    between, under = found.twins["splits"], found.twins["classes"]
    if between["count"]:
        yield f"Pictures in more than one split make val and test look better than they are: {_named(between)}."
    if under["count"]:
        yield f"Pictures in more than one class are wrong in one of them: {_named(under)}."
    if found.enlarged:
        yield f"{found.enlarged} pictures had a shorter side than asked for and were enlarged."
    if dicom := dicom_files(found.skipped):
        yield f"{dicom} DICOM files were passed over, as they are not read: {FROM_DICOM}."
    if found.dark:
        yield f"{found.dark} pictures of 16 bits use 12 of them at most and are nearly black; stretch them first."


def _named(twins: Twins) -> str:
    more = "; …" if twins["count"] > len(twins["first"]) else ""
    return f"{twins['count']} ({'; '.join(' = '.join(names) for names in twins['first'])}{more})"


def _reading(path: Path) -> Reading | None:
    """What the JSON beside a file says; None where there is none, or one that is not ours."""
    try:
        content = json.loads(path.with_suffix(".json").read_text())
        return Reading(**content | {"found": Found(**content["found"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _read(data: Data, listing: Listing, key: str, path: Path, report: Report | None) -> None:
    """Reads the pictures, and writes the file and then its JSON, which makes it count."""
    members, found = read_listing(listing, data.size, data.split, report)
    part = path.with_suffix(".part")  # only who has the turn writes it
    try:
        write_npz(part, members)
        known = Reading(
            listing=key,
            source=str(listing.folder),
            exclude=sorted(data.exclude),
            split=list(data.split),
            size=data.size,
            md5=file_md5(part),
            found=found,
        )
        part.replace(path)
        part.write_text(json.dumps(asdict(known), indent=2) + "\n")
        part.replace(path.with_suffix(".json"))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); make room there") from error
    finally:
        part.unlink(missing_ok=True)
