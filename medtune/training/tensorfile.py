"""What is read of a safetensors file of ours without torch, and without reading its weights.

The format: 8 bytes of little-endian length, a JSON header, then the raw tensors (the safetensors format, version 0.x).
"""

import json
from typing import IO, Any

import numpy as np

VERSION = 1
DTYPES = {"F32": np.float32, "I64": np.int64}


def stamp(values: dict[str, Any]) -> dict[str, str]:
    """Plain values as the metadata of a file."""
    return {"medtune": json.dumps({"version": VERSION, **values})}


def read_values(file: IO[bytes]) -> dict[str, Any]:
    """The plain values of a file. Raises ValueError where its format is of another version of medtune."""
    header, _ = _header(file)
    values: dict[str, Any] = json.loads(header["__metadata__"]["medtune"])
    if values["version"] != VERSION:
        raise ValueError(f"a file of format {values['version']}; this medtune reads format {VERSION}")
    return values


def read_array(file: IO[bytes], name: str) -> np.ndarray:
    """One array of a file, float32 or int64."""
    header, start = _header(file)
    begin, end = header[name]["data_offsets"]
    file.seek(start + begin)
    return np.frombuffer(file.read(end - begin), DTYPES[header[name]["dtype"]]).reshape(header[name]["shape"])


def read_part(file: IO[bytes], prefix: str) -> dict[str, np.ndarray]:
    """All arrays whose names begin with a prefix, by the rest of their names."""
    header, _ = _header(file)
    return {name.removeprefix(prefix): read_array(file, name) for name in header if name.startswith(prefix)}


def _header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(length)), 8 + length
