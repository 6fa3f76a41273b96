"""Pretrained encoders in a folder: each under the hash of its weights, and `encoder.json`, which is that of the newest.

A longer pretraining may find a better encoder; what began with the earlier one must find it as it was.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtune.data import DataError
from medtune.files import write_whole

FORMAT = 1
NEWEST = "encoder.json"
SUFFIX = ".safetensors"  # of weights, by the names of `Encoder.state_dict`; the same name with .json says what they are
FOLDER = "encoder"  # in that of the sweep that made it
DIGITS = 12  # of the hash that are in a name


def write_encoder(folder: Path, weights: bytes, description: Mapping[str, Any]) -> None:
    """`encoder.json` is written last: what a kill parts is not read as whole."""
    folder.mkdir(exist_ok=True)
    digest = hashlib.sha256(weights).hexdigest()
    name = digest[:DIGITS]
    told = {"format": FORMAT, **description, "weights": f"{name}{SUFFIX}", "sha256": digest}
    text = (json.dumps(told, indent=2, allow_nan=False) + "\n").encode()
    write_whole(folder / told["weights"], weights)
    write_whole(folder / f"{name}.json", text)
    write_whole(folder / NEWEST, text)


def read_encoder(folder: Path) -> dict[str, Any]:
    """What is said of the newest encoder of a folder. Raises DataError where there is none, or where it cannot be
    used."""
    if not (folder / NEWEST).is_file():
        raise DataError(f"{folder} holds no encoder: give a folder that `medtune pretrain` made")
    return _read(folder / NEWEST)


def described(weights: Path) -> dict[str, Any] | None:
    """What is said of a file of weights; None where it is of no encoder that was pretrained here. Raises DataError
    likewise."""
    path = weights.with_suffix(".json")
    return _read(path) if weights.suffix == SUFFIX and path.is_file() else None


def encoder_files(folder: Path) -> list[str]:
    """Of the newest encoder of a folder."""
    weights = str(read_encoder(folder)["weights"])
    return [NEWEST, weights, weights.replace(SUFFIX, ".json")]


def encoder_in(path: Path) -> Path | None:
    """The weights of the newest encoder that a folder means: that of a sweep that made some, or their own; None where
    there is none. Raises DataError where it cannot be used."""
    folder = next((folder for folder in (path / FOLDER, path) if (folder / NEWEST).is_file()), None)
    return None if folder is None else folder / read_encoder(folder)["weights"]


def _read(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text())
        version, name, digest = told["format"], told["weights"], told["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; `medtune resume` of its pretraining makes it anew") from error
    if version > FORMAT:
        raise DataError(f"{path} is of format {version}, and this medtune reads up to {FORMAT}: install a newer one")
    weights = path.with_name(name)
    if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != digest:
        raise DataError(
            f"{weights} is not what {path.name} tells of; `medtune resume` of its pretraining makes it anew"
        )
    return told
