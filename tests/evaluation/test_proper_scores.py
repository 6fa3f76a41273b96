"""NLL, Brier and its parts against scikit-learn, the formulas word for word, and simulated cases."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss

from medtune.evaluation import metrics
from medtune.evaluation.proper_scores import ProperScores, case_nll, percentiles, proper_scores
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]
every_task = pytest.mark.parametrize("task", TASKS)
PARTS = ("reliability", "resolution", "uncertainty", "within_bin_variance", "within_bin_covariance")


def scores(predicted: NDArray[Any], labels: NDArray[Any], task: Task, resamples: int = 50) -> ProperScores:
    return proper_scores(predicted, labels, task, np.random.default_rng(0), resamples=resamples)


def two_columns(positive: Any) -> NDArray[np.float64]:
    return np.stack([1 - np.asarray(positive), np.asarray(positive)], axis=1)


def murphy(forecast: NDArray[Any], outcome: NDArray[Any]) -> dict[str, float]:
    """Murphy 1973 and Stephenson et al. 2008, word for word: bin by bin."""
    n, base, parts = len(forecast), outcome.mean(), dict.fromkeys(PARTS, 0.0)
    bins = np.minimum(np.floor(forecast * 15).astype(int), 14)
    for k in set(bins.tolist()):
        f, o = forecast[bins == k], outcome[bins == k]
        parts["reliability"] += len(f) * (f.mean() - o.mean()) ** 2 / n
        parts["resolution"] += len(f) * (o.mean() - base) ** 2 / n
        parts["within_bin_variance"] += ((f - f.mean()) ** 2).sum() / n
        parts["within_bin_covariance"] += 2 * ((o - o.mean()) * (f - f.mean())).sum() / n
    return parts | {"uncertainty": base * (1 - base)}


@every_task
def test_the_scores_are_those_of_metrics(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 200, 0)
    predicted = metrics.probabilities(logits, task)
    got = scores(predicted, labels, task)
    assert got.nll.value == pytest.approx(metrics.nll(logits, labels, task), abs=1e-12)
    assert got.brier.value == pytest.approx(metrics.brier(predicted, labels, task), abs=1e-12)
    assert case_nll(predicted, labels, task).shape == (200,)


def test_and_of_scikit_learn(draw: Draw) -> None:
    logits, labels = draw("multiclass", 150, 1)
    predicted = metrics.probabilities(logits, "multiclass")
    assert scores(predicted, labels, "multiclass").nll.value == pytest.approx(log_loss(labels, predicted), abs=1e-12)
    logits, labels = draw("binary", 150, 1)
    positive = metrics.probabilities(logits, "binary")[:, 1]
    brier = scores(two_columns(positive), labels, "binary").brier.value
    assert brier == pytest.approx(brier_score_loss(labels, positive), abs=1e-12)


@every_task
def test_the_parts_are_murphys_and_add_up_to_the_score(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 130, 2)
    predicted = metrics.probabilities(logits, task)
    got = scores(predicted, labels, task)
    problems = [murphy(*problem) for problem in zip(*metrics.one_vs_rest(predicted, labels, task), strict=True)]
    weight = 1 / len(problems) if task == "multilabel" else 1
    expected = {part: weight * sum(problem[part] for problem in problems) for part in PARTS}
    assert {part: getattr(got, part).value for part in PARTS} == pytest.approx(expected, abs=1e-12)
    signs = (1, -1, 1, 1, -1)
    whole = sum(sign * getattr(got, part).value for sign, part in zip(signs, PARTS, strict=True))
    assert whole == pytest.approx(got.brier.value, abs=1e-12)
    assert got.skill.value == pytest.approx(1 - got.brier.value / got.uncertainty.value, abs=1e-12)


def test_parts_by_hand() -> None:
    predicted = two_columns([0.1, 0.1, 0.1, 0.1, 0.8, 0.8])
    got = scores(predicted, np.array([0, 0, 0, 1, 1, 1]), "binary")
    # bins: 4 cases said .1, came true .25; 2 said .8, came true 1; base .5
    assert got.reliability.value == pytest.approx((4 * 0.15**2 + 2 * 0.2**2) / 6)
    assert got.resolution.value == pytest.approx((4 * 0.25**2 + 2 * 0.5**2) / 6)
    assert got.uncertainty.value == 0.25
    assert got.within_bin_variance.value == pytest.approx(0, abs=1e-15)


def test_the_base_rate_has_no_skill_and_certainty_that_is_right_has_all() -> None:
    labels = np.array([0, 1, 1, 0, 1, 1])
    assert scores(two_columns([4 / 6] * 6), labels, "binary").skill.value == pytest.approx(0)
    assert scores(two_columns(labels.astype(float)), labels, "binary").skill.value == 1


def test_intervals_of_means_are_those_of_the_normal_on_many_cases(draw: Draw) -> None:
    logits, labels = draw("multiclass", 3000, 3)
    predicted = metrics.probabilities(logits, "multiclass")
    got = scores(predicted, labels, "multiclass", resamples=2000).nll
    each = case_nll(predicted, labels, "multiclass")
    reach = 1.96 * each.std() / math.sqrt(3000)
    assert (got.low, got.high) == pytest.approx((each.mean() - reach, each.mean() + reach), abs=0.1 * reach)


def test_intervals_hold_the_truth() -> None:
    """A model twice too sure on 78 cases; .84 to .98 in a longer run, where percentiles of the parts hold 0 to .1."""
    generator = np.random.default_rng(4)
    truth = _truth(*_world(500_000, np.random.default_rng(5)))
    held = dict.fromkeys(truth, 0)
    for _ in range(100):
        said, true = _world(78, generator)
        labels = (generator.random(78) < true).astype(int)
        got = proper_scores(two_columns(said), labels, "binary", generator, resamples=300)
        for name in truth:
            interval = getattr(got, name)
            held[name] += interval.low <= truth[name] <= interval.high
    assert min(held.values()) >= 75 and held["reliability"] >= 90, held


def _world(cases: int, generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    logits = generator.normal(0.6, 1.8, cases)
    return expit(logits), expit(logits / 2)


def _truth(said: NDArray[np.float64], true: NDArray[np.float64]) -> dict[str, float]:
    parts = murphy(said, true)
    brier = float((true * (1 - said) ** 2 + (1 - true) * said**2).mean())
    return {"reliability": parts["reliability"], "resolution": parts["resolution"], "brier": brier}


@every_task
@pytest.mark.parametrize("cases", [2, 10, 60])
def test_every_interval_holds_its_value(draw: Draw, task: Task, cases: int) -> None:
    logits, labels = draw(task, max(cases, 10), 6)
    got = scores(metrics.probabilities(logits, task)[:cases], labels[:cases], task)
    for name, interval in vars(got).items():
        assert interval.low <= interval.value <= interval.high, name
        assert interval.low >= 0 or name in ("skill", "within_bin_covariance")


def test_the_same_generator_gives_the_same_interval(draw: Draw) -> None:
    logits, labels = draw("binary", 40, 7)
    predicted = metrics.probabilities(logits, "binary")
    assert scores(predicted, labels, "binary") == scores(predicted, labels, "binary")


class TestUndefined:
    @every_task
    def test_a_single_case_has_no_interval(self, draw: Draw, task: Task) -> None:
        logits, labels = draw(task, 10, 8)
        got = scores(metrics.probabilities(logits, task)[:1], labels[:1], task)
        assert all("single case" in interval.why for interval in vars(got).values())

    def test_what_had_probability_nought_makes_nll_infinite(self) -> None:
        got = scores(two_columns([0.0, 1.0, 0.5]), np.array([1, 1, 0]), "binary")
        assert "1 of 3" in got.nll.why and math.isnan(got.nll.value)
        assert got.brier.value == pytest.approx(1.25 / 3)
        assert case_nll(np.array([[1.0]]), np.array([[0]]), "multilabel") == [math.inf]

    def test_one_class_alone_has_no_skill(self) -> None:
        got = scores(two_columns([0.2, 0.4, 0.1]), np.zeros(3, int), "binary")
        assert "same label" in got.skill.why and got.brier.value > 0
        assert json.loads(json.dumps(got.as_json(), allow_nan=False))["skill"]["value"] is None

    def test_equal_scores_are_no_trouble(self) -> None:
        got = scores(two_columns([0.5] * 5), np.array([0, 1, 1, 0, 1]), "binary")
        assert (got.brier.low, got.brier.value, got.brier.high) == (0.25, 0.25, 0.25)

    def test_resamples_of_one_class_are_left_out(self) -> None:
        assert percentiles(0.5, np.array([math.nan, 0.2, 0.8]), 0.95).low == pytest.approx(0.215)
        assert percentiles(0.5, np.array([math.nan]), 0.95).why
