"""The encoder of a pretraining in MLflow: as an artifact of the sweep's run, and as a version in the registry."""

from pathlib import Path
from typing import Any

from medtune.models.pretrained import read_encoder
from medtune.search.folder import SweepFolder
from medtune.tracking.packaged import model_digest
from medtune.tracking.registry import forget_told
from medtune.tracking.spool import SWEEP
from medtune.tracking.tracker import Tracker


def track_encoder(tracker: Tracker, folder: SweepFolder, path: Path) -> str:
    """Sends an encoder on its way. The name that it gets in the registry."""
    forget_told(folder)
    told = read_encoder(path)
    name = registered_encoder(told["dataset"])
    tags: dict[str, Any] = {key: told[key] for key in ("sweep", "sweep_id", "trial", "dataset", "size", "data_md5")}
    tags |= {"images": told["images"], "method": told["config"]["method"]["name"], "model": model_digest(path)}
    tracker.spool.register(SWEEP, str(path.relative_to(folder.path)), name, tags, alias_of(told["data_md5"]))
    return name


def alias_of(data_md5: str) -> str:
    """Of the newest encoder of very these images."""
    return f"md5-{data_md5[:12]}"


def registered_encoder(dataset: str) -> str:
    """The name in the registry; what it stands for must not be mistaken for a model that classifies."""
    return f"medtune-encoder-{dataset}"
