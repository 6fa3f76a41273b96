"""One attempt of one trial, in a worker process: from its last checkpoint to its end, an epoch at a time."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medtune.config.trial import TrialConfig
from medtune.data.splits import Split
from medtune.search.attempts import Attempts
from medtune.task import Task

Message = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of a trial. `config`: of a TrialConfig. `storage`: the trial's path or URL."""

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


@dataclass(frozen=True)
class SearchData:
    """The splits that a search may see. `key` names them, so that a worker puts them on a GPU only once."""

    key: str
    train: Split
    val: Split
    rgb: bool = False


def run_job(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
    """Trains a trial and reports every epoch; those that a checkpoint already has are reported again first.

    Whatever goes wrong with this trial alone is reported as its failure, so that the worker lives on for the next.
    """
    try:
        _run(job, data, report)
    except Exception as error:  # not SystemExit, by which a stopped trial ends
        report({"failed": _reason(error)})


def _run(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
    from medtune.training.checkpoint import decode, encode  # torch is imported by workers only
    from medtune.training.device import use_threads

    use_threads(job.threads)
    splits = _on_device(data, job.device)
    training = _training(job, splits)
    attempts = Attempts(job.storage)
    last = attempts.last()
    if last is not None:
        decode(attempts.read(last), training)
    attempt = attempts.begin()
    for record in training.records:
        report({"epoch": record.epoch, "last": record.last, "at": 0.0, **record.values})
    while not training.finished:
        record = training.run_epoch(splits.val)
        best_epoch = training.best.epoch if training.best else None
        if not attempt.save(training.epoch, best_epoch, encode(training)):
            return
        report({"epoch": record.epoch, "last": record.last, "at": time.time(), **record.values})


def _training(job: Job, splits: "_OnDevice") -> Any:
    from medtune.training.folds import CrossValidation
    from medtune.training.loop import Training
    from medtune.training.progress import Objective

    config, objective = TrialConfig.model_validate(job.config), Objective(job.metric, job.direction)

    def make(part: Any, seed: int) -> Training:
        return Training(config, job.task, job.classes, part, seed, job.precision, objective)

    if config.folds is None:
        return make(splits.train, job.seed)
    return CrossValidation(make, config, objective, splits.both, job.seed)


class _OnDevice:
    """The splits of a sweep on a device."""

    def __init__(self, data: SearchData, device: str) -> None:
        from medtune.data.batches import to_device

        self.train, self.val = (to_device(split, device, data.rgb) for split in (data.train, data.val))

    @cached_property
    def both(self) -> Any:
        """For cross-validation: made once for all trials, because it is a copy."""
        from medtune.data.batches import join

        return join(self.train, self.val)


_cached: tuple[str, _OnDevice] | None = None  # a worker serves one sweep


def _on_device(data: SearchData, device: str) -> _OnDevice:
    global _cached
    key = f"{data.key} on {device}"
    if _cached is None or _cached[0] != key:
        _cached = (key, _OnDevice(data, device))
    return _cached[1]


def _reason(error: Exception) -> str:
    """One line for people: diverged trainings say so themselves, anything else is named with its place."""
    from medtune.training.loop import Diverged

    if isinstance(error, Diverged):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line} ({place.filename}:{place.lineno})"
