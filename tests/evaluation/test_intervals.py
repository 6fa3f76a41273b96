"""Intervals against the formulas they come from, and against simulated validation sets."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import beta, norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from medtune.evaluation import metrics
from medtune.evaluation.intervals import (
    Interval,
    accuracy_interval,
    auroc_interval,
    auroc_intervals_per_class,
    share_interval,
    wilson,
)
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

every_task = pytest.mark.parametrize("task", TASKS)


def two_columns(positive: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1 - positive, positive], axis=1)


def delong_variance(positives: list[float], negatives: list[float]) -> float:
    """DeLong et al. 1988, word for word: every pair compared."""
    psi = np.array([[(x > y) + 0.5 * (x == y) for y in negatives] for x in positives])
    return float(psi.mean(axis=1).var(ddof=1) / len(positives) + psi.mean(axis=0).var(ddof=1) / len(negatives))


@pytest.mark.parametrize("decimals", [1, 6])
def test_binary_is_logit_transformed_delong(decimals: int) -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        labels = (np.arange(60) < 20).astype(np.int64)
        scores = expit((generator.normal(size=60) + labels).round(decimals))
        got = auroc_interval(two_columns(scores), labels, "binary")
        auroc = roc_auc_score(labels, scores)
        variance = delong_variance(list(scores[labels == 1]), list(scores[labels == 0]))
        reach = norm.ppf(0.975) * math.sqrt(variance) / (auroc * (1 - auroc))
        expected = auroc, expit(logit(auroc) - reach), expit(logit(auroc) + reach)
        assert (got.value, got.low, got.high) == pytest.approx(expected, abs=1e-12)


def test_copies_of_one_label_are_not_more_information(draw: Draw) -> None:
    logits, labels = draw("multilabel", 100, 0)
    one, label = metrics.probabilities(logits, "multilabel")[:, :1], labels[:, :1]
    single = auroc_interval(one, label, "multilabel")
    several = auroc_interval(np.repeat(one, 4, axis=1), np.repeat(label, 4, axis=1), "multilabel")
    assert several.low == pytest.approx(single.low, abs=1e-12)
    single = accuracy_interval(one, label, "multilabel")
    several = accuracy_interval(np.repeat(one, 4, axis=1), np.repeat(label, 4, axis=1), "multilabel")
    assert several.low == pytest.approx(single.low, abs=1e-12)


def test_two_classes_as_multiclass_are_binary(draw: Draw) -> None:
    logits, labels = draw("binary", 78, 1)
    predicted = metrics.probabilities(logits, "binary")
    one, mean = auroc_interval(predicted, labels, "binary"), auroc_interval(predicted, labels, "multiclass")
    assert (one.low, one.high) == pytest.approx((mean.low, mean.high), abs=1e-9)


def test_macro_variance_is_that_of_repeated_samples(draw: Draw) -> None:
    widths, values = [], []
    for seed in range(300):
        logits, labels = draw("multiclass", 250, seed)
        interval = auroc_interval(metrics.probabilities(logits, "multiclass"), labels, "multiclass")
        values.append(interval.value)
        widths.append(interval.high - interval.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.12)


def test_auroc_interval_holds_the_truth() -> None:
    generator, auroc, held = np.random.default_rng(0), 0.9, 0
    labels = (np.arange(78) < 57).astype(np.int64)
    for _ in range(400):
        scores = generator.normal(size=78) + labels * norm.ppf(auroc) * math.sqrt(2)
        interval = auroc_interval(two_columns(expit(scores)), labels, "binary")
        held += interval.low <= auroc <= interval.high
    assert 0.92 <= held / 400 <= 0.99


@pytest.mark.parametrize("perfect", [True, False])
def test_an_auroc_of_one_or_nought_is_not_certain(perfect: bool) -> None:
    labels = (np.arange(78) < 57).astype(np.int64)
    scores = np.where((labels == 1) == perfect, 0.8, 0.2)
    got = auroc_interval(two_columns(scores), labels, "binary")
    # 21 pairs that share no case, all of them right: Clopper & Pearson
    bound = beta.ppf(0.025, 21, 1)
    expected = Interval(1.0, bound, 1.0) if perfect else Interval(0.0, 0.0, 1 - bound)
    assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_a_perfect_class_still_widens_the_mean(draw: Draw) -> None:
    logits, labels = draw("multilabel", 60, 2)
    predicted = metrics.probabilities(logits, "multilabel")[:, :2]
    predicted[:, 0] = np.where(labels[:, 0] == 1, 0.9, 0.1)
    got = auroc_interval(predicted, labels[:, :2], "multilabel")
    alone = auroc_interval(predicted[:, 1:], labels[:, 1:2], "multilabel")
    assert got.low < (1 + alone.low) / 2


def test_a_single_positive_says_almost_nothing() -> None:
    labels = (np.arange(50) == 10).astype(np.int64)
    got = auroc_interval(two_columns(np.linspace(0.9, 0.1, 50)), labels, "binary")
    assert got.high - got.low > 0.8


@every_task
def test_a_missing_class_has_no_interval(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 50, 3)
    labels[labels == 1] = 0
    got = auroc_interval(metrics.probabilities(logits, task), labels, task)
    assert all(map(math.isnan, (got.value, got.low, got.high)))


@pytest.mark.parametrize(("right", "low", "high"), [(8, 0.4902, 0.9433), (10, 0.7225, 1.0), (0, 0.0, 0.2775)])
def test_accuracy_is_wilsons(right: int, low: float, high: float) -> None:
    """Of 10: the ends that statsmodels' proportion_confint(method="wilson") prints."""
    predicted = two_columns(np.where(np.arange(10) < right, 0.9, 0.1))
    got = accuracy_interval(predicted, np.ones(10, np.int64), "binary")
    assert (got.value, got.low, got.high) == pytest.approx((right / 10, low, high), abs=5e-5)


