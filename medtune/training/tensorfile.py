"""What is read of a safetensors file of ours without torch, and without reading its weights.

The format: 8 bytes of little-endian length, a JSON header, then the raw tensors (the safetensors format, version 0.x).
"""

import json
from typing import IO, Any

import numpy as np

VERSION = 1
NHWC = "@nhwc"  # behind the name of a tensor that is stored as it lies in memory, with its channels last
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


def read_part(file: IO[bytes], prefix: str) -> dict[str, np.ndarray]:
    """All arrays whose names begin with a prefix, float32 or int64, by the rest of their names."""
    header, start = _header(file)
    named = {name: header[name] for name in header if name.startswith(prefix)}
    return {name[len(prefix) :].removesuffix(NHWC): _array(file, start, name, named[name]) for name in named}


def _array(file: IO[bytes], start: int, name: str, entry: dict[str, Any]) -> np.ndarray:
    begin, end = entry["data_offsets"]
    file.seek(start + begin)
    array = np.frombuffer(file.read(end - begin), DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if name.endswith(NHWC) else array


def _header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(length)), 8 + length
