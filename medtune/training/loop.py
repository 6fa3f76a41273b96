"""The training of one model, epoch by epoch."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtune.config.trial import TrialConfig
from medtune.data.augment import Augmenter
from medtune.data.batches import DeviceSplit
from medtune.data.mixing import mix
from medtune.evaluation.metrics import evaluate
from medtune.models.build import build_model
from medtune.models.finetune import parameter_groups, set_trained
from medtune.task import Task
from medtune.training.averaging import average
from medtune.training.balance import case_weights, class_weights
from medtune.training.device import autocast
from medtune.training.losses import batch_weight, training_loss
from medtune.training.optimizers import build_optimizer, make_ready, set_lr
from medtune.training.progress import AUROC, Advance, EpochRecord, Objective, Progress, Trained
from medtune.training.schedules import lr_factor
from medtune.training.streams import Streams

DIVERGED = 1e3  # nats a case: hundreds of times what guessing costs
CASES_PER_PASS = 1024  # of an evaluation: bounds its memory at any size of a split
SMALLEST_HALVED = 4  # cases: batch normalization needs two


class Diverged(Exception):
    """The loss is no longer a number, or far from anything that could recover."""


class Training(Progress):
    """One model in training. `training.checkpoint` has what is needed to go on from here to the last bit."""

    def __init__(
        self,
        config: TrialConfig,
        task: Task,
        classes: int,
        train: DeviceSplit,
        seed: int,
        precision: str = "float32",
        objective: Objective = AUROC,
    ) -> None:
        super().__init__(config.epochs, config.early_stopping.patience, objective)
        self.config = config
        self.halves = 1  # through which each batch of the epoch goes
        self.task, self.classes, self.train = task, classes, train
        self.device = train.images.device
        self.autocast = autocast(self.device.type, precision)
        self.streams = Streams(seed, self.device)
        model = build_model(config.model, train.channels, classes, train.size, self.streams.weights)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = average(self.model, config.ema) if config.ema else None
        self.model.dropout.generator = self.streams.dropout
        groups = parameter_groups(self.model, config.model, config.optimizer.decay_norms)
        self.optimizer = build_optimizer(config.optimizer, groups)
        self.augment = Augmenter(config.augment, self.streams.augmentation)
        self.mixes = bool(config.augment.mixup or config.augment.cutmix)
        balanced = config.loss.class_weights == "balanced"
        self.class_weights = class_weights(train.labels, task, classes) if balanced else None
        sampled = config.sampling == "balanced"
        self.case_weights = case_weights(train.labels, task, classes).cpu() if sampled else None

    @property
    def models(self) -> Sequence[tuple[str, Trained]]:
        return [("", self)]

    @property
    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Where weights are averaged, the mean is what is kept."""
        kept = {"model": self.evaluated.state_dict()}
        if self.averaged is None:
            return kept
        return kept | {"trained": self.model.state_dict(), "averaged": {"steps": self.averaged.n_averaged}}

    @property
    def evaluated(self) -> nn.Module:
        """The model whose weights are validated and kept."""
        return self.averaged.module if self.averaged is not None else self.model

    def advance(self, val: DeviceSplit | None, past: Sequence[EpochRecord]) -> Advance:
        started = time.perf_counter()
        train_loss = self._train_epoch(past)
        group = self.optimizer.param_groups[0]
        values = {"train/loss": train_loss, "lr": group["lr"] / group["lr_scale"]}
        cases = CASES_PER_PASS // self.halves
        logits = None if val is None else predict_logits(self.evaluated, val, self.autocast, cases)
        if not train_loss < DIVERGED or not (logits is None or np.isfinite(logits).all()):
            raise Diverged(f"training diverged in epoch {len(past) + 1}: loss {train_loss:g}")
        labels = None if val is None else val.labels.cpu().numpy().astype(np.int64)
        if logits is not None and labels is not None:
            values |= {f"val/{name}": value for name, value in evaluate(logits, labels, self.task).items()}
        values["epoch_seconds"] = time.perf_counter() - started
        return Advance(values, logits, labels)

    def _train_epoch(self, past: Sequence[EpochRecord]) -> float:
        """One pass over train; the mean training loss over its cases."""
        self._train_mode(len(past) + 1)
        self.halves = 2 if self.halved_from is not None and len(past) + 1 >= self.halved_from else 1
        total = torch.zeros((), device=self.device)
        batches = self._order().to(self.device).split(self.config.batch_size)
        for index, cases in enumerate(batches):
            step = len(past) * len(batches) + index
            factor = lr_factor(self.config.schedule, step, len(batches), self.config.epochs, past)
            set_lr(self.optimizer, self.config.optimizer.lr * factor)
            total += self._train_step(cases) * len(cases)  # no .item(): that would wait for the device at each step
        return total.item() / len(self.train)

    def _train_mode(self, epoch: int) -> None:
        self.model.train()
        set_trained(self.model, self.config.model, epoch)
        make_ready(self.optimizer)

    def _order(self) -> Tensor:
        """The cases of an epoch, on the CPU."""
        if self.case_weights is None:
            return torch.randperm(len(self.train), generator=self.streams.order)
        return self.case_weights.multinomial(len(self.train), replacement=True, generator=self.streams.order)

    def _train_step(self, cases: Tensor) -> Tensor:
        images, targets = self.train.batch(cases)
        images = self.augment(images)
        if self.mixes:
            targets = targets if self.task == "multilabel" else F.one_hot(targets, self.classes).float()
            images, targets = mix(self.config.augment, images, targets, self.streams.augmentation)
        self.optimizer.zero_grad()
        loss = self._gradients(images, targets)
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return loss

    def _gradients(self, images: Tensor, targets: Tensor) -> Tensor:
        """Of the mean loss of a batch, which it gives back."""
        halves = self.halves if len(images) >= SMALLEST_HALVED else 1
        total = torch.zeros((), device=self.device)
        for some_images, some_targets in zip(images.chunk(halves), targets.chunk(halves), strict=True):
            with self.autocast:
                logits = self.model(some_images)
            loss = training_loss(self.config.loss, self.task, logits, some_targets, self.class_weights)
            if halves > 1:
                loss = loss * self._weight(some_targets) / self._weight(targets)
            loss.backward()
            total += loss.detach()
        return total

    def _weight(self, targets: Tensor) -> Tensor | int:
        return batch_weight(self.config.loss, self.task, self.classes, targets, self.class_weights)

    def time_batches(self, count: int) -> tuple[float, int]:
        self._train_mode(self.config.epochs)
        batches = torch.arange(len(self.train), device=self.device).split(self.config.batch_size)[: count + 1]
        self._train_step(batches[0]).item()
        started = time.perf_counter()
        for cases in batches[1:] or batches:
            loss = self._train_step(cases)
        loss.item()  # waits for the device
        return time.perf_counter() - started, sum(len(cases) for cases in batches[1:] or batches)


@torch.no_grad()
def predict_logits(
    model: nn.Module, split: DeviceSplit, autocast: torch.autocast, cases: int = CASES_PER_PASS
) -> np.ndarray:
    """float32 logits (cases, classes) of a whole split, without augmentation, in evaluation mode."""
    model.eval()
    logits = []
    for start in range(0, len(split), cases):
        images, _ = split.batch(slice(start, start + cases))
        with autocast:
            logits.append(model(images))
    return torch.cat(logits).cpu().numpy()
