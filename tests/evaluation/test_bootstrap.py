"""Weighted numbers against scikit-learn's, and what a bootstrap cannot see."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import average_precision_score, cohen_kappa_score, precision_recall_fscore_support

from medtune.evaluation.bootstrap import Sample, case_weights, mean_interval
from medtune.evaluation.discrimination import predicted_labels
from medtune.evaluation.intervals import Interval
from medtune.evaluation.metrics import probabilities
from medtune.task import Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

NONE = np.array([False])


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "ordinal"])
@pytest.mark.parametrize("decimals", [0, 6])
def test_numbers_are_scikit_learns_with_weights(draw: Draw, task: Task, decimals: int) -> None:
    logits, labels = draw(task, 120, 0, decimals=decimals)
    predicted = probabilities(logits, task)
    called = predicted_labels(predicted, task)
    weights = np.random.default_rng(0).integers(0, 4, (5, 120)).astype(np.float32)
    got = Sample.of(predicted, labels, task, called).draws([weights[:2], weights[2:]])
    for row, w in enumerate(weights):
        for k in range(predicted.shape[1]):
            own, decided = (
                (labels[:, k], called[:, k]) if task == "multilabel" else (labels == k, (called == k).astype(int))
            )
            sides = precision_recall_fscore_support(own, decided, sample_weight=w, zero_division=np.nan)
            assert [got[name][row, k] for name in ("precision", "recall", "f1")] == pytest.approx(
                [one[1] for one in sides[:3]]
            )
            assert got["specificity"][row, k] == pytest.approx(sides[1][0])
            expected = average_precision_score(own, predicted[:, k], sample_weight=w)
            assert got["average_precision"][row, k] == pytest.approx(expected, abs=1e-12)
        if task != "multilabel":
            kappa = cohen_kappa_score(labels, called, weights="quadratic", sample_weight=w)
            assert got["kappa"][row, 0] == pytest.approx(kappa, abs=1e-12)


def test_the_sample_comes_first_then_as_many_resamples() -> None:
    rows = np.concatenate(list(case_weights(40, 25, np.random.default_rng(0))))
    assert rows.shape == (26, 40) and (rows[0] == 1).all()
    assert (rows.sum(axis=1) == 40).all() and len(np.unique(rows, axis=0)) == 26


def test_ends_are_reflected_on_the_logit_scale() -> None:
    quantiles = np.linspace(0, 1, 2001)
    draws = np.concatenate([[1.0], norm.ppf(0.001 + 0.998 * quantiles) * 0.3 + 1.2])
    got = mean_interval(expit(draws)[:, None], [Interval(expit(1.0), 0, 1)], NONE, 0.9)
    # 1.2 lies .2 above the value, so the interval's middle lies .2 below
    assert got.value == pytest.approx(expit(1.0))
    assert logit([got.low, got.high]) == pytest.approx(0.8 + 0.3 * norm.ppf([0.05, 0.95]), abs=5e-3)
    signed = mean_interval(2 * expit(draws)[:, None] - 1, [Interval(2 * expit(1.0) - 1, -1, 1)], NONE, 0.9, lowest=-1)
    assert (signed.low, signed.high) == pytest.approx((2 * got.low - 1, 2 * got.high - 1))


def test_an_interval_holds_its_value_and_is_no_wider_than_the_fallback() -> None:
    draws = np.concatenate([[0.9], np.linspace(0.95, 1, 400)])[:, None]
    got = mean_interval(draws, [Interval(0.9, 0.7, 0.97)], NONE, 0.95)
    assert (got.value, got.low, got.high) == (0.9, pytest.approx(0.7), 0.9)


def test_what_no_resample_moves_is_not_certain() -> None:
    moving, still = np.random.default_rng(0).normal(0.5, 0.02, (1001, 1)), np.ones((1001, 1))
    moving[0] = 0.5
    both = np.concatenate([moving, still], axis=1)
    falls = [Interval(0.5, 0.4, 0.6), Interval(1.0, 0.7, 1.0)]
    got = mean_interval(both, falls, np.array([False, False]), 0.95)
    # half of 1.96 x .02, and half of the .3 that the second may be lower
    assert got.value - got.low == pytest.approx(np.hypot(0.0196, 0.15), abs=2e-3)
    assert got.high - got.value == pytest.approx(0.0196, abs=2e-3)
    alone = mean_interval(still, falls[1:], NONE, 0.95)
    assert (alone.value, alone.low, alone.high) == pytest.approx((1, 0.7, 1))


def test_a_single_case_adds_to_what_the_others_move() -> None:
    moving = np.random.default_rng(0).normal(0.5, 0.02, (1001, 1))
    one = mean_interval(moving, [Interval(moving[0, 0], 0.1, 0.9)], NONE, 0.95)
    single = mean_interval(moving, [Interval(moving[0, 0], 0.1, 0.9)], ~NONE, 0.95)
    assert single.low < 0.1 < one.low and single.high > 0.9 > one.high


def test_a_number_that_is_undefined_in_a_resample_stays() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.05, (401, 2))
    holes = draws.copy()
    holes[1::2, 1] = np.nan
    filled = np.where(np.isnan(holes), draws[:1], holes)
    falls = [Interval(value, 0.0, 1.0) for value in draws[0]]
    assert mean_interval(holes, falls, NONE, 0.95) == mean_interval(filled, falls, NONE, 0.95)
    never = mean_interval(np.array([[0.5], [np.nan], [np.nan]]), [Interval(0.5, 0.2, 0.8)], NONE, 0.95)
    assert (never.low, never.high) == pytest.approx((0.2, 0.8))
    undefined = [Interval.undefined("nothing")]
    assert mean_interval(np.full((4, 1), np.nan), undefined, NONE, 0.95).why == "nothing"
