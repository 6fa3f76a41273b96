"""How far a spool has been carried over."""

import contextlib
import json
from pathlib import Path
from typing import Any

from medtune.files import to_json, write_whole

NOT_REACHED, REFUSED = 3, 4  # how a mirror's process ends when the server does not have everything


class State:
    """How far the spool has been carried over, in bytes, and to which server: another one gets it from the beginning.

    sure: whether the file is of this server. One of an earlier version has the offset alone: the server is to be asked.
    """

    def __init__(self, path: Path, server: dict[str, str]) -> None:
        self.path, self.server = path, server
        told = _read_state(path)
        if isinstance(told, int):
            told = {"offset": told}
        self.sure = told == {**server, "offset": told.get("offset")}
        self.offset = int(told["offset"]) if self.sure or told.keys() == {"offset"} else 0

    def save(self, offset: int) -> None:
        write_whole(self.path, to_json({**self.server, "offset": offset}).encode())
        self.offset = offset


def _read_state(path: Path) -> Any:
    """What the file holds; nothing where there is none, or none that can be read: then all is carried over again."""
    with contextlib.suppress(OSError, ValueError):
        told = json.loads(path.read_text())
        if isinstance(told, int | dict):
            return told
    return {}
