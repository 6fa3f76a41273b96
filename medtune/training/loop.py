"""The training of one configuration, epoch by epoch."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medtune.config.trial import TrialConfig
from medtune.data.augment import Augmenter
from medtune.data.batches import DeviceSplit, normalise
from medtune.evaluation.metrics import evaluate
from medtune.models.build import build_model
from medtune.task import Task
from medtune.training.losses import training_loss
from medtune.training.optimizers import build_optimizer, set_lr
from medtune.training.predictions import Predictions
from medtune.training.schedules import lr_factor
from medtune.training.streams import Streams

DIVERGED = 1e3  # nats a case: hundreds of times what guessing costs
CASES_PER_PASS = 1024  # of an evaluation: bounds its memory at any size of a split


class Diverged(Exception):
    """The loss is no longer a number, or far from anything that could recover."""


@dataclass(frozen=True)
class EpochRecord:
    """The numbers of one epoch, counted from 1; `values` by metric name. `last`: no epoch follows."""

    epoch: int
    values: dict[str, float]
    last: bool


@dataclass(frozen=True)
class Objective:
    """What a trial is judged by: a metric, and whether more of it is better."""

    metric: str
    direction: str  # max or min

    def better(self, value: float, than: float | None) -> bool:
        if than is None or math.isnan(than):
            return not math.isnan(value)
        return value > than if self.direction == "max" else value < than


class Training:
    """A configuration in training. `checkpoint` has what is needed to go on from here to the last bit."""

    def __init__(
        self,
        config: TrialConfig,
        task: Task,
        classes: int,
        train: DeviceSplit,
        seed: int,
        precision: str = "float32",
        objective: Objective = Objective("val/auroc", "max"),
    ) -> None:
        self.config, self.task, self.train, self.objective = config, task, train, objective
        self.device = train.images.device
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16")
        self.streams = Streams(seed, self.device)
        model = build_model(config.model, train.channels, classes, train.size, self.streams.weights)
        model.dropout.generator = self.streams.dropout
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(config.optimizer, self.model.parameters())
        self.augment = Augmenter(config.augment, self.streams.augmentation)
        self.predictions = Predictions()
        self.records: list[EpochRecord] = []
        self.best: EpochRecord | None = None

    @property
    def epoch(self) -> int:
        """How many epochs are behind."""
        return len(self.records)

    @property
    def finished(self) -> bool:
        return bool(self.records) and self.records[-1].last

    def run_epoch(self, val: DeviceSplit | None) -> EpochRecord:
        """Trains an epoch and evaluates it. Raises `Diverged`, with the epoch, when there is no sense in going on."""
        started = time.perf_counter()
        train_loss = self._train_epoch()
        values = {"train/loss": train_loss, "lr": self.optimizer.param_groups[0]["lr"]}
        logits = None if val is None else predict_logits(self.model, val, self.autocast)
        if not train_loss < DIVERGED or not (logits is None or np.isfinite(logits).all()):
            raise Diverged(f"training diverged in epoch {self.epoch + 1}: loss {train_loss:g}")
        if val is not None and logits is not None:
            measured = evaluate(logits, val.labels.cpu().numpy().astype(np.int64), self.task)
            values |= {f"val/{name}": value for name, value in measured.items()}
        values["epoch_seconds"] = time.perf_counter() - started
        return self._record(values, logits)

    def _train_epoch(self) -> float:
        """One pass over train; the mean training loss over its cases."""
        self.model.train()
        total = torch.zeros((), device=self.device)
        order = torch.randperm(len(self.train), generator=self.streams.order).to(self.device)
        batches = order.split(self.config.batch_size)
        for index, cases in enumerate(batches):
            step = self.epoch * len(batches) + index
            factor = lr_factor(self.config.schedule, step, len(batches), self.config.epochs)
            set_lr(self.optimizer, self.config.optimizer.lr * factor)
            total += self._train_step(cases) * len(cases)  # no .item(): that would wait for the device at each step
        return total.item() / len(self.train)

    def _train_step(self, cases: Tensor) -> Tensor:
        images, labels = self.train.batch(cases)
        images = normalise(self.augment(images))
        with self.autocast:
            logits = self.model(images)
        loss = training_loss(self.config.loss, self.task, logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def time_batches(self, count: int) -> tuple[float, int]:
        """Trains on a few batches, after one to warm up. The seconds that they took, and their images."""
        self.model.train()
        batches = torch.arange(len(self.train), device=self.device).split(self.config.batch_size)[: count + 1]
        self._train_step(batches[0]).item()
        started = time.perf_counter()
        for cases in batches[1:] or batches:
            loss = self._train_step(cases)
        loss.item()  # waits for the device
        return time.perf_counter() - started, sum(len(cases) for cases in batches[1:] or batches)

    def _record(self, values: dict[str, float], logits: np.ndarray | None) -> EpochRecord:
        epoch = self.epoch + 1
        value = values.get(self.objective.metric, math.nan)
        improved = self.objective.better(value, self.best.values[self.objective.metric] if self.best else None)
        best_epoch = epoch if improved or not self.best else self.best.epoch
        patience = self.config.early_stopping.patience
        out_of_patience = patience is not None and epoch - best_epoch >= patience
        record = EpochRecord(epoch, values, last=epoch == self.config.epochs or out_of_patience)
        self.records.append(record)
        if improved:
            self.best = record
        if logits is not None:
            self.predictions.add(epoch, logits, best_epoch)
        return record


@torch.no_grad()
def predict_logits(model: torch.nn.Module, split: DeviceSplit, autocast: torch.autocast) -> np.ndarray:
    """float32 logits (cases, classes) of a whole split, without augmentation, in evaluation mode."""
    model.eval()
    logits = []
    for start in range(0, len(split), CASES_PER_PASS):
        images, _ = split.batch(slice(start, start + CASES_PER_PASS))
        with autocast:
            logits.append(model(normalise(images)))
    return torch.cat(logits).cpu().numpy()
