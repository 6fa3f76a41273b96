"""Weights of classes and of cases by how rare they are in train."""

import torch
import torch.nn.functional as F
from torch import Tensor

from medtune.task import Task


def class_weights(labels: Tensor, task: Task, classes: int) -> Tensor:
    """Inversely to the class's frequency, 1 where all are equally frequent; 0 for a class without cases.

    labels: int64 (cases,); float 0/1 (cases, labels) for multi-label. float32 (classes,), or (labels, 2) for the
    labels' values 0 and 1.
    """
    counts = _counts(labels, task, classes)
    return torch.where(counts > 0, len(labels) / (counts.shape[-1] * counts.clamp(min=1)), 0.0)


def case_weights(labels: Tensor, task: Task, classes: int) -> Tensor:
    """How likely each case is to be drawn so that every class comes as often: float32 (cases,).

    A multi-label case has the mean of the weights of its labels' values, which evens the labels out as far as one
    number a case can.
    """
    weights = class_weights(labels, task, classes)
    if task != "multilabel":
        return weights[labels]
    return torch.where(labels > 0.5, weights[:, 1], weights[:, 0]).mean(dim=1)


def _counts(labels: Tensor, task: Task, classes: int) -> Tensor:
    if task == "multilabel":
        positive = labels.sum(dim=0)
        return torch.stack([len(labels) - positive, positive], dim=1)
    return F.one_hot(labels, classes).sum(dim=0).float()
