from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import entropy

from medtune.evaluation.ensembles import mean_probabilities, member_probabilities, predictive_entropy, uncertainty
from medtune.evaluation.metrics import nll, probabilities
from medtune.task import TASKS, Task

every_task = pytest.mark.parametrize("task", TASKS)
ROUNDING = 1e-12


@pytest.fixture
def members(draw: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Callable[..., np.ndarray]:
    """`members(task, count)`: logits of so many models of the same 40 cases."""
    return lambda task, count=5: np.stack([draw(task, 40, seed)[0] for seed in range(count)])


@every_task
def test_the_mean_is_that_of_the_members_probabilities(task: Task, members: Callable[..., np.ndarray]) -> None:
    logits = members(task)
    by_hand = np.mean([probabilities(one, task) for one in logits], axis=0)
    np.testing.assert_allclose(mean_probabilities(logits, task), by_hand, rtol=0, atol=ROUNDING)
    assert np.abs(by_hand - probabilities(logits.mean(axis=0), task)).max() > 0.01  # not of the logits


@every_task
def test_one_member_is_itself_and_agrees_with_itself(task: Task, members: Callable[..., np.ndarray]) -> None:
    logits = members(task, 1)
    np.testing.assert_array_equal(mean_probabilities(logits, task), probabilities(logits[0], task))
    assert (uncertainty(logits, task).mutual_information == 0).all()


@every_task
def test_members_that_agree_have_no_disagreement_below_zero(task: Task, members: Callable[..., np.ndarray]) -> None:
    shared = uncertainty(members(task, 1).repeat(7, axis=0), task).mutual_information
    assert (shared >= 0).all() and shared.max() < ROUNDING


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal"])
def test_entropies_are_those_of_scipy(task: Task, members: Callable[..., np.ndarray]) -> None:
    logits = members(task)
    of_members = np.array([[entropy(case) for case in probabilities(one, task)] for one in logits])
    total = np.array([entropy(case) for case in mean_probabilities(logits, task)])
    measured = uncertainty(logits, task)
    np.testing.assert_allclose(measured.entropy, total, atol=ROUNDING)
    np.testing.assert_allclose(measured.mutual_information, total - of_members.mean(axis=0), atol=ROUNDING)


def test_mutual_information_is_the_mean_divergence_from_the_mean(members: Callable[..., np.ndarray]) -> None:
    logits = members("multiclass")
    mean = mean_probabilities(logits, "multiclass")
    divergence = np.mean([entropy(one, mean, axis=1) for one in member_probabilities(logits, "multiclass")], axis=0)
    np.testing.assert_allclose(uncertainty(logits, "multiclass").mutual_information, divergence, atol=ROUNDING)


def test_multilabel_is_the_mean_over_labels_of_two_classes(members: Callable[..., np.ndarray]) -> None:
    logits = members("multilabel")
    mean = mean_probabilities(logits, "multilabel")
    by_hand = np.mean([entropy([mean[:, label], 1 - mean[:, label]]) for label in range(mean.shape[1])], axis=0)
    np.testing.assert_allclose(uncertainty(logits, "multilabel").entropy, by_hand, atol=ROUNDING)


def test_two_that_are_sure_of_opposites_are_all_disagreement() -> None:
    logits = np.array([[[1000.0, 0.0]], [[0.0, 1000.0]]], np.float32)
    measured = uncertainty(logits, "binary")
    assert measured.entropy == pytest.approx([np.log(2)]) and measured.mutual_information == pytest.approx([np.log(2)])
    assert measured.as_json() == {"entropy": pytest.approx(np.log(2)), "mutual_information": pytest.approx(np.log(2))}


def test_two_that_both_do_not_know_do_not_disagree() -> None:
    measured = uncertainty(np.zeros((2, 1, 4), np.float32), "multiclass")
    assert measured.entropy == pytest.approx([np.log(4)]) and measured.mutual_information == pytest.approx([0])


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_certainty_has_no_entropy(task: Task) -> None:
    assert (predictive_entropy(np.array([[0.0, 1.0], [1.0, 0.0]]), task) == 0).all()


def test_the_mean_of_members_loses_less_than_its_members(draw: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    """The NLL is convex (Lakshminarayanan et al. 2017, section 2.4)."""
    logits, labels = draw("multiclass", 200, 3)
    noise = np.random.default_rng(0).normal(0, 2, (6, *logits.shape)).astype(np.float32)
    members = logits + noise
    mean = np.log(mean_probabilities(members, "multiclass"))
    assert nll(mean, labels, "multiclass") < np.mean([nll(one, labels, "multiclass") for one in members])


def test_what_is_no_set_of_members_is_refused() -> None:
    for shape in ((3, 2), (0, 3, 2), (2, 0, 2)):
        with pytest.raises(ValueError, match="members, cases, classes"):
            mean_probabilities(np.zeros(shape, np.float32), "binary")
    with pytest.raises(ValueError, match="diverged"):
        uncertainty(np.full((2, 3, 2), np.nan, np.float32), "binary")
    with pytest.raises(ValueError, match=r"0..1"):
        predictive_entropy(np.array([[2.0, -1.0]]), "binary")
