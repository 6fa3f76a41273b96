"""Paired differences against the formulas word for word, statsmodels, and simulated pairs of models."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from medtune.evaluation.comparison import accuracy_difference, auroc_difference
from medtune.evaluation.metrics import accuracy, auroc, correct, probabilities
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]
Array = NDArray[np.float64]

every_task = pytest.mark.parametrize("task", TASKS)


def two_columns(positive: Array) -> Array:
    return np.stack([1 - positive, positive], axis=1)


def pair(draw: Draw, task: Task, cases: int, seed: int, noise: float = 1.0) -> tuple[Array, Array, NDArray[np.int64]]:
    """A model, the same with noise, and the labels."""
    logits, labels = draw(task, cases, seed, decimals=1)
    blurred = logits + np.random.default_rng([seed, 1]).normal(0, noise, logits.shape).round(1)
    return probabilities(logits, task), probabilities(blurred, task), labels


def delong(first: Array, second: Array, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """DeLong et al. 1988, word for word: every pair of cases compared; the difference and its variance."""
    components = []
    for scores in (first, second):
        psi = np.array([[(x > y) + 0.5 * (x == y) for y in scores[~positive]] for x in scores[positive]])
        components.append((psi.mean(axis=1), psi.mean(axis=0)))
    m, n = positive.sum(), (~positive).sum()
    s10, s01 = (np.cov(components[0][side], components[1][side]) for side in (0, 1))
    contrast = np.array([1, -1])
    value = components[0][0].mean() - components[1][0].mean()
    return float(value), float(contrast @ (s10 / m + s01 / n) @ contrast)


@pytest.mark.parametrize("seed", range(5))
def test_binary_is_delong(draw: Draw, seed: int) -> None:
    first, second, labels = pair(draw, "binary", 60, seed)
    value, variance = delong(first[:, 1], second[:, 1], labels == 1)
    got = auroc_difference(first, second, labels, "binary")
    reach = 1.959963984540054 * math.sqrt(variance)
    assert (got.value, got.low, got.high) == pytest.approx((value, value - reach, value + reach), abs=1e-12)
    assert got.p == pytest.approx(math.erfc(abs(value) / math.sqrt(2 * variance)), abs=1e-12)


@every_task
def test_the_value_is_the_difference_of_the_metrics(draw: Draw, task: Task) -> None:
    first, second, labels = pair(draw, task, 90, 1)
    for difference, metric in ((auroc_difference, auroc), (accuracy_difference, accuracy)):
        got, turned = difference(first, second, labels, task), difference(second, first, labels, task)
        assert got.value == pytest.approx(metric(first, labels, task) - metric(second, labels, task), abs=1e-12)
        assert got.low < got.value < got.high and 0 < got.p <= 1
        assert (turned.value, turned.low, turned.high, turned.p) == pytest.approx(
            (-got.value, -got.high, -got.low, got.p)
        )


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_macro_deviation_is_that_of_repeated_samples(draw: Draw, task: Task) -> None:
    values, widths = [], []
    for seed in range(250):
        got = auroc_difference(*pair(draw, task, 200, seed), task)
        values.append(got.value)
        widths.append(got.high - got.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.12)


def test_two_classes_as_multiclass_are_binary(draw: Draw) -> None:
    first, second, labels = pair(draw, "binary", 70, 2)
    one, mean = (auroc_difference(first, second, labels, task) for task in ("binary", "multiclass"))
    assert (one.low, one.high, one.p) == pytest.approx((mean.low, mean.high, mean.p), abs=1e-9)


def test_p_is_uniform_where_models_are_equally_good() -> None:
    generator, labels, ps = np.random.default_rng(0), (np.arange(80) < 30).astype(np.int64), []
    for _ in range(400):
        shared = generator.normal(size=80) + labels
        one, other = (two_columns(expit(shared + generator.normal(size=80))) for _ in range(2))
        ps.append(auroc_difference(one, other, labels, "binary").p)
    assert 0.025 <= np.mean(np.array(ps) < 0.05) <= 0.08
    assert np.mean(np.array(ps) < 0.5) == pytest.approx(0.5, abs=0.08)


@every_task
def test_models_that_rank_alike_differ_by_nothing(draw: Draw, task: Task) -> None:
    model, _, labels = pair(draw, task, 60, 3)
    for other in (model, np.sqrt(model)):
        got = auroc_difference(model, other, labels, task)
        assert (got.value, got.low, got.high, got.p) == (0, 0, 0, 1)
    perfect = labels * 0.9 if task == "multilabel" else np.eye(model.shape[1])[labels]
    got = auroc_difference(perfect, perfect**2, labels, task)
    assert (got.value, got.low, got.high, got.p) == (0, 0, 0, 1)
    got = accuracy_difference(model, model, labels, task)
    assert (got.value, got.p) == (0, 1) and got.low <= 0 <= got.high


def test_two_perfect_models_are_not_certain_to_be_equal() -> None:
    generator, labels = np.random.default_rng(0), (np.arange(40) < 20).astype(np.int64)
    one, other = (two_columns(np.where(labels == 1, 0.6, 0.1) + 0.3 * generator.random(40)) for _ in range(2))
    got = auroc_difference(one, other, labels, "binary")
    assert (got.value, got.p) == (0, 1) and got.low < -0.1 and got.high > 0.1


def test_a_missing_class_says_so() -> None:
    predicted, labels = np.full((5, 2), 0.5), np.zeros(5, np.int64)
    got = auroc_difference(predicted, predicted, labels, "binary")
    assert math.isnan(got.p) and got.as_json()["undefined"] == "AUROC is undefined: no case has class 1"
    alone = accuracy_difference(predicted[:1], predicted[:1], labels[:1], "binary")
    assert (alone.value, alone.p) == (0, 1) and -1 <= alone.low < 0 < alone.high <= 1


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal"])
def test_p_of_accuracy_is_mcnemars(draw: Draw, task: Task) -> None:
    for seed in range(5):
        first, second, labels = pair(draw, task, 50, seed)
        right = [correct(model, labels, task) for model in (first, second)]
        table = [[np.sum((right[0] == a) & (right[1] == b)) for b in (True, False)] for a in (True, False)]
        expected = mcnemar(table, exact=True).pvalue
        assert accuracy_difference(first, second, labels, task).p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("table", [(20, 12, 2, 16), (36, 12, 2, 0), (5, 5, 20, 3), (30, 0, 0, 20), (0, 4, 7, 0)])
def test_interval_of_accuracy_is_newcombes(table: tuple[int, int, int, int]) -> None:
    """Newcombe 1998, method 10, word for word, from counts: both right, the first alone, the second alone, neither."""
    e, f, g, h = table
    n = sum(table)
    who = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], table, axis=0)
    first, second = (two_columns(np.where(right == 1, 0.9, 0.1)) for right in who.T)
    (l2, u2), (l3, u3) = (proportion_confint(count, n, method="wilson") for count in (e + f, e + g))
    dl2, du2, dl3, du3 = (e + f) / n - l2, u2 - (e + f) / n, (e + g) / n - l3, u3 - (e + g) / n
    margins, surplus = (e + f) * (g + h) * (e + g) * (f + h), e * h - f * g
    corrected = surplus - n / 2 if surplus > n / 2 else 0 if surplus >= 0 else surplus
    phi = corrected / math.sqrt(margins) if margins else 0.0
    delta = math.sqrt(dl2**2 - 2 * phi * dl2 * du3 + du3**2)
    epsilon = math.sqrt(du2**2 - 2 * phi * du2 * dl3 + dl3**2)
    got = accuracy_difference(first, second, np.ones(n, np.int64), "binary")
    assert (got.low, got.high) == pytest.approx(((f - g) / n - delta, (f - g) / n + epsilon), abs=1e-12)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_accuracy_holds_the_truth(draw: Draw, task: Task) -> None:
    truth = accuracy_difference(*pair(draw, task, 40_000, 10_000), task).value
    drawn = [accuracy_difference(*pair(draw, task, 80, seed), task) for seed in range(300)]
    assert 0.92 <= np.mean([got.low <= truth <= got.high for got in drawn]) <= 0.99


def test_copies_of_a_label_are_no_more_evidence(draw: Draw) -> None:
    first, second, labels = pair(draw, "multilabel", 100, 4)
    one = accuracy_difference(first[:, :1], second[:, :1], labels[:, :1], "multilabel")
    copies = [np.repeat(array[:, :1], 4, axis=1) for array in (first, second, labels)]
    four = accuracy_difference(*copies, "multilabel")
    assert (one.low, one.high, one.p) == pytest.approx((four.low, four.high, four.p), abs=1e-12)


def test_auroc_interval_holds_the_truth() -> None:
    generator, labels, held = np.random.default_rng(1), (np.arange(90) < 30).astype(np.int64), 0
    # both see the same signal, one with more noise; AUROC of a binormal model is that of its standardised distance
    truth = norm.cdf(1.5 / math.sqrt(2 * (1 + 0.25))) - norm.cdf(1.5 / math.sqrt(2 * (1 + 1)))
    for _ in range(400):
        shared = generator.normal(size=90) + 1.5 * labels
        one, other = (two_columns(expit(shared + generator.normal(0, scale, 90))) for scale in (0.5, 1.0))
        got = auroc_difference(one, other, labels, "binary")
        assert got.value == pytest.approx(roc_auc_score(labels, one[:, 1]) - roc_auc_score(labels, other[:, 1]))
        held += got.low <= truth <= got.high
    assert 0.92 <= held / 400 <= 0.98
