"""What is evaluated: a trial on its validation cases, or a retrained model on the test, once that is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medtune.config.default import trial_config
from medtune.config.sweep import SweepConfig
from medtune.config.trial import TrialConfig
from medtune.data import Split
from medtune.data.batches import DeviceSplit, to_device
from medtune.data.catalogue import describe
from medtune.evaluation.appraisal import Decided
from medtune.evaluation.metrics import Floats, Integers
from medtune.inspection.rebuilt import rebuilt
from medtune.models.classifier import Classifier
from medtune.retraining.result import retrained_models
from medtune.search.entries import Entry, best_entry, ranked
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.loading import load_search_data
from medtune.search.run import DEFAULT_TRIAL
from medtune.search.sweep import check_data
from medtune.task import Task
from medtune.trained.model import TrainedModel
from medtune.training.device import autocast, detect_device
from medtune.unseal import open_sealed

ENSEMBLE = 5  # of the best trials
LEFT_OUT = "what asks a model is left out"


@dataclass(frozen=True)
class Network:
    """A model and the images that it is asked about, on one device."""

    model: Classifier
    split: DeviceSplit
    autocast: torch.autocast


@dataclass(frozen=True)
class Rival:
    """Another trial, at its best epoch on the same cases. logits: (cases, classes)."""

    trial: int
    logits: Floats


@dataclass(frozen=True)
class Subject:
    """The predictions of one model, with all that belongs to them.

    about: in words. run: the key of its run in tracking. folder: where its evaluation is written. trial, epoch: None
    where there is none. logits: float32 (cases, classes). images: uint8 of the same cases. members: the logits of the
    models of an ensemble on the same cases, this one first. rival: what it is compared with. records: of its epochs.
    network: None where its weights were not kept, and then `without` says so. decided: what was chosen on validation;
    None: these cases are validation.
    """

    about: str
    run: str
    folder: Path
    trial: int
    epoch: int | None
    split: str
    task: Task
    classes: Sequence[str]
    logits: Floats
    labels: Integers
    images: np.ndarray
    members: np.ndarray
    network: Network | None
    without: str = ""
    rival: Rival | None = None
    records: Sequence[Mapping[str, Any]] = ()
    decided: Decided | None = None
    looks: int = 0


def subject_of_trial(
    folder: SweepFolder,
    config: SweepConfig,
    number: int | None = None,
    against: int | None = None,
    epoch: int | None = None,
) -> Subject:
    """A trial at an epoch, its best one unless it is given, on validation, or out of fold where it was cross-validated;
    the best trial unless a number is given. against: another trial, the untuned default unless given. Raises
    FolderError where a trial that was named is not there or has left no predictions."""
    check_data(folder, config)
    ledger = Ledger(folder, config)
    entries = ledger.entries()
    entry = _chosen_entry(folder, config, entries, number)
    best_epoch, entry = entry.best_epoch, replace(entry, best_epoch=epoch or entry.best_epoch)
    logits, labels = _predictions(folder, entry)
    settings, info = trial_config(config.trial, ledger.point(entry.number)), describe(config.data)
    split = _cases(config, settings)
    network, without = _network(folder, config, entry.number, settings, split)
    if entry.best_epoch != best_epoch:
        network, without = None, f"the weights of trial {entry.number} are those of epoch {best_epoch}: {LEFT_OUT}"
    many = f"{len(labels):,} cases"
    where = f"out of fold, {many} of train and val" if settings.folds else f"validation, {many}"
    return Subject(
        about=f"trial {entry.number}, epoch {entry.best_epoch}, {where}",
        run=f"trial-{entry.number:04d}",
        folder=folder.trial(entry.number) / "evaluation",
        trial=entry.number,
        epoch=entry.best_epoch,
        split="val",
        task=info.task,
        classes=info.classes,
        logits=logits,
        labels=labels,
        images=split.images,
        members=_members(folder, config, entries, entry, logits),
        network=network,
        without=without,
        rival=_rival(folder, config, entries, entry, logits, against),
        records=folder.epochs(entry.number),
    )


def _chosen_entry(folder: SweepFolder, config: SweepConfig, entries: Sequence[Entry], number: int | None) -> Entry:
    if number is None:
        entry = best_entry(entries, config.direction)
    else:
        entry = next((entry for entry in entries if entry.number == number), None)
        if entry is None:
            raise FolderError(f"{folder.path} has no trial {number}: they are numbered 0 to {len(entries) - 1}")
    if entry is None or entry.best_epoch is None:
        what = "no trial with a value" if entry is None else f"no value of trial {entry.number} ({entry.state})"
        raise FolderError(f"{folder.path} has {what} yet: there is nothing to evaluate")
    return entry


def _predictions(folder: SweepFolder, entry: Entry) -> tuple[Floats, Integers]:
    """Of the best epoch."""
    found = folder.predictions_of(entry.number, entry.best_epoch)
    if found is None:
        raise FolderError(
            f"{folder.path} has no predictions of trial {entry.number} at epoch {entry.best_epoch} yet: "
            f"they are written when a trial ends, and `medtune resume {folder.path}` goes on with it"
        )
    return found


def _cases(config: SweepConfig, settings: TrialConfig) -> Split:
    """The images behind the predictions: of validation, or of train as it was searched on and then validation."""
    data = load_search_data(config)
    if not settings.folds:
        return data.val
    train, val = data.train, data.val
    return Split(np.concatenate([train.images, val.images]), np.concatenate([train.labels, val.labels]))


def _network(
    folder: SweepFolder, config: SweepConfig, number: int, settings: TrialConfig, split: Split
) -> tuple[Network | None, str]:
    """The trial's model, or why there is none."""
    if settings.folds:
        return None, f"trial {number} is {settings.folds} models, one for each fold: {LEFT_OUT}"
    path = folder.trial(number) / "best" / "model.safetensors"
    if not path.exists():
        return None, f"the weights of trial {number} were not kept (keep.weights): {LEFT_OUT}"
    device = detect_device()
    on_device = to_device(split, device, config.data.as_rgb)
    info = describe(config.data)
    model = rebuilt(path, settings, on_device.channels, len(info.classes), on_device.size)
    return Network(model.to(device), on_device, autocast(device, folder.used(number)["precision"])), ""


