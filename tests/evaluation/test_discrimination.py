"""Discrimination against scikit-learn and statsmodels, and its intervals against simulated test sets."""

import json
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as peer
from statsmodels.stats.proportion import proportion_confint

from medtune.evaluation.discrimination import Discrimination, discrimination
from medtune.evaluation.intervals import Interval, accuracy_interval, auroc_interval
from medtune.evaluation.metrics import predicted_labels, probabilities
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

every_task = pytest.mark.parametrize("task", TASKS)
OF_A_CLASS = ("auroc", "average_precision", "precision", "recall", "specificity", "f1")


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def measure(
    predicted: NDArray[Any], labels: NDArray[Any], task: Task, seed: int = 0, resamples: int = 200
) -> Discrimination:
    names = [f"c{k}" for k in range(predicted.shape[1])]
    return discrimination(predicted, labels, task, names, np.random.default_rng(seed), resamples=resamples)


def intervals(numbers: Discrimination) -> dict[str, Interval]:
    """Every interval by name."""
    found = {name: value for name, value in vars(numbers).items() if isinstance(value, Interval)}
    for one in numbers.per_class:
        found |= {f"{one.name}/{name}": getattr(one, name) for name in OF_A_CLASS}
    return found


@every_task
@pytest.mark.parametrize("decimals", [0, 6])
def test_the_task_has_scikit_learns_values(draw: Draw, task: Task, decimals: int) -> None:
    logits, labels = draw(task, 150, 0, decimals=decimals)
    predicted = probabilities(logits, task)
    got, called = measure(predicted, labels, task), predicted_labels(predicted, task)
    macro = peer.precision_recall_fscore_support(labels, called, average="macro")
    assert [got.macro_precision.value, got.macro_recall.value, got.macro_f1.value] == pytest.approx(macro[:3])
    assert got.auroc == auroc_interval(predicted, labels, task)
    assert got.accuracy == accuracy_interval(predicted, labels, task)
    if task == "multilabel":
        ranked = peer.average_precision_score(labels, predicted)
        balanced = np.mean([peer.balanced_accuracy_score(*pair) for pair in zip(labels.T, called.T, strict=True)])
    else:
        scores = predicted[:, 1] if task == "binary" else predicted
        ranked = peer.average_precision_score(labels, scores)
        balanced = peer.balanced_accuracy_score(labels, called)
    assert (got.average_precision.value, got.balanced_accuracy.value) == pytest.approx((ranked, balanced))
    assert (got.quadratic_kappa is not None) == (task == "ordinal")
    if got.quadratic_kappa:
        assert got.quadratic_kappa.value == pytest.approx(peer.cohen_kappa_score(labels, called, weights="quadratic"))


@every_task
def test_each_class_has_scikit_learns_values(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 150, 1, decimals=1)
    predicted = probabilities(logits, task)
    got, called = measure(predicted, labels, task), predicted_labels(predicted, task)
    assert len(got.per_class) == predicted.shape[1]
    for k, one in enumerate(got.per_class):
        own, decided = (labels[:, k], called[:, k]) if task == "multilabel" else (labels == k, called == k)
        sides = peer.precision_recall_fscore_support(own, decided)
        values = (one.precision.value, one.recall.value, one.f1.value, one.specificity.value)
        assert values == pytest.approx((sides[0][1], sides[1][1], sides[2][1], sides[1][0]))
        assert one.auroc.value == pytest.approx(peer.roc_auc_score(own, predicted[:, k]))
        assert one.average_precision.value == pytest.approx(peer.average_precision_score(own, predicted[:, k]))
        assert (one.name, one.cases) == (f"c{k}", own.sum()) and one.sensitivity == one.recall
        low, high = proportion_confint(np.sum(own & decided), own.sum(), method="wilson")
        assert (one.recall.low, one.recall.high) == pytest.approx((low, high))
        low, high = proportion_confint(np.sum(own & decided), np.sum(own | decided), method="wilson")
        assert (one.f1.low, one.f1.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))


@every_task
@pytest.mark.parametrize("cases", [10, 200])
def test_every_interval_holds_its_value(draw: Draw, task: Task, cases: int) -> None:
    logits, labels = draw(task, cases, 2)
    for interval in intervals(measure(probabilities(logits, task), labels, task)).values():
        if not math.isnan(interval.value):
            assert -1 <= interval.low <= interval.value <= interval.high <= 1 and interval.low < interval.high


