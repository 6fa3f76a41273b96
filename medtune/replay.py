"""A trial trained again from its record alone, and the two curves held against each other, bit for bit."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medtune.config.sweep import Data
from medtune.data.catalogue import describe
from medtune.data.fetch import fetch
from medtune.data.splits import data_md5
from medtune.models.published import fetch_weights
from medtune.provenance import processor, versions
from medtune.search.entries import best_epoch_of
from medtune.search.failures import reason_of
from medtune.search.loading import search_data
from medtune.search.record import Record, RecordError
from medtune.search.worker import Job, SearchData, begin
from medtune.training.device import detect_device
from medtune.training.predictions import logits_of_epoch

MEASURED_ANEW = ("epoch", "at", "epoch_seconds")  # of an epoch's record: what no replay can repeat
LOGITS = "logits"

Values = dict[str, float]
OnEpoch = Callable[[int, Values], None]  # an epoch, and its numbers


class ReplayFailed(Exception):
    """The training came to no end; the text says why."""


@dataclass(frozen=True)
class Replayed:
    """epochs: the numbers of each, 1 and up. logits: by epoch, float32 (cases, classes), of those that the record has.
    device: on which it was trained."""

    device: str
    epochs: dict[int, Values]
    logits: dict[int, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """A number that is not what it was; None: not there. Of logits, the two that are furthest from each other."""

    epoch: int
    metric: str
    recorded: float | None
    replayed: float | None

    @property
    def size(self) -> float:
        """How far apart the two are; infinite where one is missing or not defined."""
        one, other = (math.nan if value is None else value for value in (self.recorded, self.replayed))
        return math.inf if math.isnan(one - other) else abs(one - other)


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison: of how many epochs, of how many numbers, and of the logits of how many epochs."""

    epochs: int
    numbers: int
    logits: int
    differences: list[Difference]

    @property
    def identical(self) -> bool:
        return not self.differences


def replay(record: Record, on_epoch: OnEpoch, data_at: Path | None = None) -> Replayed:
    """Trains the trial of a record again, for as many epochs as it has, on the device that it had, or on what is here.

    data_at: the folder of the .npz files, or of the pictures, where it is not the one of the record. Writes nothing but
    what fetching data does. Raises RecordError where the data has changed, DataError where it or the weights are not to
    be had, ReplayFailed.
    """
    used = record.used
    data = _data(record, data_at)
    fetch_weights(used.model)
    info, device = describe(data), device_here(used.device)
    job = Job(
        trial=record.trial or 0,
        config=used.trial,
        seed=used.seed,
        task=info.task,
        classes=len(info.classes),
        device=device,
        precision=used.precision,
        threads=used.threads,
        metric=used.objective.metric,
        direction=used.objective.direction,
        storage="",
    )
    loaded = search_data(data, used.data.fraction_seed)
    try:
        return _trained(job, loaded, record, on_epoch)
    except Exception as error:
        raise ReplayFailed(f"{record.where}, replayed: {reason_of(error)}") from error


def device_here(wanted: str) -> str:
    """The device of a record where this machine has it, else the best that it has."""
    return wanted if wanted == "cpu" else detect_device()


def _data(record: Record, data_at: Path | None) -> Data:
    """The data of a record as a sweep file has it, after a look at whether it is still the same."""
    used = record.used.data
    data = Data(**used.model_dump(include=set(Data.model_fields)))
    if data_at is not None:
        key = "root" if data.folder is None else "folder"
        data = data.model_copy(update={key: str(data_at.absolute())})
    elif data.root is not None and data.folder is None and not Path(data.root).expanduser().is_dir():
        raise RecordError(
            f"{record.where}: its data was in {data.root}, which is not here; say with --data where it is"
        )
    if data.folder is not None or not describe(data).made:
        fetch(data)  # a folder of pictures is read anew where it has changed
    found = data_md5(data)
    if used.md5 not in (None, found):
        raise RecordError(
            f"{record.where}: {data.folder or data.title} has changed since (MD5 {used.md5} then, {found} now); "
            "bring it back as it was, or say with --data where it still is"
        )
    return data


