"""Means over trainings: against DeLong's and Student's formulas, and against simulated validation sets."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import norm, t

from medtune.evaluation import metrics
from medtune.evaluation.calibration import usual_kind
from medtune.evaluation.calibration_error import Estimate
from medtune.evaluation.intervals import Interval, auroc_interval
from medtune.evaluation.over_seeds import (
    Measured,
    difference_over_seeds,
    mean_calibration_error,
    mean_over_seeds,
    measured_accuracy,
    measured_auroc,
)
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]


def reach(of: Interval) -> float:
    return (of.high - of.low) / 2


def two_columns(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = norm.cdf(scores)
    return np.stack([1 - positive, positive], axis=1)


def without_cases(*values: float) -> list[Measured]:
    return [Measured(value, np.zeros(10)) for value in values]


@pytest.mark.parametrize("task", TASKS)
def test_of_one_training_the_auroc_is_as_sure_as_by_delong(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 200, 1)
    shown = metrics.probabilities(logits, task)
    wanted = auroc_interval(shown, labels, task)
    by_delong = (logit(wanted.high) - logit(wanted.value)) * wanted.value * (1 - wanted.value)
    found = mean_over_seeds([measured_auroc(shown, labels, task)])
    assert (found.value, reach(found)) == (pytest.approx(wanted.value), pytest.approx(by_delong))


def test_of_one_training_the_accuracy_is_as_sure_as_a_mean_of_its_cases(draw: Draw) -> None:
    logits, labels = draw("multiclass", 200, 1)
    shown = metrics.probabilities(logits, "multiclass")
    right = (shown.argmax(axis=1) == labels).astype(float)
    found = mean_over_seeds([measured_accuracy(shown, labels, "multiclass")])
    assert found.value == pytest.approx(right.mean())
    assert reach(found) == pytest.approx(1.959964 * right.std(ddof=1) / math.sqrt(200))


def test_trainings_that_say_the_same_are_as_sure_as_one(draw: Draw) -> None:
    logits, labels = draw("binary", 100, 2)
    one = measured_auroc(metrics.probabilities(logits, "binary"), labels, "binary")
    assert mean_over_seeds([one] * 5) == mean_over_seeds([one])


def test_where_cases_have_no_influence_it_is_students() -> None:
    values = [0.7, 0.74, 0.81]
    low, high = t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / math.sqrt(3))
    found = mean_over_seeds(without_cases(*values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_cases_and_seeds_are_added_by_their_squares(draw: Draw) -> None:
    logits, labels = draw("binary", 100, 2)
    one = measured_auroc(metrics.probabilities(logits, "binary"), labels, "binary")
    values = [one.value - 0.04, one.value + 0.04]
    cases, seeds = mean_over_seeds([one]), mean_over_seeds(without_cases(0.5, 0.5001))
    seeds = difference_over_seeds(without_cases(*values), None)
    both = difference_over_seeds([Measured(value, one.influence) for value in values], None)
    assert reach(both) == pytest.approx(math.hypot(reach(cases), reach(seeds)))


def test_a_difference_is_paired_by_case(draw: Draw) -> None:
    logits, labels = draw("binary", 100, 3)
    one = measured_auroc(metrics.probabilities(logits, "binary"), labels, "binary")
    assert difference_over_seeds([one], [one]) == Interval(0.0, 0.0, 0.0)
    turned = Measured(one.value, one.influence[::-1])
    assert reach(difference_over_seeds([one], [turned])) > 0.05


def test_a_difference_is_paired_by_draw() -> None:
    easy, hard = without_cases(0.6, 0.7, 0.8), without_cases(0.5, 0.6, 0.7)
    paired = difference_over_seeds(easy, hard)
    assert paired.value == pytest.approx(0.1) and reach(paired) == pytest.approx(0, abs=1e-12)
    assert reach(difference_over_seeds(easy, [hard[2], hard[0], hard[1]])) > 0.2


def test_trainings_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        difference_over_seeds(without_cases(0.5, 0.6), without_cases(0.5))


def test_what_is_undefined_in_one_is_undefined_in_the_mean() -> None:
    shown, labels = two_columns(np.array([0.1, 0.2, 0.3])), np.zeros(3, np.int64)
    missing = measured_auroc(shown, labels, "binary")
    for found in (
        mean_over_seeds([measured_auroc(shown, np.array([0, 1, 1]), "binary"), missing]),
        difference_over_seeds([missing], [missing]),
    ):
        assert found.as_json() == {
            "value": None,
            "low": None,
            "high": None,
            "undefined": "AUROC is undefined: no case has class 1",
        }


def test_what_no_case_was_wrong_in_is_not_certain() -> None:
    shown, labels = two_columns(np.linspace(-1, 1, 20)), np.repeat([0, 1], 10)
    for measured in (measured_auroc, measured_accuracy):
        found = mean_over_seeds([measured(shown, labels, "binary")] * 3)
        assert found.value == found.high == 1 and 0.6 < found.low < 0.95


def test_numbers_stay_between_0_and_1() -> None:
    found = mean_over_seeds(without_cases(0.02, 0.98))
    assert (found.low, found.high) == (0, 1)


def estimate(debiased: float, low: float, high: float) -> Estimate:
    return Estimate(usual_kind("binary"), 100, debiased + 0.05, debiased, low, high, 0.04, 0.2)


def test_a_calibration_error_has_the_mean_interval_of_its_trainings_and_their_spread() -> None:
    each = [estimate(0.06, 0.02, 0.12), estimate(0.08, 0.04, 0.16)]
    found = mean_calibration_error(each)
    spread = 12.7062 * 0.01  # of two trainings, .02 apart
    assert found["value"] == pytest.approx(0.12) and found["debiased"] == pytest.approx(0.07)
    assert found["low"] == max(0.07 - math.hypot(0.04, spread), 0) == 0
    assert found["high"] == pytest.approx(0.07 + math.hypot(0.07, spread), abs=1e-6)
    assert mean_calibration_error(each[:1]) == {
        "value": pytest.approx(0.11),
        "debiased": 0.06,
        "low": pytest.approx(0.02),
        "high": pytest.approx(0.12),
        "if_perfect": 0.04,
    }


SETS, CASES, DRAWS = 200, 120, 5
COMMON, OF_ARM, OWN = 0.6, 0.6, 0.3  # deviations of a case: in all trainings, in those of an arm, in one
LUCK, SPREAD = 0.3, 0.2  # deviations of the skill: by the draw of the labels, by the training
SKILL, WITHOUT = 1.6, 1.2


def true_auroc(skill: float) -> float:
    """The mean over trainings of the chance that a positive case is above a negative one."""
    noise = 2 * (COMMON**2 + OF_ARM**2 + OWN**2) + LUCK**2 + SPREAD**2
    return float(norm.cdf(skill / math.sqrt(noise)))


def trained(skill: float, common: Any, luck: Any, labels: Any, generator: np.random.Generator) -> list[Measured]:
    """An arm: a training for each draw, whose luck is given."""
    cases = common + generator.normal(0, OF_ARM, CASES)
    skills = skill + luck + generator.normal(0, SPREAD, DRAWS)
    scores = cases + skills[:, None] * labels + generator.normal(0, OWN, (DRAWS, CASES))
    return [measured_auroc(two_columns(one), labels, "binary") for one in scores]


def test_it_holds_the_truth_about_as_often_as_it_says() -> None:
    generator, labels = np.random.default_rng(0), (np.arange(CASES) < 40).astype(np.int64)
    held = {"mean": 0, "difference": 0}
    for _ in range(SETS):
        common, luck = generator.normal(0, COMMON, CASES), generator.normal(0, LUCK, DRAWS)
        with_, without = (trained(skill, common, luck, labels, generator) for skill in (SKILL, WITHOUT))
        mean, difference = mean_over_seeds(with_), difference_over_seeds(with_, without)
        held["mean"] += mean.low <= true_auroc(SKILL) <= mean.high
        held["difference"] += difference.low <= true_auroc(SKILL) - true_auroc(WITHOUT) <= difference.high
    shares = {name: count / SETS for name, count in held.items()}
    assert all(0.90 <= share <= 0.99 for share in shares.values()), shares
