"""The training loss by task."""

import torch.nn.functional as F
from torch import Tensor

from medtune.config.trial import Loss
from medtune.task import Task


def training_loss(config: Loss, task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of a batch.

    logits: float32 (cases, classes). labels: int64 (cases,), or float32 0/1 (cases, labels) for multi-label, where
    smoothing moves both targets towards one half as it moves a class's towards the uniform.
    """
    if task == "multilabel":
        smoothed = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, smoothed)
    return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
