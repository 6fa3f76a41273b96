"""Metrics against those that others wrote, to 1e-12, and what they say where there is nothing to say."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from medmnist.evaluator import getACC, getAUC
from netcal.metrics import ECE
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from medtune.evaluation import metrics
from medtune.evaluation.metrics import METRICS, evaluate, probabilities, why_undefined
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

MEDMNIST = {
    "binary": "binary-class",
    "multiclass": "multi-class",
    "multilabel": "multi-label, binary-class",
    "ordinal": "ordinal-regression",
}
SHAPES = [(78, 6), (78, 0), (1003, 6), (1003, 1)]  # cases, decimals of the logits: 0 and 1 make ties

every_task = pytest.mark.parametrize("task", TASKS)
every_shape = pytest.mark.parametrize(("cases", "decimals"), SHAPES)


@every_task
@every_shape
def test_auroc_and_accuracy_are_those_of_medmnist(draw: Draw, task: Task, cases: int, decimals: int) -> None:
    for seed in range(3):
        logits, labels = draw(task, cases, seed, decimals=decimals)
        predicted = probabilities(logits, task)
        expected = getAUC(labels, predicted, MEDMNIST[task]), getACC(labels, predicted, MEDMNIST[task])
        got = metrics.auroc(predicted, labels, task), metrics.accuracy(predicted, labels, task)
        assert got == pytest.approx(expected, abs=1e-12)


@every_task
def test_evaluator_is_matched_where_probabilities_saturate(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 200, 0, scale=60)
    predicted = probabilities(logits, task)
    assert predicted.max() == 1
    assert metrics.auroc(predicted, labels, task) == pytest.approx(getAUC(labels, predicted, MEDMNIST[task]), abs=1e-12)


@every_shape
def test_auroc_is_that_of_scikit_learn(draw: Draw, cases: int, decimals: int) -> None:
    logits, labels = draw("multiclass", cases, 1, decimals=decimals)
    predicted = probabilities(logits, "multiclass")
    expected = roc_auc_score(labels, predicted, multi_class="ovr", average="macro")
    assert metrics.auroc(predicted, labels, "multiclass") == pytest.approx(expected, abs=1e-12)
    logits, labels = draw("multilabel", cases, 1, decimals=decimals)
    predicted = probabilities(logits, "multilabel")
    expected = roc_auc_score(labels, predicted, average=None)
    assert metrics.auroc_per_class(predicted, labels, "multilabel") == pytest.approx(expected, abs=1e-12)


@every_task
@every_shape
def test_brier_and_nll_are_those_of_scikit_learn(draw: Draw, task: Task, cases: int, decimals: int) -> None:
    logits, labels = draw(task, cases, 2, decimals=decimals)
    predicted = probabilities(logits, task)
    if task == "multilabel":
        columns = list(zip(predicted.T, labels.T, strict=True))
        brier = np.mean([brier_score_loss(label, p) for p, label in columns])
        nll = np.mean([log_loss(label, p) for p, label in columns])
    else:
        nll = log_loss(labels, predicted)
        one_hot = np.eye(logits.shape[1])[labels]
        brier = ((predicted - one_hot) ** 2).sum(axis=1).mean()
        if task == "binary":
            brier = brier_score_loss(labels, predicted[:, 1])
    assert metrics.brier(predicted, labels, task) == pytest.approx(brier, abs=1e-12)
    assert metrics.nll(logits, labels, task) == pytest.approx(nll, abs=1e-12)


@every_task
@every_shape
def test_ece_is_that_of_netcal(draw: Draw, task: Task, cases: int, decimals: int) -> None:
    logits, labels = draw(task, cases, 3, decimals=decimals)
    predicted = probabilities(logits, task)
    if task == "multilabel":
        expected = np.mean([ECE(15).measure(p, label) for p, label in zip(predicted.T, labels.T, strict=True)])
    else:
        # netcal reads two columns as the positive class, so the top label is handed over as such
        expected = ECE(15).measure(predicted.max(axis=1), (predicted.argmax(axis=1) == labels).astype(int))
    # netcal moves 0 and 1 inwards by 2e-16
    assert metrics.ece(predicted, labels, task) == pytest.approx(expected, abs=1e-12)


def test_ece_is_that_of_netcal_on_the_edges_of_bins() -> None:
    """Confidences k/15 and exactly 0 and 1; netcal's bins are closed below too, and its last holds 1."""
    generator = np.random.default_rng(4)
    positive = generator.integers(0, 16, 400) / 15
    labels = (generator.random(400) < 0.7 * positive).astype(np.int64)
    assert {0.0, 1.0} <= set(positive)
    got = metrics.ece(positive[:, None], labels[:, None], "multilabel")
    assert got == pytest.approx(ECE(15).measure(positive, labels), abs=1e-12)


def test_confidence_of_exactly_one_counts() -> None:
    certain = np.array([[0.0, 1.0]] * 4)
    assert metrics.ece(certain, np.array([1, 1, 1, 0]), "binary") == 0.25


