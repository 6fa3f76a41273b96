"""A file from the network, of a data set or of weights, with the hash that it should have.

A download goes to a temporary name in the same folder and gets its name only when its hash is right, so that a file
under its final name is always whole. One process downloads; the others wait for it.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import requests
from filelock import BaseFileLock, FileLock, Timeout

from medtune.data import DataError

log = logging.getLogger(__name__)

CHUNK = 2**20
REMEMBER_FROM = 64 * 2**20  # bytes: hashing less takes no noticeable time
ANOTHER_FOLDER = "or give the folder that has it with --set data.root=DIR"
Report = Callable[[int, int], None]  # bytes so far, bytes in all (0: unknown)


@dataclass(frozen=True)
class Patience:
    """How long a download is tried. connect, read: seconds of silence; pause: seconds before the second attempt,
    doubled before each later one."""

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 4
    pause: float = 2.0


@dataclass(frozen=True)
class _Wanted:
    """A file: where it is published, where it goes, how its hash begins, and what helps where it cannot be had."""

    url: str
    path: Path
    digest: str
    algorithm: str
    otherwise: str


def download(
    url: str,
    path: Path,
    digest: str,
    *,
    algorithm: str = "md5",
    otherwise: str = ANOTHER_FOLDER,
    patience: Patience | None = None,
    report: Report | None = None,
) -> None:
    """Download url to path, if nobody has done so by the time it is our turn. Raises DataError.

    digest: its hash by an algorithm of hashlib, or how that begins. otherwise: what a person may do where it fails."""
    wanted = _Wanted(url, path, digest, algorithm, otherwise)
    with turn(path, otherwise):
        if path.exists():  # another process has just verified it and given it its name
            return
        log.info("downloading %s to %s", url, path)
        _try_often(wanted, patience or Patience(), report)


@contextmanager
def turn(path: Path, otherwise: str) -> Iterator[None]:
    """Hold the lock of this file. Waits without limit: the system frees the lock of a process that dies.

    Raises DataError, which ends with `otherwise`, where the file's folder cannot be written."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path)
    except OSError as error:
        raise DataError(
            f"{path}: not there, and the folder cannot be written ({error.strerror or error}); "
            f"make it writable, {otherwise}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, path: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is writing %s; waiting for it", path)
        lock.acquire()


class _WrongHash(Exception):
    pass


def _try_often(wanted: _Wanted, patience: Patience, report: Report | None) -> None:
    for attempt in range(1, patience.attempts + 1):
        try:
            return _try_once(wanted, patience, report)
        except (OSError, _WrongHash) as error:  # what requests raises is an OSError too
            cause = _in_words(error)
            if attempt == patience.attempts or not _may_pass(error):
                raise DataError(
                    f"{wanted.path}: not there, and the download failed ({cause}); "
                    f"put {wanted.url} there by hand, {wanted.otherwise}"
                ) from error
        log.warning("%s: %s; trying again", wanted.url, cause)
        time.sleep(patience.pause * 2 ** (attempt - 1))


def _try_once(wanted: _Wanted, patience: Patience, report: Report | None) -> None:
    path = wanted.path
    part = path.with_name(f".{path.name}.part")  # only who holds the lock writes it: that of a killed process is reused
    digest = hashlib.new(wanted.algorithm, usedforsecurity=False)
    plain = {"Accept-Encoding": "identity"}  # else the length in the header is not that of the file
    try:
        silence = (patience.connect, patience.read)
        with requests.get(wanted.url, stream=True, timeout=silence, headers=plain) as response, part.open("wb") as file:
            response.raise_for_status()
            total = int(response.headers.get("Content-Length", 0))
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                if report is not None:
                    report(file.tell(), total)
        if not digest.hexdigest().startswith(wanted.digest):
            raise _WrongHash(f"it has {wanted.algorithm.upper()} {digest.hexdigest()} instead of {wanted.digest}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _may_pass(error: Exception) -> bool:
    """Whether another attempt makes sense: a refusal or a full disk stays."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, requests.RequestException | _WrongHash)


def _in_words(error: Exception) -> str:
    """The innermost cause in one short line: requests wraps errors in errors."""
    inner: BaseException = error
    while (wrapped := getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)) is not None:
        if not isinstance(wrapped, BaseException):
            break
        inner = wrapped
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    if text.startswith("HTTP"):  # HTTPSConnection(host='…', port=443): what went wrong
        text = text.partition("): ")[2] or text
    return " ".join(text.split())[:200] or type(inner).__name__


def file_md5(path: Path) -> str:
    """MD5 of a file. That of a big one is remembered, in the user's cache folder, for as long as its size and times
    stay the same. Raises DataError when it cannot be read."""
    try:
        state = path.stat()
        if state.st_size < REMEMBER_FROM:
            return _hash(path)
        seen = {"path": str(path.resolve()), "size": state.st_size, "times": [state.st_mtime_ns, state.st_ctime_ns]}
        note = _note(path)
        remembered = _read_note(note)
        if {key: remembered.get(key) for key in seen} == seen:
            return str(remembered["md5"])
        md5 = _hash(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); look at its permissions") from error
    _write_note(note, {**seen, "md5": md5})
    return md5


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _note(path: Path) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    return platformdirs.user_cache_path("medtune") / "verified" / f"{name}.json"


def _read_note(note: Path) -> dict[str, object]:
    try:
        content = json.loads(note.read_text())
        return content if isinstance(content, dict) and isinstance(content.get("md5"), str) else {}
    except (OSError, ValueError):
        return {}


def _write_note(note: Path, content: dict[str, object]) -> None:
    part = note.with_suffix(f".{os.getpid()}.part")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content))
        part.replace(note)
    except OSError:  # a cache that cannot be written costs time, nothing else
        log.debug("could not write %s", note)
