"""Net benefit against its formula, case by case."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medtune.evaluation import metrics
from medtune.evaluation.net_benefit import THRESHOLDS, DecisionCurve, decision_curve, decision_curves
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]


def curve(scores: Any, positive: Any, **options: Any) -> DecisionCurve:
    return decision_curve(np.array(scores), np.array(positive, bool), np.random.default_rng(0), **options)


def word_for_word(scores: NDArray[Any], positive: NDArray[Any], threshold: float) -> float:
    treated, n = scores >= threshold, len(scores)
    odds = threshold / (1 - threshold)
    return float((treated & positive).sum() / n - (treated & ~positive).sum() / n * odds)


@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_model_and_treat_all_are_vickers_and_elkins(decimals: int) -> None:
    generator = np.random.default_rng(decimals)
    scores = generator.random(80).round(decimals)
    positive = generator.random(80) < scores
    got = curve(scores, positive)
    expected = [word_for_word(scores, positive, threshold) for threshold in THRESHOLDS]
    everyone = [word_for_word(np.ones(80), positive, threshold) for threshold in THRESHOLDS]
    assert got.model == pytest.approx(expected, abs=1e-12)
    assert got.treat_all == pytest.approx(everyone, abs=1e-12)
    assert got.gain == pytest.approx(np.array(expected) - np.maximum(everyone, 0), abs=1e-12)


def test_by_hand() -> None:
    got = curve([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], thresholds=np.array([0.2, 0.5, 0.95]))
    assert got.model == pytest.approx([2 / 4 - 0.25 / 4, 1 / 4 - 1 / 4, 0])
    assert got.treat_all == pytest.approx([0.5 - 0.5 * 0.25, 0, 0.5 - 0.5 * 19])


def test_a_score_at_the_threshold_is_acted_on() -> None:
    assert curve(THRESHOLDS, [1] * 99).model == pytest.approx(np.arange(99, 0, -1) / 99)
    assert curve(np.float32([0.25]), [1], thresholds=np.array([0.25])).model == [1]


def test_the_band_is_that_of_resampled_cases() -> None:
    generator = np.random.default_rng(1)
    scores = generator.random(60).round(2)
    positive = generator.random(60) < scores
    got = curve(scores, positive, resamples=4000)
    for index in (9, 49, 79):
        drawn = []
        for _ in range(2000):
            chosen = generator.integers(60, size=60)
            drawn.append(word_for_word(scores[chosen], positive[chosen], THRESHOLDS[index]))
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (got.low[index], got.high[index]) == pytest.approx((low, high), abs=0.12 * (high - low))
    assert (got.low <= got.model).all() and (got.model <= got.high).all()
    assert (got.gain_low <= got.gain).all() and (got.gain <= got.gain_high).all()


def test_the_gain_over_treating_everyone_is_paired() -> None:
    """At the least threshold all are treated by both: no gain, and no doubt about it."""
    got = curve([0.3, 0.5, 0.7] * 10, [0, 1, 1] * 10)
    assert got.gain[0] == got.gain_low[0] == got.gain_high[0] == 0
    assert got.low[0] < got.model[0] < got.high[0]


@pytest.mark.parametrize("task", TASKS)
def test_a_curve_for_each_problem(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 50, 2)
    predicted = metrics.probabilities(logits, task)
    got = decision_curves(predicted, labels, task, np.random.default_rng(0), resamples=20)
    scores, positive = metrics.one_vs_rest(predicted, labels, task)
    assert len(got) == len(scores) and [each.positives for each in got] == positive.sum(axis=1).tolist()
    assert got[0].model[29] == pytest.approx(word_for_word(scores[0], positive[0], 0.3))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("scores", [[0.0], [1.0], [0.0, 1.0, 0.5]])
def test_one_side_alone_is_a_number_with_a_note(side: int, scores: list[float]) -> None:
    got = curve(scores, [side] * len(scores))
    assert ("positive" if side else "negative") in got.note
    said = json.loads(json.dumps(got.as_json(), allow_nan=False))
    assert len(said["model"]) == 99 and said["note"] == got.note
    assert not curve([0.1, 0.2], [0, 1]).note


@pytest.mark.parametrize(
    ("scores", "thresholds"),
    [
        ([], [0.5]),
        ([1.2], [0.5]),
        ([np.nan], [0.5]),
        ([0.5], []),
        ([0.5], [0.0, 0.5]),
        ([0.5], [1.0]),
        ([0.5], [0.5, 0.5]),
    ],
)
def test_what_is_no_probability_is_refused(scores: list[float], thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        curve(scores, [1] * len(scores), thresholds=np.array(thresholds))
