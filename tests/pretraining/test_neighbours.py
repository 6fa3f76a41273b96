"""The votes of the nearest labelled cases, against a plain loop."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from torch import Tensor

from medtune.evaluation.metrics import evaluate
from medtune.pretraining.neighbours import TEMPERATURE, neighbour_logits
from medtune.task import TASKS, Task

CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 5, "multilabel": 4, "ordinal": 4}
every_task = pytest.mark.parametrize("task", TASKS)


def draw(task: Task, cases: int, features: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features and labels as `DeviceSplit` has them."""
    generator = np.random.default_rng(seed)
    if task == "multilabel":
        labels = torch.from_numpy(generator.integers(0, 2, (cases, CLASSES[task]))).float()
    else:
        labels = torch.from_numpy(generator.integers(0, CLASSES[task], cases))
    return torch.from_numpy(generator.normal(size=(cases, features))).float(), labels


def expected(bank: Tensor, labels: Tensor, case: Tensor, task: Task, neighbours: int) -> list[float]:
    """The probabilities of one case: the share of each class, or label, of the votes and of a vote that is shared."""
    votes = []
    for known, label in zip(bank.double(), labels.tolist(), strict=True):
        similar = float(torch.nn.functional.cosine_similarity(known, case.double(), dim=0))
        votes.append((math.exp((similar - 1) / TEMPERATURE), label))
    nearest = sorted(votes, key=lambda vote: -vote[0])[:neighbours]
    shared, everything = nearest[-1][0], sum(vote for vote, _ in nearest)
    if task == "multilabel":
        heard = [sum(vote for vote, label in nearest if label[index]) for index in range(CLASSES[task])]
        return [(votes_for + shared / 2) / (everything + shared) for votes_for in heard]
    heard = [sum(vote for vote, label in nearest if label == index) for index in range(CLASSES[task])]
    return [(votes_for + shared / CLASSES[task]) / (everything + shared) for votes_for in heard]


@every_task
@pytest.mark.parametrize("neighbours", [1, 2, 7, 30, 500])  # more than the bank has, too
def test_logits_are_the_votes_of_the_nearest(task: Task, neighbours: int) -> None:
    bank, labels = draw(task, 30)
    features, _ = draw(task, 12, seed=1)
    logits = neighbour_logits(bank, labels, features, task, CLASSES[task], neighbours)
    assert logits.shape == (12, CLASSES[task]) and logits.dtype == torch.float32
    wanted = np.array([expected(bank, labels, case, task, neighbours) for case in features])
    if task == "multilabel":
        np.testing.assert_allclose(expit(logits.double().numpy()), wanted, rtol=1e-3, atol=1e-6)
    else:
        np.testing.assert_allclose(log_softmax(logits.double().numpy(), axis=1), np.log(wanted), rtol=1e-4, atol=1e-4)


@every_task
def test_lengths_of_features_tell_nothing(task: Task) -> None:
    bank, labels = draw(task, 30)
    features, _ = draw(task, 12, seed=1)
    logits = neighbour_logits(bank, labels, features, task, CLASSES[task], 5)
    lengths = torch.arange(1, 31)[:, None]
    scaled = neighbour_logits(bank * lengths, labels, features * 100, task, CLASSES[task], 5)
    torch.testing.assert_close(scaled, logits, rtol=1e-3, atol=1e-4)


@every_task
def test_a_bank_of_one_case_or_of_one_class_gives_finite_logits(task: Task) -> None:
    features, _ = draw(task, 12, seed=1)
    for cases in (1, 9):
        bank, labels = draw(task, cases)
        one_class = torch.ones_like(labels)
        logits = neighbour_logits(bank, one_class, features, task, CLASSES[task], 20)
        assert logits.isfinite().all()
        assert (logits > 0).all() if task == "multilabel" else (logits.argmax(dim=1) == 1).all()


@every_task
def test_logits_are_finite_however_far_the_neighbours(task: Task) -> None:
    """Votes are of very different weight where some neighbours are at hand and the last is on the other side."""
    for seed in range(50):
        bank, labels = draw(task, 20, seed=seed)
        near = bank[:1] + 0.02 * bank
        near[-1] = -bank[0]
        for known in (labels, torch.ones_like(labels), torch.zeros_like(labels)):
            logits = neighbour_logits(near, known, bank[:1].expand(4, -1), task, CLASSES[task], 20)
            assert logits.isfinite().all()


@every_task
def test_features_of_nothing_give_finite_logits(task: Task) -> None:
    _, labels = draw(task, 6)
    assert neighbour_logits(torch.zeros(6, 3), labels, torch.zeros(2, 3), task, CLASSES[task], 4).isfinite().all()


@every_task
def test_separable_features_have_an_auroc_of_one(task: Task, global_randomness: Callable[[], bytes]) -> None:
    generator = torch.Generator().manual_seed(0)
    _, labels = draw(task, 200)
    bits = 2 ** torch.arange(CLASSES[task])
    places = (bits * labels).sum(dim=1).long() if task == "multilabel" else labels
    features = torch.nn.functional.one_hot(places, 16) + 0.05 * torch.randn((200, 16), generator=generator)
    before = global_randomness()
    logits = neighbour_logits(features[:120], labels[:120], features[120:], task, CLASSES[task], 5)
    assert global_randomness() == before
    values = evaluate(logits.numpy(), labels[120:].numpy().astype(np.int64), task)
    assert values["auroc"] == 1 and values["accuracy"] == 1


def test_a_nearer_neighbour_has_the_greater_vote() -> None:
    bank, labels = torch.tensor([[1.0, 0], [0, 1.0]]), torch.tensor([0, 1])
    case = torch.tensor([[2.0, 1.0]])
    assert neighbour_logits(bank, labels, case, "binary", 2, 2).argmax().item() == 0
    of_equals = neighbour_logits(bank, labels, torch.ones(1, 2), "binary", 2, 2)
    assert of_equals[0, 0].item() == pytest.approx(of_equals[0, 1].item())
