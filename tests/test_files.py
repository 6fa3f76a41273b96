import json
import math
import os
from pathlib import Path
from typing import Any

from medtune.files import to_json, whole_lines, write_whole


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path, killed_in: Any) -> None:
    path = tmp_path / "test.json"
    write_whole(path, b"old")
    with killed_in(os, "replace"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and [entry.name for entry in tmp_path.iterdir()] == ["test.json"]


def test_lines_of_json() -> None:
    record = {"a": math.nan, "b": 1.5, "c": None}
    assert json.loads(to_json(record)) == {"a": None, "b": 1.5, "c": None}
    assert [r["x"] for r in whole_lines('{"x": 1}\n{"x": \n\n{"x": 2}\n')] == [1, 2]
