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
