import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medtune.config.trial import Loss
from medtune.evaluation.metrics import nll
from medtune.task import Task
from medtune.training.balance import class_weights
from medtune.training.losses import batch_weight, training_loss

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


@smoothings
def test_soft_targets_are_mixed_losses(smoothing: float) -> None:
    scores, config = logits(), Loss(label_smoothing=smoothing)
    first, second = torch.arange(CASES) % CLASSES, torch.arange(CASES) // 3 % CLASSES
    mixed = 0.3 * F.one_hot(first, CLASSES) + 0.7 * F.one_hot(second, CLASSES)
    each = [training_loss(config, "multiclass", scores, labels).item() for labels in (first, second)]
    assert training_loss(config, "multiclass", scores, mixed).item() == pytest.approx(0.3 * each[0] + 0.7 * each[1])


def test_weighted_cross_entropy_is_that_of_torch() -> None:
    scores, labels, weights = logits(), torch.arange(CASES) % CLASSES, torch.tensor([0.5, 1.0, 2.0, 4.0])
    expected = F.cross_entropy(scores, labels, weights).item()
    assert training_loss(Loss(), "multiclass", scores, labels, weights).item() == pytest.approx(expected)


def test_weights_of_labels_balance_their_two_values() -> None:
    scores, labels = logits(2), (torch.arange(CASES * 2).view(CASES, 2) % 4 == 0).float()
    weights = torch.tensor([[1.0, 5.0], [1.0, 1.0]])
    each = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    factors = torch.where(labels > 0.5, weights[:, 1], weights[:, 0])
    expected = ((each * factors).sum() / factors.sum()).item()
    assert training_loss(Loss(), "multilabel", scores, labels, weights).item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_weighs_each_case_by_its_doubt(gamma: float) -> None:
    scores, labels = logits(), torch.arange(CASES) % CLASSES
    of_true = torch.softmax(scores.double(), dim=1)[torch.arange(CASES), labels]
    expected = (-((1 - of_true) ** gamma) * of_true.log()).mean().item()
    assert training_loss(Loss(focal_gamma=gamma), "multiclass", scores, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_labels(gamma: float) -> None:
    scores, labels = logits(3), (torch.arange(CASES * 3).view(CASES, 3) % 4 == 0).float()
    p = torch.sigmoid(scores.double())
    of_true = torch.where(labels > 0.5, p, 1 - p)
    expected = (-((1 - of_true) ** gamma) * of_true.log()).mean().item()
    assert training_loss(Loss(focal_gamma=gamma), "multilabel", scores, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_focal_loss_has_a_slope_where_a_case_is_certain(task: Task) -> None:
    scores = torch.tensor([[200.0, 0.0], [0.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    training_loss(Loss(focal_gamma=0.5), task, scores, targets).backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


@smoothings
@pytest.mark.parametrize("balanced", [False, True], ids=["even", "balanced"])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
def test_halves_add_up_to_the_whole(task: Task, gamma: float, balanced: bool, smoothing: float) -> None:
    scores = logits(2 if task == "binary" else CLASSES).requires_grad_()
    labels = (scores > 1).float() if task == "multilabel" else (torch.arange(CASES) ** 2) % scores.shape[1]
    weights = class_weights(labels, task, scores.shape[1]) if balanced else None
    loss = Loss(label_smoothing=smoothing, focal_gamma=gamma)

    def weighed(cases: slice) -> torch.Tensor:
        own = batch_weight(loss, task, scores.shape[1], labels[cases], weights)
        return training_loss(loss, task, scores[cases], labels[cases], weights) * own

    whole = training_loss(loss, task, scores, labels, weights)
    total = batch_weight(loss, task, scores.shape[1], labels, weights)
    halves = (weighed(slice(0, 5)) + weighed(slice(5, None))) / total
    assert halves.item() == pytest.approx(whole.item(), 1e-6)
    (expected,), (found,) = (torch.autograd.grad(one, scores) for one in (whole, halves))
    torch.testing.assert_close(found, expected)
