"""What a pretraining leaves: the encoder of its best trial, in a folder of its own, for `trial.model.weights`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtune.config.default import settings_at
from medtune.config.pretrain import PretrainConfig
from medtune.config.sweep import SweepConfig
from medtune.data.catalogue import describe
from medtune.data.splits import data_md5
from medtune.models.pretrained import FOLDER, described, write_encoder
from medtune.provenance import versions
from medtune.search.folder import SweepFolder
from medtune.search.summary import Summary


def keep_encoder(folder: SweepFolder, config: SweepConfig) -> Path | None:
    """Brings the best encoder into its folder; None where no trial has a value, or the best one's weights were not
    kept."""
    summary = Summary(folder, config)
    if summary.best is None:
        return None
    weights = folder.trial(summary.best.number) / "best" / "model.safetensors"
    if not weights.exists():
        return None
    path = folder.path / FOLDER
    write_encoder(path, weights.read_bytes(), _description(folder, config, summary))
    return path


def _description(folder: SweepFolder, config: SweepConfig, summary: Summary) -> Mapping[str, Any]:
    assert summary.best is not None
    number, info = summary.best.number, describe(config.data)
    settings = settings_at(config.trial, summary.ledger.point(number))
    assert isinstance(settings, PretrainConfig)
    begun_with = None if settings.model.weights is None else described(Path(settings.model.weights))
    before = "train" if begun_with is None else begun_with["images"]  # an encoder may go on from another
    return {
        "sweep": config.sweep,
        "sweep_id": folder.sweep_id,
        "trial": number,
        "epoch": summary.best.best_epoch,
        "seed": folder.used(number)["seed"],
        "dataset": config.data.title,
        "folder": config.data.folder is not None,
        "data_md5": data_md5(config.data),
        "size": config.data.side,
        "channels": 3 if config.data.as_rgb else info.channels,
        "images": "train" if settings.images == before == "train" else "train+val",
        "probe": {key: value for key, value in summary.numbers(summary.best).items() if key.startswith("val/")},
        "config": settings.model_dump(mode="json"),
        "versions": versions(),
    }
