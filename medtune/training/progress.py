"""What a training has behind it: its epochs, the best of them, when it ends, and the predictions that are kept."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from medtune.data.batches import DeviceSplit
from medtune.training.predictions import Predictions
from medtune.training.streams import Streams


@dataclass(frozen=True)
class EpochRecord:
    """The numbers of one epoch, counted from 1; `values` by metric name. `last`: no epoch follows. `at`: when it ended,
    in seconds since 1970; it goes into the checkpoint, so that an epoch that is told again is the same point."""

    epoch: int
    values: dict[str, float]
    last: bool
    at: float = 0.0  # of a checkpoint of an earlier version


@dataclass(frozen=True)
class Objective:
    """What a trial is judged by: a metric, and whether more of it is better."""

    metric: str
    direction: str  # max or min

    def better(self, value: float, than: float | None) -> bool:
        if than is None or math.isnan(than):
            return not math.isnan(value)
        return value > than if self.direction == "max" else value < than


AUROC = Objective("val/auroc", "max")


@dataclass(frozen=True)
class Advance:
    """What an epoch gave. `logits`: float32 (cases, classes) of the validated cases, `labels` int64; None without."""

    values: dict[str, float]
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None


class Trained(Protocol):
    """What of a model in training a checkpoint holds. tensors: the ones that it lives on, by kind and name, into which
    those of a checkpoint are copied; those of the kind `model` are what is kept in the end. optimizer: None where
    nothing goes by steps."""

    streams: Streams

    @property
    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]: ...

    @property
    def optimizer(self) -> torch.optim.Optimizer | None: ...


class Progress(ABC):
    """A configuration in training, epoch by epoch. patience: epochs without a better value; None: any number."""

    def __init__(self, epochs: int, patience: int | None, objective: Objective) -> None:
        self.epochs, self.patience, self.objective = epochs, patience, objective
        self.predictions = Predictions()
        self.records: list[EpochRecord] = []
        self.best: EpochRecord | None = None
        self.halved_from: int | None = None

    def halve(self, epoch: int | None = None) -> None:
        """From an epoch on, the next one unless given, each batch goes through the model in two halves, whose gradients
        are added up: half of the memory. The steps are those of whole batches, but for batch normalization, which sees
        the halves. Once it is so, it stays."""
        self.halved_from = self.halved_from or epoch or self.epoch + 1

    @property
    def epoch(self) -> int:
        """How many epochs are behind."""
        return len(self.records)

    @property
    def finished(self) -> bool:
        return bool(self.records) and self.records[-1].last

    def run_epoch(self, val: DeviceSplit | None) -> EpochRecord:
        """Trains an epoch and evaluates it. Raises `Diverged`, with the epoch, when there is no sense in going on."""
        advance = self.advance(val, self.records)
        value = advance.values.get(self.objective.metric, math.nan)
        improved = self.objective.better(value, self.best.values[self.objective.metric] if self.best else None)
        epoch = self.epoch + 1
        best_epoch = epoch if improved or not self.best else self.best.epoch
        out_of_patience = self.patience is not None and epoch - best_epoch >= self.patience
        last = epoch == self.epochs or out_of_patience
        at = max(time.time(), self.records[-1].at if self.records else 0.0)  # clocks go back, and points must not
        record = EpochRecord(epoch, advance.values, last, at)
        self.records.append(record)
        if improved:
            self.best = record
        if advance.logits is not None and advance.labels is not None:
            self.predictions.add(epoch, advance.logits, advance.labels, best_epoch)
        return record

    @property
    @abstractmethod
    def models(self) -> Sequence[tuple[str, Trained]]:
        """Every model in training, with what stands before its names in a checkpoint."""

    @abstractmethod
    def time_batches(self, count: int) -> tuple[float, int]:
        """Trains on a few batches, after one to warm up. The seconds that they took, and their images."""

    @abstractmethod
    def advance(self, val: DeviceSplit | None, past: Sequence[EpochRecord]) -> Advance:
        """Trains the epoch that follows those of the past."""
