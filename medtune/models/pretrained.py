"""A pretrained encoder in its folder: `encoder.json` and the weights beside it. Knows no sweep."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtune.data import DataError
from medtune.files import write_whole

FORMAT = 1
DESCRIPTION = "encoder.json"
WEIGHTS = "encoder.safetensors"  # by the names of `Encoder.state_dict`
FOLDER = "encoder"  # in that of the sweep that made it


def write_encoder(folder: Path, weights: bytes, description: Mapping[str, Any]) -> None:
    """The description is written last, with a hash of the weights: what a kill parts is not read as whole."""
    folder.mkdir(exist_ok=True)
    write_whole(folder / WEIGHTS, weights)
    told = {"format": FORMAT, **description, "sha256": hashlib.sha256(weights).hexdigest()}
    write_whole(folder / DESCRIPTION, (json.dumps(told, indent=2, allow_nan=False) + "\n").encode())


def read_encoder(folder: Path) -> dict[str, Any]:
    """What `encoder.json` holds. Raises DataError where there is none, or one that cannot be used."""
    path = folder / DESCRIPTION
    try:
        description: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no encoder: give a folder that `medtune pretrain` made") from error
    if description["format"] > FORMAT:
        raise DataError(
            f"{path} is of format {description['format']}, and this medtune reads up to {FORMAT}: install a newer one"
        )
    with (folder / WEIGHTS).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != description["sha256"]:
            raise DataError(f"{folder}: {WEIGHTS} is not what {DESCRIPTION} describes; `medtune resume` makes it anew")
    return description


def encoder_in(path: Path) -> Path | None:
    """The folder of the encoder that a path means: of a sweep that made one, or its own; None where there is none."""
    return next((folder for folder in (path / FOLDER, path) if (folder / DESCRIPTION).is_file()), None)