def _trained(job: Job, data: SearchData, record: Record, on_epoch: OnEpoch) -> Replayed:
    training, val = begin(job, data)
    if record.used.halved_from is not None:
        training.halve(record.used.halved_from)
    training.predictions.limit = sys.maxsize  # which epochs were kept is for the record to say
    kept = set() if record.predictions is None else set(record.predictions["epochs"].tolist())
    done = Replayed(job.device, {}, {})
    while not training.finished and training.epoch < len(record.epochs):
        one = training.run_epoch(val)
        done.epochs[one.epoch] = {key: float(value) for key, value in one.values.items()}
        if one.epoch in kept:
            done.logits[one.epoch] = training.predictions.logits[one.epoch]
        on_epoch(one.epoch, done.epochs[one.epoch])
    return done


def recorded_epochs(record: Record) -> dict[int, Values]:
    """The numbers of each epoch of a record."""
    return {int(line["epoch"]): {key: line[key] for key in line if key not in MEASURED_ANEW} for line in record.epochs}


def best_epoch(record: Record, epochs: Mapping[int, Values]) -> int | None:
    """The first best one of a curve, by the metric that the record says; None where there is none."""
    objective = record.used.objective
    values = {epoch: numbers.get(objective.metric, math.nan) for epoch, numbers in epochs.items()}
    return best_epoch_of(values, objective.direction)


def compare(record: Record, replayed: Replayed) -> Verdict:
    """Every number of every epoch but times, and the logits of every epoch that the record has, bit for bit."""
    recorded = recorded_epochs(record)
    found = list(_differing_numbers(recorded, replayed.epochs))
    logits = _recorded_logits(record)
    found += _differing_logits(logits, replayed.logits)
    in_order = sorted(found, key=lambda difference: difference.epoch)  # of an epoch: its numbers first
    return Verdict(len(recorded), sum(map(len, recorded.values())), len(logits), in_order)


def _differing_numbers(recorded: Mapping[int, Values], replayed: Mapping[int, Values]) -> Iterator[Difference]:
    """What a later version measures in addition is no difference: there is nothing to hold it against."""
    for epoch, numbers in recorded.items():
        for metric, value in numbers.items():
            again = replayed.get(epoch, {}).get(metric)
            if again is None or not _same(value, again):
                yield Difference(epoch, metric, value, again)


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _recorded_logits(record: Record) -> dict[int, np.ndarray]:
    """Of the epochs of the record: a trial that was stopped may have left those of one more."""
    if record.predictions is None:
        return {}
    known = {line["epoch"] for line in record.epochs}
    return {
        epoch: logits_of_epoch(record.predictions, epoch)
        for epoch in record.predictions["epochs"].tolist()
        if epoch in known
    }


def _differing_logits(recorded: Mapping[int, np.ndarray], replayed: Mapping[int, np.ndarray]) -> Iterator[Difference]:
    for epoch, logits in recorded.items():
        again = replayed.get(epoch)
        if again is None or again.shape != logits.shape:
            yield Difference(epoch, LOGITS, None, None)
        elif logits.tobytes() != again.tobytes():
            furthest = np.abs(logits - again).argmax()
            yield Difference(epoch, LOGITS, float(logits.flat[furthest]), float(again.flat[furthest]))


def reasons(record: Record, replayed: Replayed) -> list[str]:
    """What may have made a difference, as far as it can be seen."""
    used, here = record.used, versions()
    both = [(name, used.versions.get(name, "none"), here.get(name, "none")) for name in {**used.versions, **here}]
    both += [("device", used.device, replayed.device)]
    if used.processor is not None:
        both += [("processor", used.processor, processor(replayed.device))]
    seen = [f"{what}: {then} -> {now}" for what, then, now in both if then != now]
    if replayed.device == "cuda":
        seen.append("a GPU does not always add in the same order")
    if used.model.weights is not None:
        seen.append(f"the weights {used.model.weights} may be others than they were")
    return seen or ["nothing that is known: versions, device, processor, threads and data are those of the record"]


def largest(differences: Sequence[Difference]) -> Difference:
    """The one whose two numbers are furthest apart; of equals the first."""
    return max(differences, key=lambda difference: difference.size)
