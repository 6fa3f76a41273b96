"""One attempt of one trial, in a worker process: from its last checkpoint to its end, an epoch at a time."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medtune.config.kinds import Settings, settings_of
from medtune.config.pretrain import PretrainConfig
from medtune.config.sweep import TrainOn
from medtune.data.splits import Split
from medtune.search.attempts import Attempts
from medtune.search.failures import kind_of, reason_of
from medtune.task import Task

if TYPE_CHECKING:
    from medtune.data.batches import DeviceSplit, DeviceSplits
    from medtune.training.progress import EpochRecord, Objective, Progress

Message = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of a training. `trial`: its number among those that run with it. `config`: the
    plain tree of its settings. `storage`: its path or URL. `stop`: the epoch after which it ends, whatever they say.
    `keep`: epochs whose checkpoints stay, besides the last and the best. `train_on`: train+val leaves nothing to be
    validated on. `halve`: each batch goes through the model in two halves, because a whole one did not fit into
    memory."""

    trial: int
    config: dict[str, Any]
    seed: int
    task: Task
    classes: int
    device: str
    precision: str
    threads: int
    metric: str
    direction: str
    storage: str
    stop: int | None = None
    keep: Sequence[int] = ()
    train_on: TrainOn = "train"
    halve: bool = False


@dataclass(frozen=True)
class SearchData:
    """The splits that a search may see. `key` names them, so that a worker puts them on a GPU only once."""

    key: str
    train: Split
    val: Split
    rgb: bool = False

    def on_device(self, device: str) -> "DeviceSplits":
        from medtune.data.batches import DeviceSplits, to_device

        return DeviceSplits(*(to_device(split, device, self.rgb) for split in (self.train, self.val)))


def run_job(job: Job, data: SearchData, report: Callable[[Message], Any]) -> None:
    """Trains a trial and reports every epoch; those that a checkpoint already has are reported again first.

    Whatever goes wrong with this trial alone is reported too, so that the worker lives on for the next; what `report`
    raises is the caller's. Raises where the device is of no use any more.
    """
    for message in _messages(job, data):
        report(message)


def _messages(job: Job, data: SearchData) -> Iterator[Message]:
    try:
        yield from _epochs(job, data)
        return
    except Exception as error:
        kind = kind_of(error)
        reason = str(error) if kind == "storage" else reason_of(error)
        if kind == "device":
            raise
    # out of the exception's reach: it holds the training, and with it the memory
    if kind == "memory" and not job.halve:
        _free_memory()
        yield from _messages(replace(job, halve=True), data)
    else:
        yield {"full" if kind == "storage" else "failed": reason}


def _epochs(job: Job, data: SearchData) -> Iterator[Message]:
    from medtune.training.checkpoint import encode  # torch is imported by workers only

    attempts = Attempts(job.storage)
    training, val = _taken_up(job, data, attempts)
    if job.halve:
        training.halve()
    attempt = attempts.begin()
    for record in training.records:
        yield _message(job, training, record)
    while not (training.finished or training.epoch == job.stop):
        record = training.run_epoch(val)
        best_epoch = training.best.epoch if training.best else None
        if not attempt.save(training.epoch, (best_epoch, *job.keep), encode(training)):
            return
        yield _message(job, training, record)


def _taken_up(job: Job, data: SearchData, attempts: Attempts) -> tuple["Progress", "DeviceSplit | None"]:
    """The training where its last checkpoint left it. One that cannot be read, because it is of an earlier version or
    the machine lost its power, leaves it to the one before, and in the end to a fresh start."""
    from medtune.training.checkpoint import decode

    for file in reversed(attempts.saved()):
        training, val = begin(job, data)
        try:
            decode(attempts.read(file), training)
            return training, val
        except Exception as error:
            if kind_of(error) != "final":
                raise
    return begin(job, data)


def _message(job: Job, training: "Progress", record: "EpochRecord") -> Message:
    last = record.last or record.epoch == job.stop
    told = {"epoch": record.epoch, "last": last, "at": record.at, "halved_from": training.halved_from}
    return {**told, **record.values}


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def begin(job: Job, data: SearchData) -> tuple["Progress", "DeviceSplit | None"]:
    """The training of a job, before its first epoch, and the split that its epochs are validated on, if any."""
    from medtune.training.device import use_threads
    from medtune.training.progress import Objective

    use_threads(job.threads)
    splits = _on_device(data, job.device)
    settings, objective = settings_of(job.config), Objective(job.metric, job.direction)
    training = build_training(settings, job.task, job.classes, splits, job.seed, job.precision, objective, job.train_on)
    return training, splits.val if job.train_on == "train" else None


def build_training(
    settings: Settings,
    task: Task,
    classes: int,
    splits: "DeviceSplits",
    seed: int,
    precision: str,
    objective: "Objective",
    train_on: TrainOn = "train",
) -> "Progress":
    """What trains a configuration: a pretraining, a linear probe, a model for each fold, or one model."""
    from medtune.training.folds import CrossValidation
    from medtune.training.loop import Training

    fitted = splits.fitted(train_on, settings.labels)
    if isinstance(settings, PretrainConfig):
        from medtune.pretraining.loop import Pretraining

        images = splits.train if settings.images == "train" else splits.both
        return Pretraining(settings, task, classes, images, fitted, seed, precision, objective)
    if settings.model.finetune == "probe":
        from medtune.pretraining.probe import Probe

        return Probe(settings, task, classes, fitted, seed, precision, objective)

    def make(part: "DeviceSplit", seed: int) -> Training:
        return Training(settings, task, classes, part, seed, precision, objective)

    return (
        make(fitted, seed) if settings.folds is None else CrossValidation(make, settings, objective, splits.both, seed)
    )


_cached: "tuple[str, DeviceSplits] | None" = None  # a worker serves one sweep


def _on_device(data: SearchData, device: str) -> "DeviceSplits":
    global _cached
    key = f"{data.key} on {device}"
    if _cached is None or _cached[0] != key:
        _cached = (key, data.on_device(device))
    return _cached[1]
