"""The pretraining of one encoder, epoch by epoch."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtune.config.pretrain import PretrainConfig
from medtune.data.augment import Augmenter
from medtune.data.batches import DeviceSplit
from medtune.evaluation.metrics import evaluate
from medtune.models.build import build_encoder
from medtune.models.classifier import Encoder
from medtune.pretraining.losses import alignment, uniformity
from medtune.pretraining.methods import Contrast, build_method
from medtune.pretraining.neighbours import neighbour_logits
from medtune.task import Task
from medtune.training.device import autocast
from medtune.training.loop import CASES_PER_PASS, Diverged
from medtune.training.optimizers import build_optimizer, set_lr
from medtune.training.progress import AUROC, Advance, EpochRecord, Objective, Progress, Trained
from medtune.training.schedules import lr_factor
from medtune.training.streams import Streams


class Pretraining(Progress):
    """An encoder in training. What validates it is a k-NN probe: `val/auroc` and the others are that of its votes."""

    def __init__(
        self,
        config: PretrainConfig,
        task: Task,
        classes: int,
        images: DeviceSplit,
        labelled: DeviceSplit,
        seed: int,
        precision: str = "float32",
        objective: Objective = AUROC,
    ) -> None:
        """images: what it learns from, whose labels nobody reads. labelled: the bank of the k-NN probe."""
        super().__init__(config.epochs, config.early_stopping.patience, objective)
        self.config = config
        self.task, self.classes, self.images, self.labelled = task, classes, images, labelled
        self.device = images.device
        self.autocast = autocast(self.device.type, precision)
        self.streams = Streams(seed, self.device)
        encoder = build_encoder(config.model, images.channels, images.size, self.streams.weights)
        method = build_method(config.method, encoder, config.projector, self.streams.weights)
        self.encoder: Encoder = encoder.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.method: Contrast = method.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(config.optimizer, self._parameter_groups())
        self.augment = Augmenter(config.augment, self.streams.augmentation)

    @property
    def models(self) -> Sequence[tuple[str, Trained]]:
        return [("", self)]

    @property
    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {"model": self.encoder.state_dict(), "method": self.method.state_dict()}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Norms and biases decay only where `decay_norms` says so."""
        trained = [
            *self.encoder.parameters(),
            *(parameter for parameter in self.method.parameters() if parameter.requires_grad),
        ]
        groups: dict[bool, list[nn.Parameter]] = {}
        for parameter in trained:
            groups.setdefault(self.config.optimizer.decay_norms or parameter.ndim > 1, []).append(parameter)
        return [{"params": params, "lr_scale": 1.0, "decays": decays} for decays, params in groups.items()]

    def advance(self, val: DeviceSplit | None, past: Sequence[EpochRecord]) -> Advance:
        started = time.perf_counter()
        values = self._train_epoch(past)
        if not np.isfinite(values["train/loss"]):
            raise Diverged(f"pretraining diverged in epoch {len(past) + 1}: loss {values['train/loss']:g}")
        logits = labels = None
        if val is not None:
            bank = encode_cases(self.encoder, self.labelled, self.autocast)
            features = encode_cases(self.encoder, val, self.autocast)
            neighbours = self.config.neighbours
            voted = neighbour_logits(bank, self.labelled.labels, features, self.task, self.classes, neighbours)
            logits, labels = voted.cpu().numpy(), val.labels.cpu().numpy().astype(np.int64)
            if not np.isfinite(logits).all():  # the last step went too far
                raise Diverged(f"pretraining diverged in epoch {len(past) + 1}: loss {values['train/loss']:g}")
            values |= {f"val/{name}": value for name, value in evaluate(logits, labels, self.task).items()}
        values["epoch_seconds"] = time.perf_counter() - started
        return Advance(values, logits, labels)

    def _train_epoch(self, past: Sequence[EpochRecord]) -> dict[str, float]:
        """One pass over the images; means over its batches."""
        config = self.config
        self.encoder.train()
        self.method.train()
        order = torch.randperm(len(self.images), generator=self.streams.order).to(self.device)
        batches = [batch for batch in order.split(config.batch_size) if len(batch) > 1]  # alone, one has no others
        totals = torch.zeros(3, device=self.device)
        for index, cases in enumerate(batches):
            factor = lr_factor(config.schedule, len(past) * len(batches) + index, len(batches), config.epochs, past)
            set_lr(self.optimizer, config.optimizer.lr * factor)
            totals += self._train_step(cases) * len(cases)  # no .item(): that would wait for the device at each step
        loss, aligned, uniform = (totals / sum(map(len, batches))).tolist()
        lr = self.optimizer.param_groups[0]["lr"]
        return {"train/loss": loss, "train/alignment": aligned, "train/uniformity": uniform, "lr": lr}

    def _train_step(self, cases: Tensor) -> Tensor:
        """Loss, alignment and uniformity of a batch, before its step."""
        images, _ = self.images.batch(cases)
        views = self.augment(torch.cat([images, images]))
        parts = list(self._parts(views))
        self.optimizer.zero_grad()
        keys = self._keys(parts)
        embedded, loss = self._gradients(parts, keys)
        self.optimizer.step()
        self.method.stepped(self.encoder, keys)
        with torch.no_grad():
            first, second = embedded.chunk(2)
            return torch.stack([loss, alignment(first, second), uniformity(embedded)])

    def _keys(self, parts: Sequence[Tensor]) -> Tensor | None:
        with self.autocast:
            keys = [self.method.keys(part) for part in parts]
        known = [key.float() for key in keys if key is not None]
        return torch.cat(known) if known else None

    def _gradients(self, parts: Sequence[Tensor], keys: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of the loss of a batch of views, which it gives back behind the embeddings.

        Where the views do not go through the network at once, they go twice: the loss needs the embeddings of all, and
        then each part has its gradient by them (gradient cache, Gao et al. 2021). Batch norm sees the parts.
        """
        with torch.set_grad_enabled(len(parts) == 1):
            embedded = torch.cat([self._embed(part) for part in parts])
        leaves = embedded.detach().requires_grad_()
        loss = self.method.loss(leaves, keys)
        (slopes,) = torch.autograd.grad(loss, leaves)
        if len(parts) == 1:
            embedded.backward(slopes)
        else:
            with _frozen_statistics(self.encoder, self.method):  # they have seen these views
                for part, slope in zip(parts, slopes.split([len(part) for part in parts]), strict=True):
                    self._embed(part).backward(slope)
        return leaves.detach(), loss.detach()

    def _embed(self, views: Tensor) -> Tensor:
        with self.autocast:
            return self.method.embed(self.encoder(views)).float()

    def _parts(self, views: Tensor) -> Iterator[Tensor]:
        size = min(self.config.micro_batch or self.config.batch_size, self.config.batch_size)
        if self.halved_from is not None and self.epoch + 1 >= self.halved_from:
            size = max(1, size // 2)
        yield from views.split(2 * size)

    def time_batches(self, count: int) -> tuple[float, int]:
        self.encoder.train()
        self.method.train()
        batches = torch.arange(len(self.images), device=self.device).split(self.config.batch_size)[: count + 1]
        self._train_step(batches[0]).tolist()
        started = time.perf_counter()
        for cases in batches[1:] or batches:
            told = self._train_step(cases)
        told.tolist()  # waits for the device
        return time.perf_counter() - started, sum(len(cases) for cases in batches[1:] or batches)


@contextmanager
def _frozen_statistics(*modules: nn.Module) -> Iterator[None]:
    """Batch norm in training mode whose running mean and variance stay as they are."""
    norms = [part for module in modules for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@torch.no_grad()
def encode_cases(encoder: Encoder, split: DeviceSplit, autocast: torch.autocast) -> Tensor:
    """float32 features (cases, width) of a whole split, without augmentation, in evaluation mode."""
    encoder.eval()
    features = []
    for start in range(0, len(split), CASES_PER_PASS):
        images, _ = split.batch(slice(start, start + CASES_PER_PASS))
        with autocast:
            features.append(encoder.features(images))
    return torch.cat(features)