def _members(
    folder: SweepFolder, config: SweepConfig, entries: Sequence[Entry], subject: Entry, logits: Floats
) -> np.ndarray:
    """(members, cases, classes): the subject and the best of the other complete trials, at their best epochs."""
    members = [logits]
    for entry in ranked(entries, config.direction):
        if entry.number == subject.number or entry.state != "complete" or len(members) == ENSEMBLE:
            continue
        found = folder.predictions_of(entry.number, entry.best_epoch)
        if found is not None and _comparable(found[0], logits):
            members.append(found[0])
    return np.stack(members)


def _comparable(other: Floats, logits: Floats) -> bool:
    """Of as many cases, and of a training that did not diverge."""
    return other.shape == logits.shape and bool(np.isfinite(other).all())


def _rival(
    folder: SweepFolder,
    config: SweepConfig,
    entries: Sequence[Entry],
    subject: Entry,
    logits: Floats,
    number: int | None,
) -> Rival | None:
    """The trial that was named, or the untuned default where that is another one with predictions."""
    if number is not None:
        rival, _ = _predictions(folder, _chosen_entry(folder, config, entries, number))
        return Rival(number, rival)
    try:
        rival, _ = _predictions(folder, _chosen_entry(folder, config, entries, DEFAULT_TRIAL))
    except FolderError:
        return None
    there = subject.number != DEFAULT_TRIAL and _comparable(rival, logits)
    return Rival(DEFAULT_TRIAL, rival) if there else None


def subject_of_test(folder: SweepFolder, config: SweepConfig, again: bool) -> Subject:
    """The first retrained model on the test; what asks the model asks the first member of an ensemble. It is another
    look at it, see `open_sealed`. Raises FolderError where there is no retrained model, or where `medtune test` has not
    opened the test."""
    models = retrained_models(folder)
    if not all((path / "test.npz").exists() for path in models):
        raise FolderError(
            f"{folder.path} has its test still sealed: `medtune test {folder.path}` opens it, and comes first"
        )
    model, info = TrainedModel.load(models[0]), describe(config.data)
    looks, splits = open_sealed(folder, config, again)
    split = to_device(splits["test"], model.device, config.data.as_rgb)
    members = np.stack([_logits_of_test(path) for path in models])
    return Subject(
        about=f"{model.chosen}, retrained, test, {len(split):,} cases, look {looks}",
        run="retrain-0",
        folder=models[0] / "evaluation",
        trial=model.first.trial,
        epoch=None,
        split="test",
        task=info.task,
        classes=info.classes,
        logits=members[0],
        labels=splits["test"].labels,
        images=splits["test"].images,
        members=members,
        network=Network(model.first.network, split, autocast(model.device, model.first.precision)),
        decided=model.decided,
        looks=looks,
    )


def _logits_of_test(path: Path) -> np.ndarray:
    with np.load(path / "test.npz", allow_pickle=False) as file:
        return np.asarray(file["logits"])
