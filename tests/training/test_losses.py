import numpy as np
import pytest
import torch

from medtune.config.trial import Loss
from medtune.evaluation.metrics import nll
from medtune.task import Task
from medtune.training.losses import training_loss

CASES, CLASSES = 12, 4

smoothings = pytest.mark.parametrize("smoothing", [0.0, 0.2])


def logits(classes: int = CLASSES) -> torch.Tensor:
    return torch.randn((CASES, classes), generator=torch.Generator().manual_seed(0)) * 3


@smoothings
@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", CLASSES), ("ordinal", CLASSES)])
def test_cross_entropy_against_targets_mixed_with_the_uniform(task: Task, classes: int, smoothing: float) -> None:
    scores, labels = logits(classes), torch.arange(CASES) % classes
    targets = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    log_probabilities = torch.log_softmax(scores.double(), dim=1).numpy()
    expected = -(targets * log_probabilities).sum(axis=1).mean()
    assert training_loss(Loss(label_smoothing=smoothing), task, scores, labels).item() == pytest.approx(expected, 1e-6)


@smoothings
def test_binary_cross_entropy_against_targets_mixed_with_one_half(smoothing: float) -> None:
    scores = logits()
    labels = (torch.arange(CASES * CLASSES).view(CASES, CLASSES) % 3 == 0).float()
    targets = labels.numpy() * (1 - smoothing) + smoothing / 2
    probabilities = torch.sigmoid(scores.double()).numpy()
    expected = -(targets * np.log(probabilities) + (1 - targets) * np.log(1 - probabilities)).mean()
    loss = training_loss(Loss(label_smoothing=smoothing), "multilabel", scores, labels)
    assert loss.item() == pytest.approx(expected, 1e-6)


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
def test_without_smoothing_it_is_the_nll_of_the_evaluation(task: Task) -> None:
    scores = logits(2 if task == "binary" else CLASSES)
    labels = (scores > 1).float() if task == "multilabel" else torch.arange(CASES) % scores.shape[1]
    expected = nll(scores.numpy(), labels.long().numpy(), task)
    assert training_loss(Loss(), task, scores, labels).item() == pytest.approx(expected, 1e-6)
