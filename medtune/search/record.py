"""The record of a trial: its `config.yaml`, `epochs.jsonl` and `validation.npz`, from which it can be trained again.

The driver writes it; whoever reads it needs neither the ledger nor the rest of the sweep's folder.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medtune.config.kinds import PRETRAIN, section_of
from medtune.config.messages import findings
from medtune.config.pretrain import PretrainConfig
from medtune.config.problems import listed
from medtune.config.read import read_sweep
from medtune.config.sweep import Data, SweepConfig
from medtune.config.trial import METRICS, Metric, Part, TrialConfig
from medtune.config.yaml_text import load_yaml
from medtune.data.splits import data_md5
from medtune.files import whole_lines
from medtune.provenance import processor, versions
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.machines import address_of
from medtune.search.worker import Job


class RecordError(FolderError):
    """There is no such record, or it does not say enough; the text says what to do."""


class UsedData(Data):
    """The data as it was loaded. md5: None in a record of an earlier version, of data that has a published one.
    fraction_seed: by which `train_fraction` drew its part of train."""

    md5: str | None
    fraction_seed: int


class UsedObjective(Part):
    """By which the best epoch was chosen."""

    metric: Metric
    direction: Literal["max", "min"]


class _Used(Part):
    """What stands in a `config.yaml` beside the settings: all else that the numbers of a trial come from. processor: of
    the CPU or GPU, by its name; None where that is not known. halved_from: the epoch from which on each batch went
    through the model in two halves."""

    precision: Literal["float32", "bfloat16"]
    seed: int
    threads: int
    device: str
    processor: str | None = None
    halved_from: int | None = None
    versions: dict[str, str]
    objective: UsedObjective
    data: UsedData

    @property
    def trial(self) -> dict[str, Any]:
        """The settings alone, as a `Job` has them."""
        beside = set(_Used.model_fields) - {"precision"}
        return self.model_dump(mode="json", exclude=beside)


class UsedTrial(_Used, TrialConfig):  # type: ignore[misc]  # precision is resolved
    """Of a trial."""


class UsedPretraining(_Used, PretrainConfig):  # type: ignore[misc]
    """Of a pretraining."""


Used = UsedTrial | UsedPretraining


@dataclass(frozen=True)
class Record:
    """What a trial has left. where: in words. trial: None where nothing says its number. epochs: the records of
    `epochs.jsonl`, 1 and up. predictions: of `validation.npz`; None while the trial has not ended."""

    where: str
    trial: int | None
    used: Used
    epochs: list[dict[str, Any]]
    predictions: dict[str, np.ndarray] | None


def shared_by_trials(config: SweepConfig) -> dict[str, Any]:
    """What every `config.yaml` of a sweep says alike, from the moment on at which its data has been loaded."""
    elsewhere = {"processor": None} if address_of(config.cluster) else {}  # the driver does not know on which machine
    data = {**config.data.model_dump(mode="json"), "md5": data_md5(config.data), "fraction_seed": config.seed}
    return {**elsewhere, "versions": versions(), "data": data}


def as_used(job: Job, shared: Mapping[str, Any], halved_from: int | None = None) -> dict[str, Any]:
    """The `config.yaml` of a trial. halved_from: as in `Used`."""
    used = {"precision": job.precision, "seed": job.seed, "threads": job.threads, "device": job.device}
    if halved_from is not None:
        used |= {"halved_from": halved_from}
    objective = {"metric": job.metric, "direction": job.direction}
    if "processor" not in shared:
        used |= {"processor": processor(job.device)}
    return {**job.config, **used, **shared, "objective": objective}


def record_in_folder(folder: Path, trial: int | None) -> Record:
    """Of a trial of a sweep's folder or, without its number, of a trial's own folder. Raises RecordError, and
    FolderError where there is no sweep."""
    if trial is None:
        number = int(folder.name) if folder.name.isdigit() else None
        return read_record(folder, str(folder), number, folder.absolute().parent.parent)
    path = SweepFolder.open(folder).trial(trial)
    if not path.exists():
        there = sorted(int(found.name) for found in path.parent.glob("[0-9]*"))
        known = f"they are numbered {there[0]} to {there[-1]}" if there else "none has begun"
        raise RecordError(f"{folder} has no trial {trial}: {known}")
    return read_record(path, f"trial {trial} of {folder}", trial, folder)


def read_record(folder: Path, where: str, trial: int | None, sweep: Path | None = None) -> Record:
    """The record in a folder. sweep: the folder of its sweep, for what records of earlier versions do not say.

    Raises RecordError and ConfigError."""
    if not (folder / "config.yaml").exists():
        raise RecordError(
            f"{where}: there is no config.yaml, so this is no trial; give a trial's number, or its folder"
        )
    tree = load_yaml((folder / "config.yaml").read_text(), str(folder / "config.yaml"))
    lines = folder / "epochs.jsonl"
    epochs = list(whole_lines(lines.read_text())) if lines.exists() else []
    numbers = [record.get("epoch") for record in epochs]
    if not numbers:
        raise RecordError(f"{where} has no epoch yet: there is nothing to compare with, and nothing to stop at")
    plain = all(isinstance(value, int | float) for line in epochs for value in line.values())
    if numbers != list(range(1, len(numbers) + 1)) or not plain:
        raise RecordError(f"{where}: epochs.jsonl is damaged; its whole lines are of the epochs {listed(numbers)}")
    return Record(where, trial, _used(tree, where, sweep), epochs, _predictions(folder / "validation.npz", where))


def _used(tree: Any, where: str, sweep: Path | None) -> Used:
    if not isinstance(tree, dict):
        raise RecordError(f"{where}: config.yaml is damaged, it holds no mapping")
    if "data" not in tree:
        tree = tree | _said_by_the_sweep(where, sweep)
    kind = UsedPretraining if section_of(tree) == PRETRAIN else UsedTrial
    wrong = findings(kind, tree)
    if wrong:
        writer = tree.get("versions", {}).get("medtune", "another version")
        said = "; ".join(finding.text for finding in wrong)
        raise RecordError(f"{where}: {said} (config.yaml is of medtune {writer}, this is {version('medtune')})")
    return kind.model_validate(tree)


def _said_by_the_sweep(where: str, sweep: Path | None) -> dict[str, Any]:
    """What the `config.yaml` of earlier versions lacks."""
    if sweep is None or not (sweep / "sweep.yaml").exists():
        raise RecordError(
            f"{where} was written by an earlier medtune, whose config.yaml does not say on which data: "
            "replay it from the folder of its sweep"
        )
    config = read_sweep(sweep / "sweep.yaml")
    begun_with = sweep / "data.md5"
    md5 = begun_with.read_text() if begun_with.exists() else None
    metric = config.epoch_metric
    return {
        "objective": {"metric": metric, "direction": METRICS[metric]},
        "data": {**config.data.model_dump(mode="json"), "md5": md5, "fraction_seed": config.seed},
    }


def _predictions(path: Path, where: str) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RecordError(f"{where}: validation.npz is damaged ({error}); move it away to do without it") from error