@every_task
def test_a_perfect_model_is_not_certain(draw: Draw, task: Task) -> None:
    _, labels = draw(task, 60, 3)
    predicted = labels.astype(float) if task == "multilabel" else np.eye(labels.max() + 1)[labels]
    for name, interval in intervals(measure(predicted, labels, task)).items():
        assert interval.value == pytest.approx(1) and interval.high == 1, name
        assert interval.low < 0.99, name


@every_task
def test_edges_are_numbers_or_say_why(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 40, 4)
    predicted = probabilities(logits, task)
    missing = labels.copy()
    missing[missing == 1] = 0
    extreme = predicted.round()
    for scores, truth in (
        (predicted[:1], labels[:1]),
        (predicted, missing),
        (predicted, np.zeros_like(labels)),
        (np.full_like(predicted, 1 / predicted.shape[1]), labels),
        (np.full_like(predicted, 1 / predicted.shape[1]), np.zeros_like(labels)),
        (extreme, labels),
    ):
        got = measure(scores, truth, task, resamples=20)
        for name, interval in intervals(got).items():
            assert math.isnan(interval.value) == bool(interval.why), name
        json.dumps(got.as_json(), allow_nan=False)


def test_what_is_missing_is_named() -> None:
    predicted = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.7, 0.2, 0.1], [0.2, 0.5, 0.3]])
    got = measure(predicted, np.array([[0], [1], [1], [2]]), "ordinal")
    assert got.macro_precision.why == got.per_class[2].precision.why == "no case was called class c2"
    assert got.per_class[2].f1.value == 0 and got.macro_f1.value > 0
    got = measure(predicted, np.array([0, 1, 1, 0]), "ordinal")
    assert got.balanced_accuracy.why == got.average_precision.why == "no case has class c2"
    assert got.per_class[2].f1.why == "no case has class c2 or was called so"
    assert got.as_json()["per_class"][2]["recall"]["undefined"] == "no case has class c2"
    got = measure(predicted[:1], np.array([0]), "ordinal")
    assert got.quadratic_kappa and got.quadratic_kappa.why == "every case has one class and was called so"
    got = measure(predicted[:, :2], np.array([[1, 0], [1, 1], [1, 0], [1, 1]]), "multilabel")
    assert got.per_class[0].specificity.why == got.per_class[0].average_precision.why == "every case has label c0"


def test_kappa_goes_below_nought(draw: Draw) -> None:
    predicted = probabilities(draw("ordinal", 100, 5)[0], "ordinal")
    by_chance = measure(predicted, draw("ordinal", 100, 6)[1], "ordinal").quadratic_kappa
    assert by_chance and -0.4 < by_chance.low < 0 < by_chance.high < 0.4
    opposite = measure(np.eye(3)[[2, 2, 0, 0]], np.array([0, 0, 2, 2]), "ordinal").quadratic_kappa
    assert opposite and (opposite.value, opposite.low) == (-1, -1) and opposite.high > -0.5


def test_a_seed_gives_the_same_numbers_again(draw: Draw) -> None:
    logits, labels = draw("ordinal", 80, 5)
    predicted = probabilities(logits, "ordinal")
    assert measure(predicted, labels, "ordinal", seed=1) == measure(predicted, labels, "ordinal", seed=1)
    assert measure(predicted, labels, "ordinal", seed=1) != measure(predicted, labels, "ordinal", seed=2)


def test_as_many_names_as_classes(draw: Draw) -> None:
    logits, labels = draw("binary", 20, 6)
    with pytest.raises(ValueError, match="3 names of classes"):
        discrimination(probabilities(logits, "binary"), labels, "binary", ["a", "b", "c"], np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "cases"), [("binary", 80), ("multiclass", 250), ("multilabel", 150), ("ordinal", 150)]
)
def test_intervals_hold_the_truth(draw: Draw, task: Task, cases: int) -> None:
    def sample(cases: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        # the first cases have labels that no model drew
        logits, labels = draw(task, cases + 7, seed)
        return probabilities(logits, task)[7:], labels[7:]

    truth = intervals(measure(*sample(60_000, 10_000), task, resamples=1))
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for seed in range(300):
        for name, got in intervals(measure(*sample(cases, seed), task)).items():
            if not math.isnan(got.value):
                held[name].append(got.low <= truth[name].value <= got.high)
    for name, those in held.items():
        assert np.mean(those) > 0.89, name
