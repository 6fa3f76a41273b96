"""What becomes the artifacts of a run, put together in a folder."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medtune.config.sweep import Data
from medtune.config.write import without_password
from medtune.data.catalogue import describe
from medtune.figures.trial import draw_predictions


@contextlib.contextmanager
def staged(sweep: Path, event: Mapping[str, Any], data: Data) -> Iterator[Path]:
    """The folder, from `with` to its end. sweep: that of the sweep. event: a line of the spool that has `files`."""
    with tempfile.TemporaryDirectory(prefix="medtune-") as scratch:
        staging = Path(scratch)
        stage(sweep / event["folder"], event["files"], staging)
        if "epoch" in event:
            _draw(staging, event["epoch"], data)
        yield staging


def stage(folder: Path, files: Iterable[str], staging: Path) -> None:
    """Copies those that are there; without the passwords of a sweep file."""
    for name in files:
        if (folder / name).exists():
            shutil.copyfile(folder / name, staging / Path(name).name)
    if (staging / "sweep.yaml").exists():
        text = (staging / "sweep.yaml").read_text()
        (staging / "sweep.yaml").write_text(without_password(text))


def _draw(staging: Path, epoch: int, data: Data) -> None:
    info, path = describe(data), staging / "validation.npz"
    if not path.exists():
        return
    try:
        with np.load(path, allow_pickle=False) as predictions:
            draw_predictions(predictions, epoch, info.task, info.classes, staging)
    except Exception as error:  # a trial without its pictures is better than a mirror that stands still
        with contextlib.suppress(OSError):
            print(f"no pictures of {path.name} at epoch {epoch}: {error}", file=sys.stderr, flush=True)
