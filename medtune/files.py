"""Files that a kill leaves whole, and lines of JSON of which it cuts one short at most."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what is to have this name: under it is always a whole file, the old or the new. What a full disk
    cuts short is removed, which makes room again."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """A whole file with these bytes."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def append_line(path: Path, line: str) -> None:
    """The whole line or nothing. Raises OSError, which names the file."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size, rest = os.fstat(file).st_size, f"{line}\n".encode()
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError as error:
            os.ftruncate(file, size)
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(file)


def is_torn(path: Path) -> bool:
    """Whether a kill cut the last line of a file short."""
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def cut_torn_line(path: Path) -> bool:
    """Takes a line that was cut short from the end of a file. Whether there was one."""
    torn = is_torn(path)
    if torn:
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    return torn


def to_json(record: dict[str, Any]) -> str:
    """One line of JSON; NaN, which JSON does not have, becomes null."""
    return json.dumps({key: None if value != value else value for key, value in record.items()})


def whole_lines(text: str) -> Iterator[dict[str, Any]]:
    """The records of lines of JSON, with null as NaN; a line that a kill cut short is none."""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        yield {key: math.nan if value is None else value for key, value in record.items()}
