"""The accuracy-coverage curve against every order of the ties, and by hand."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from medtune.evaluation import metrics
from medtune.evaluation.coverage import CoverageCurve, coverage_curve
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]
every_task = pytest.mark.parametrize("task", TASKS)


def curve(predicted: NDArray[Any], labels: NDArray[Any], task: Task = "binary", **options: Any) -> CoverageCurve:
    return coverage_curve(predicted, labels, task, np.random.default_rng(0), **{"resamples": 50, **options})


def two_columns(positive: Any) -> NDArray[np.float64]:
    return np.stack([1 - np.asarray(positive), np.asarray(positive)], axis=1)


def over_all_orders(doubt: list[float], right: list[float]) -> NDArray[np.float64]:
    """The mean curve over every order of the cases in which doubt does not fall."""
    orders = [
        order for order in itertools.permutations(range(len(doubt))) if sorted(doubt) == [doubt[i] for i in order]
    ]
    curves = [np.cumsum([right[i] for i in order]) / np.arange(1, len(right) + 1) for order in orders]
    return np.asarray(np.mean(curves, axis=0))


def test_by_hand() -> None:
    got = curve(two_columns([0.95, 0.1, 0.8, 0.4]), np.array([1, 0, 0, 0]))  # surest first: right, right, wrong, right
    assert got.coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert got.accuracy == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert got.aurc.value == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    # the best order has the wrong one last
    assert got.excess_aurc.value == pytest.approx((1 / 3 + 1 / 4) / 4 - (1 / 4) / 4)


@pytest.mark.parametrize("seed", range(6))
def test_ties_are_the_mean_over_their_orders(seed: int) -> None:
    generator = np.random.default_rng(seed)
    doubt, labels = generator.integers(0, 3, 6).astype(float), generator.integers(0, 2, 6)
    got = curve(two_columns([0.9] * 6), labels, uncertainty=doubt)
    expected = over_all_orders(doubt.tolist(), labels.tolist())
    assert got.accuracy == pytest.approx(expected, abs=1e-12)
    assert got.aurc.value == pytest.approx(1 - expected.mean(), abs=1e-12)


@every_task
def test_full_coverage_is_the_accuracy(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 120, 1)
    predicted = metrics.probabilities(logits, task)
    got = curve(predicted, labels, task)
    assert got.at(1.0).value == pytest.approx(metrics.accuracy(predicted, labels, task), abs=1e-12)
    assert got.at(0.3).value > got.at(1.0).value  # a calibrated model knows what it does not know
    assert 0 < got.excess_aurc.value < got.aurc.value < 1 - got.at(1.0).value


def test_multilabel_goes_by_mean_confidence_and_counts_shares() -> None:
    predicted = np.array([[0.9, 0.4], [0.95, 0.02], [0.55, 0.5]])
    labels = np.array([[1, 1], [1, 0], [0, 1]])
    got = curve(predicted, labels, "multilabel")
    # mean confidences .75, .965 and .525; shares of right labels .5, 1 and 0, as a tie at .5 is a no
    assert got.accuracy == pytest.approx([1, 0.75, 0.5])


def test_an_order_that_knows_nothing_has_the_risk_of_all_as_its_area() -> None:
    labels = np.array([1, 0, 1, 1, 0, 1, 1])
    got = curve(two_columns([0.7] * 7), labels)
    assert got.accuracy == pytest.approx([5 / 7] * 7)
    assert got.aurc.value == pytest.approx(2 / 7)


def test_a_given_uncertainty_is_what_counts(draw: Draw) -> None:
    logits, labels = draw("multiclass", 60, 2)
    predicted = metrics.probabilities(logits, "multiclass")
    wrong = ~metrics.correct(predicted, labels, "multiclass")
    assert curve(predicted, labels, "multiclass", uncertainty=wrong).excess_aurc.value == pytest.approx(0, abs=1e-12)
    assert curve(predicted, labels, "multiclass", uncertainty=~wrong).at(0.1).value == 0
    same = curve(predicted, labels, "multiclass", uncertainty=1 - predicted.max(axis=1))
    assert same.aurc.value == pytest.approx(curve(predicted, labels, "multiclass").aurc.value, abs=1e-12)


def test_the_excess_is_geifmans_on_many_cases(draw: Draw) -> None:
    """Geifman et al. 2019: the least area is about r + (1 - r) log(1 - r) at a risk of r."""
    logits, labels = draw("multiclass", 4000, 3)
    predicted = metrics.probabilities(logits, "multiclass")
    got = curve(predicted, labels, "multiclass")
    risk = 1 - metrics.accuracy(predicted, labels, "multiclass")
    least = risk + (1 - risk) * math.log(1 - risk)
    assert got.aurc.value - got.excess_aurc.value == pytest.approx(least, abs=5e-4)


def test_the_band_is_wilsons() -> None:
    generator = np.random.default_rng(4)
    positive = generator.random(40)
    labels = (generator.random(40) < positive).astype(int)
    got = curve(two_columns(positive), labels)
    for index in range(40):
        right = round(got.accuracy[index] * (index + 1))
        expected = proportion_confint(right, index + 1, method="wilson")
        assert (got.low[index], got.high[index]) == pytest.approx(expected, abs=1e-12)
    assert (got.low <= got.accuracy).all() and (got.accuracy <= got.high).all()


def test_the_interval_of_the_area_is_as_wide_as_samples_differ() -> None:
    generator = np.random.default_rng(5)
    values, widths = [], []
    for seed in range(150):
        positive = generator.random(150).round(2)  # with ties
        labels = (generator.random(150) < positive).astype(int)
        got = coverage_curve(two_columns(positive), labels, "binary", np.random.default_rng(seed), resamples=200)
        values.append(got.aurc.value)
        widths.append(got.aurc.high - got.aurc.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.2)


def test_resamples_in_pieces_are_as_many(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = draw("binary", 30, 6)
    predicted = metrics.probabilities(logits, "binary")
    whole = curve(predicted, labels)
    monkeypatch.setattr("medtune.evaluation.coverage._AT_ONCE", 240)
    assert curve(predicted, labels).aurc == whole.aurc


@every_task
@pytest.mark.parametrize("cases", [1, 2, 7])
def test_few_cases(draw: Draw, task: Task, cases: int) -> None:
    logits, labels = draw(task, 10, 7)
    got = curve(metrics.probabilities(logits, task)[:cases], labels[:cases], task)
    assert len(got.accuracy) == cases
    assert ("single case" in got.aurc.why) == (cases == 1)
    assert len(json.loads(json.dumps(got.as_json(), allow_nan=False))["accuracy"]) == 10


def test_certainty_and_one_class_are_no_trouble() -> None:
    got = curve(two_columns([0.0, 1.0, 0.0, 1.0]), np.ones(4, int))
    assert got.accuracy == pytest.approx([0.5] * 4)
    perfect = curve(two_columns([1.0] * 4), np.ones(4, int))
    assert (perfect.aurc.value, perfect.excess_aurc.value) == (0, 0)


@pytest.mark.parametrize("uncertainty", [np.array([1.0]), np.array([1.0, math.nan])])
def test_uncertainties_that_do_not_fit_are_refused(uncertainty: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="uncertainties"):
        curve(two_columns([0.1, 0.9]), np.array([0, 1]), uncertainty=uncertainty)


@pytest.mark.parametrize("share", [0.0, 1.1, math.nan])
def test_a_coverage_outside_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="coverage"):
        curve(two_columns([0.1, 0.9]), np.array([0, 1])).at(share)
