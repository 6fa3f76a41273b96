"""Files that a kill leaves whole, and lines of JSON of which it cuts one short at most."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_whole(path: Path, data: bytes) -> None:
    """The file under its name is always a whole one: the old, or the new."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


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
