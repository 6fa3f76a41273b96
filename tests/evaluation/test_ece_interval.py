"""The interval that is shown beside the ECE; whether it holds the truth, `test_calibration_error` asks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from medtune.evaluation import metrics
from medtune.evaluation.ece_interval import ece_interval, ece_of_perfect
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

every_task = pytest.mark.parametrize("task", TASKS)


def two_columns(positive: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1 - positive, positive], axis=1)


@every_task
@pytest.mark.parametrize("cases", [1, 10, 200])
def test_it_holds_its_value(draw: Draw, task: Task, cases: int) -> None:
    logits, labels = draw(task, max(cases, 10), 4)
    predicted, labels = metrics.probabilities(logits, task)[:cases], labels[:cases]
    interval = ece_interval(predicted, labels, task, np.random.default_rng(0), resamples=200)
    assert interval.value == pytest.approx(metrics.ece(predicted, labels, task), abs=1e-12)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low < interval.high


@every_task
def test_the_same_generator_gives_the_same_interval(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 60, 5)
    predicted = metrics.probabilities(logits, task)
    first, second = (ece_interval(predicted, labels, task, np.random.default_rng(1), resamples=200) for _ in "ab")
    assert first == second


def test_ece_at_its_ends() -> None:
    generator = np.random.default_rng(7)
    certain = np.array([[0.0, 1.0]] * 20)
    right, wrong = (ece_interval(certain, np.full(20, label), "binary", generator) for label in (1, 0))
    assert (right.value, right.low) == (0, 0)
    assert (wrong.value, wrong.high) == (1, 1)


def test_perfect_calibration_does_not_read_zero() -> None:
    """At 78 cases of the benchmark's model about .096."""
    generator = np.random.default_rng(8)
    predicted = two_columns(expit(generator.normal(0.7, 1.8, 78)))
    measured = [
        metrics.ece(predicted, (generator.random(78) < predicted[:, 1]).astype(np.int64), "binary") for _ in range(1000)
    ]
    expected = ece_of_perfect(predicted, "binary", generator)
    assert 0.08 < expected < 0.11
    assert expected == pytest.approx(np.mean(measured), abs=0.005)


def test_perfect_calibration_of_labels(draw: Draw) -> None:
    logits, _ = draw("multilabel", 78, 9)
    predicted = metrics.probabilities(logits, "multilabel")
    every = ece_of_perfect(predicted, "multilabel", np.random.default_rng(0))
    single = [ece_of_perfect(predicted[:, [k]], "multilabel", np.random.default_rng(k)) for k in range(5)]
    assert every == pytest.approx(np.mean(single), abs=0.005)


def test_not_a_number_is_refused() -> None:
    bad, labels = np.full((4, 2), math.nan), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="0..1"):
        ece_interval(bad, labels, "binary", np.random.default_rng(0))
    with pytest.raises(ValueError, match="0..1"):
        ece_of_perfect(bad, "binary", np.random.default_rng(0))