def test_ece_by_hand() -> None:
    predicted = np.array([[0.1, 0.9], [0.1, 0.9], [0.7, 0.3], [0.72, 0.28]])
    # bin of .9: |.9 - .5| x 2; bin of .7 and .72: |.71 - 1| x 2
    assert metrics.ece(predicted, np.array([1, 0, 0, 0]), "binary") == pytest.approx((0.8 + 0.58) / 4)


def test_labels_with_a_second_axis_are_the_same_labels(draw: Draw) -> None:
    """Compared with (78,) they broadcast to (78, 78), and an ECE of .336 was once published from that."""
    logits, labels = draw("binary", 78, 5)
    predicted = probabilities(logits, "binary")
    top, column = predicted.max(axis=1), labels[:, None]
    broadcast = abs((predicted.argmax(axis=1) == column).mean() - top.mean())
    assert abs(broadcast - metrics.ece(predicted, labels, "binary")) > 0.1
    for task in ("binary", "multiclass", "ordinal"):
        logits, labels = draw(task, 78, 5)
        assert evaluate(logits, labels[:, None], task) == evaluate(logits, labels, task)


@pytest.mark.parametrize(
    ("scores", "labels", "task", "says"),
    [
        (np.zeros((3, 2)), np.array([0, 1, 2]), "binary", "0 to 2"),
        (np.zeros((3, 2)), np.array([0, 1, -1]), "binary", "-1 to 1"),
        (np.zeros((3, 3)), np.array([0, 1, 1]), "binary", r"\(3, 3\)"),
        (np.zeros(3), np.array([0, 1, 1]), "binary", r"\(3,\)"),
        (np.zeros((0, 2)), np.zeros(0, int), "binary", r"\(0, 2\)"),
        (np.zeros((3, 4)), np.array([0.0, 1.0, 2.0]), "multiclass", "float64"),
        (np.zeros((3, 4)), np.array([0, 1]), "multiclass", r"\(2,\)"),
        (np.zeros((3, 4)), np.array([0, 1, 0]), "multilabel", r"\(3,\)"),
        (np.zeros((2, 1)), np.array([[0], [2]]), "multilabel", "0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(scores: np.ndarray, labels: np.ndarray, task: Task, says: str) -> None:
    for function in (evaluate, metrics.nll, metrics.auroc, metrics.ece, metrics.brier, metrics.accuracy):
        with pytest.raises(ValueError, match=says):
            function(scores, labels, task)


def test_logits_in_the_place_of_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="logits"):
        metrics.ece(np.array([[-1.0, 2.0]]), np.array([1]), "binary")


@every_task
def test_evaluate_gives_each_metric(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 100, 6)
    predicted = probabilities(logits, task)
    got = evaluate(logits, labels, task)
    assert tuple(got) == METRICS
    assert all(type(value) is float for value in got.values())
    assert got["loss"] == metrics.nll(logits, labels, task)
    for name in ("auroc", "accuracy", "ece", "brier"):
        assert got[name] == getattr(metrics, name)(predicted, labels, task)
    assert evaluate(logits, labels.astype(np.uint8), task) == pytest.approx(got)


@every_task
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_model_gives_nan_and_no_noise(draw: Draw, task: Task, bad: float) -> None:
    logits, labels = draw(task, 30, 7)
    logits[3, 1] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(map(math.isnan, evaluate(logits, labels, task).values()))
    with pytest.raises(ValueError, match="diverged"):
        probabilities(logits, task)


@every_task
def test_a_missing_class_gives_nan_auroc_alone(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 50, 8)
    labels[labels == 1] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = evaluate(logits, labels, task)
    assert [name for name in got if math.isnan(got[name])] == ["auroc"]
    assert why_undefined(labels, logits.shape[1], task)


def test_why_undefined_names_the_class() -> None:
    assert why_undefined(np.array([0, 1, 3]), 4, "multiclass") == "AUROC is undefined: no case has class 2"
    assert "[1]" in str(why_undefined(np.array([[0, 1], [1, 1]]), 2, "multilabel"))
    assert why_undefined(np.array([0, 1]), 2, "binary") is None


@every_task
def test_one_case(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 10, 0)
    got = evaluate(logits[:1], labels[:1], task)
    assert math.isnan(got["auroc"])
    assert math.isfinite(got["loss"] + got["ece"] + got["brier"] + got["accuracy"])


@every_task
def test_the_largest_logits_do_not_overflow(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 40, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = evaluate(np.sign(logits) * np.float32(3e38), labels, task)
    assert all(map(math.isfinite, got.values()))


def test_nll_of_certain_mistakes_is_the_margin() -> None:
    assert metrics.nll(np.array([[1000.0, 0.0]]), np.array([1]), "binary") == 1000
    assert metrics.nll(np.array([[1000.0]]), np.array([[0]]), "multilabel") == 1000
    assert metrics.nll(np.array([[50.0]]), np.array([[1]]), "multilabel") == pytest.approx(math.exp(-50), abs=0)


def test_a_binary_tie_goes_to_class_0() -> None:
    predicted = probabilities(np.zeros((2, 2), np.float32), "binary")
    assert metrics.correct(predicted, np.array([0, 1]), "binary").tolist() == [True, False]
    assert metrics.accuracy(predicted, np.array([0, 1]), "binary") == accuracy_score([0, 1], [0, 0])
