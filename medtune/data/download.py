"""A file from the network, of a data set or of weights, with the hash that it should have.

A download goes to a temporary name in the same folder and gets its name only when its hash is right, so that a file
under its final name is always whole. One process downloads; the others wait for it.
"""

import errno
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs
import requests
from filelock import BaseFileLock, FileLock, Timeout
from urllib3.exceptions import HTTPError, NameResolutionError

from medtune.data import DataError

log = logging.getLogger(__name__)

CHUNK = 2**20
REMEMBER_FROM = 64 * 2**20  # bytes: hashing less takes no noticeable time
ANOTHER_FOLDER = "or give the folder that has it with --set data.root=DIR"
Report = Callable[[int, int], None]  # bytes so far, bytes in all (0: unknown)


@dataclass(frozen=True)
class Patience:
    """How long a download is tried. connect, read: seconds of silence; slowest: bytes a second over any `read` seconds;
    pause: seconds before the second attempt, doubled before each later one, more where the server asks for more;
    longest: seconds that it may ask for; sleep: that which waits."""

    connect: float = 10.0
    read: float = 60.0
    slowest: float = 1000.0
    attempts: int = 4
    pause: float = 2.0
    longest: float = 120.0
    sleep: Callable[[float], object] | None = None


@dataclass(frozen=True)
class _Wanted:
    """A file: where it is published, where it goes, how its hash begins, what helps where it cannot be had, and how
    many bytes it has at most."""

    url: str
    path: Path
    digest: str
    algorithm: str
    otherwise: str
    at_most: float


def download(
    url: str,
    path: Path,
    digest: str,
    *,
    algorithm: str = "md5",
    otherwise: str = ANOTHER_FOLDER,
    at_most: float = math.inf,
    patience: Patience | None = None,
    report: Report | None = None,
) -> None:
    """Download url to path, if nobody has done so by the time it is our turn. Raises DataError.

    digest: its hash by an algorithm of hashlib, or how that begins. otherwise: what a person may do where it fails.
    at_most: bytes; a longer file cannot be the right one."""
    wanted = _Wanted(url, path, digest, algorithm, otherwise, at_most)
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


class _NotTheFile(Exception):
    """What the server sends cannot be it, or does not come."""


class _Pace:
    """Refuses a server that sends, so that it is never silent, but too slowly for the file ever to be there."""

    def __init__(self, patience: Patience) -> None:
        self.patience, self.since, self.bytes = patience, time.monotonic(), 0

    def count(self, more: int) -> None:
        self.bytes += more
        seconds = time.monotonic() - self.since
        if seconds < self.patience.read:
            return
        if self.bytes < self.patience.slowest * seconds:
            raise _NotTheFile(f"it came at less than {self.patience.slowest:.0f} bytes a second")
        self.since, self.bytes = time.monotonic(), 0


def _try_often(wanted: _Wanted, patience: Patience, report: Report | None) -> None:
    pause = patience.pause
    for attempt in range(1, patience.attempts + 1):
        try:
            return _try_once(wanted, patience, report)
        except (OSError, HTTPError, _NotTheFile) as error:  # what requests raises is an OSError too
            cause, asked = _in_words(error, wanted), _retry_after(error)
            if asked > patience.longest:
                cause += f", and asks for {asked:.0f} s of peace"
            if attempt == patience.attempts or asked > patience.longest or not _may_pass(error):
                raise DataError(
                    f"{wanted.path}: not there, and the download failed ({cause}); {_help(error, wanted)}"
                ) from error
        log.warning("%s: %s; trying again", wanted.url, cause)
        (patience.sleep or time.sleep)(max(pause, asked))
        pause *= 2


def _try_once(wanted: _Wanted, patience: Patience, report: Report | None) -> None:
    path = wanted.path
    part = path.with_name(f".{path.name}.part")  # only who holds the lock writes it: that of a killed process is reused
    digest = hashlib.new(wanted.algorithm, usedforsecurity=False)
    plain = {"Accept-Encoding": "identity"}  # else the length in the header is not that of the file
    try:
        silence = (patience.connect, patience.read)
        with requests.get(wanted.url, stream=True, timeout=silence, headers=plain) as response, part.open("wb") as file:
            response.raise_for_status()
            length = response.headers.get("Content-Length", "")
            total, pace = int(length) if length.isdecimal() else 0, _Pace(patience)
            while chunk := response.raw.read1(CHUNK, decode_content=False):  # what is there: `read` waits for a MiB
                if max(total, file.tell() + len(chunk)) > wanted.at_most:
                    raise _NotTheFile(f"it is longer than the {wanted.at_most:.0f} bytes that it can have")
                file.write(chunk)
                digest.update(chunk)
                pace.count(len(chunk))
                if report is not None:
                    report(file.tell(), total)
            file.flush()
            os.fsync(file.fileno())  # else a machine that stops may have the name and not the bytes
        if not digest.hexdigest().startswith(wanted.digest):
            raise _NotTheFile(f"it has {wanted.algorithm.upper()} {digest.hexdigest()} instead of {wanted.digest}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _may_pass(error: Exception) -> bool:
    """Whether another attempt makes sense: a refusal, a full disk and a machine without a network stay as they are."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return not _no_network(error) and isinstance(error, requests.RequestException | HTTPError | _NotTheFile)


def _no_network(error: Exception) -> bool:
    inner = _innermost(error)
    return isinstance(inner, NameResolutionError) or getattr(inner.__cause__, "errno", None) == errno.ENETUNREACH


def _retry_after(error: Exception) -> float:
    """Seconds for which a server asks to be left alone: as a number, or as a date by its own clock."""
    headers = error.response.headers if isinstance(error, requests.HTTPError) and error.response is not None else {}
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - parsedate_to_datetime(headers["Date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return 0.0


def _help(error: Exception, wanted: _Wanted) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"make room in {wanted.path.parent}, {wanted.otherwise}"
    return f"its {wanted.algorithm.upper()} is {wanted.digest}; put {wanted.url} there by hand, {wanted.otherwise}"


def _innermost(error: BaseException) -> BaseException:
    """requests wraps errors in errors."""
    while isinstance(wrapped := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = wrapped
    return error


def _in_words(error: Exception, wanted: _Wanted) -> str:
    """The innermost cause in one short line."""
    if _no_network(error):
        return f"{urlsplit(wanted.url).hostname} cannot be reached: is there a network?"
    inner = _innermost(error)
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
