"""The training loss by task."""

import torch.nn.functional as F
from torch import Tensor, stack

from medtune.config.trial import Loss
from medtune.task import Task

SURE = 1e-7  # from a certainty of 1 on, the slope of a focal loss with gamma below 1 would be infinite


def training_loss(config: Loss, task: Task, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean loss of a batch.

    logits: float32 (cases, classes). targets: int64 (cases,) or float32 (cases, classes) of probabilities; float32
    (cases, labels) from 0 to 1 for multi-label, where smoothing moves both targets towards one half as it moves a
    class's towards the uniform. weights: as `balance.class_weights` gives them.
    """
    smoothing = config.label_smoothing
    if config.focal_gamma or weights is not None:
        return _focal(*_as_classes(task, logits, targets), config, weights)
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, targets * (1 - smoothing) + smoothing / 2)
    return F.cross_entropy(logits, targets, label_smoothing=smoothing)


def batch_weight(
    config: Loss, task: Task, classes: int, targets: Tensor, weights: Tensor | None = None
) -> Tensor | int:
    """Of a batch among others: means of their losses that are weighted by it add up to the mean over all of them."""
    if weights is None:
        return len(targets)
    logits = targets.new_zeros((len(targets), classes), dtype=weights.dtype)
    return _weighted(_as_classes(task, logits, targets)[1], config, weights).sum()


def _as_classes(task: Task, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities, and targets, with the classes last; a label is a problem of two classes."""
    if task == "multilabel":
        log_probabilities = stack([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=-1)
        return log_probabilities, stack([1 - targets, targets], dim=-1)
    if targets.ndim == 1:
        targets = F.one_hot(targets, logits.shape[1]).float()
    return F.log_softmax(logits, dim=-1), targets


def _focal(log_probabilities: Tensor, targets: Tensor, config: Loss, weights: Tensor | None) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 5) for targets that may be soft; with gamma 0, weighted cross-entropy."""
    weighted = _weighted(targets, config, weights)
    doubt = (-log_probabilities.expm1()).clamp(min=SURE)
    return -(weighted * doubt**config.focal_gamma * log_probabilities).sum() / weighted.sum()


def _weighted(targets: Tensor, config: Loss, weights: Tensor | None) -> Tensor:
    """Smoothed targets, by the weights of their classes."""
    smoothed = targets * (1 - config.label_smoothing) + config.label_smoothing / targets.shape[-1]
    return smoothed if weights is None else smoothed * weights