@every_task
@pytest.mark.parametrize("cases", [1, 10, 200])
def test_every_interval_holds_its_value(draw: Draw, task: Task, cases: int) -> None:
    logits, labels = draw(task, max(cases, 10), 4)
    predicted, labels = metrics.probabilities(logits, task)[:cases], labels[:cases]
    intervals = [
        (accuracy_interval(predicted, labels, task), metrics.accuracy(predicted, labels, task)),
    ]
    if cases > 1:
        intervals.append((auroc_interval(predicted, labels, task), metrics.auroc(predicted, labels, task)))
    for interval, value in intervals:
        assert interval.value == pytest.approx(value, abs=1e-12)
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.low < interval.high


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "ordinal"])
def test_each_class_is_a_binary_problem(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 120, 5, decimals=1)
    predicted = metrics.probabilities(logits, task)
    per_class = auroc_intervals_per_class(predicted, labels, task)
    assert len(per_class) == predicted.shape[1]
    for k, got in enumerate(per_class):
        own = labels[:, k] if task == "multilabel" else (labels == k).astype(np.int64)
        expected = auroc_interval(two_columns(predicted[:, k]), own, "binary")
        assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high), abs=1e-12)


def test_binary_has_one_class(draw: Draw) -> None:
    logits, labels = draw("binary", 50, 6)
    predicted = metrics.probabilities(logits, "binary")
    assert auroc_intervals_per_class(predicted, labels, "binary") == [auroc_interval(predicted, labels, "binary")]


def test_a_missing_class_leaves_the_others_their_intervals(draw: Draw) -> None:
    logits, labels = draw("multiclass", 80, 7)
    labels[labels == 1] = 0
    per_class = auroc_intervals_per_class(metrics.probabilities(logits, "multiclass"), labels, "multiclass")
    assert [math.isnan(one.value) for one in per_class] == [k == 1 for k in range(7)]
    assert per_class[1].why == "AUROC is undefined: no case has class 1"
    logits, labels = draw("multilabel", 80, 7)
    labels[:, 2] = 1
    per_class = auroc_intervals_per_class(metrics.probabilities(logits, "multilabel"), labels, "multilabel")
    assert per_class[2].why == "AUROC is undefined: every case has label 2" and not math.isnan(per_class[0].value)


@pytest.mark.parametrize(("part", "whole"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 7), (250, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_share_has_wilsons_interval(part: int, whole: int, level: float) -> None:
    low, high = proportion_confint(part, whole, 1 - level, method="wilson")
    got = share_interval(part, whole, "", level)
    assert (got.value, got.low, got.high) == pytest.approx((part / whole, low, high), abs=1e-12)


def test_a_share_of_nothing_is_undefined() -> None:
    assert share_interval(0, 0, "no case").as_json()["undefined"] == "no case"


def test_not_a_number_is_refused() -> None:
    bad, labels = np.full((4, 2), math.nan), np.array([0, 1, 0, 1])
    for interval in (auroc_interval, accuracy_interval):
        with pytest.raises(ValueError, match="0..1"):
            interval(bad, labels, "binary")


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_wilsons_ends_are_those_of_statsmodels(level: float) -> None:
    count = np.random.default_rng(0).integers(1, 500, 200).astype(float)
    true = np.floor(count * np.random.default_rng(1).random(200))
    true[:2], true[2:4] = 0, count[2:4]
    low, high = wilson(true, count, level)
    wanted = proportion_confint(true, count, 1 - level, "wilson")
    np.testing.assert_allclose([low, high], wanted, atol=1e-12)
    assert low[:2].tolist() == [0, 0] and high[2:4].tolist() == [1, 1]
    assert (low >= 0).all() and (high <= 1).all() and (low <= true / count).all() and (high >= true / count).all()
