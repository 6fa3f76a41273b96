"""Operating points against scikit-learn's counts, statsmodels' Wilson and every possible cut."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, roc_curve
from statsmodels.stats.proportion import proportion_confint

from medtune.evaluation import metrics
from medtune.evaluation.thresholds import (
    NOBODY,
    TARGETS,
    Target,
    Threshold,
    choose_threshold,
    choose_thresholds,
    cross_fitted_report,
    report,
    report_thresholds,
    thresholds_from_json,
)
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]
every_task = pytest.mark.parametrize("task", TASKS)
YOUDEN = Target("youden")


def some(cases: int, seed: int, decimals: int = 6) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    scores = generator.random(cases).round(decimals)
    positive = generator.random(cases) < scores
    positive[:2] = [True, False]
    return scores, positive


def chosen(target: Target, scores: Any, positive: Any) -> float:
    threshold, why = choose_threshold(target, np.array(scores, float), np.array(positive, bool))
    assert not why
    return threshold


class TestChoosing:
    @pytest.mark.parametrize("decimals", [1, 2, 6])
    @pytest.mark.parametrize("value", [0.0, 0.5, 0.8, 0.95, 1.0])
    def test_no_cut_that_reaches_the_target_is_better(self, decimals: int, value: float) -> None:
        for seed in range(5):
            scores, positive = some(40, seed, decimals)
            rates = [
                (at.sensitivity.value, at.specificity.value)
                for at in (report(cut, scores, positive) for cut in (*scores, NOBODY))
            ]
            got = report(chosen(Target("sensitivity", value), scores, positive), scores, positive)
            assert got.sensitivity.value >= value - 1e-12
            assert got.specificity.value == max(
                specificity for sensitivity, specificity in rates if sensitivity >= value
            )
            got = report(chosen(Target("specificity", value), scores, positive), scores, positive)
            assert got.specificity.value >= value - 1e-12
            assert got.sensitivity.value == max(
                sensitivity for sensitivity, specificity in rates if specificity >= value
            )

    @pytest.mark.parametrize("decimals", [1, 6])
    def test_youden_is_the_top_of_scikit_learns_roc_curve(self, decimals: int) -> None:
        for seed in range(5):
            scores, positive = some(50, seed, decimals)
            fpr, tpr, _ = roc_curve(positive, scores)
            got = report(chosen(YOUDEN, scores, positive), scores, positive)
            assert got.sensitivity.value + got.specificity.value - 1 == pytest.approx((tpr - fpr).max(), abs=1e-12)

    def test_it_lies_halfway_between_two_scores(self) -> None:
        scores, positive = [0.1, 0.2, 0.6, 0.9], [0, 1, 0, 1]
        assert chosen(Target("sensitivity", 0.9), scores, positive) == pytest.approx(0.15)
        assert chosen(Target("sensitivity", 0.5), scores, positive) == pytest.approx(0.75)
        assert chosen(Target("specificity", 0.5), scores, positive) == pytest.approx(0.15)
        assert chosen(Target("fixed", 0.4), scores, positive) == 0.4

    def test_of_equal_sums_the_one_with_more_sensitivity(self) -> None:
        assert chosen(YOUDEN, [0.1, 0.2, 0.6, 0.9], [0, 1, 0, 1]) == pytest.approx(0.15)

    def test_the_ends(self) -> None:
        """Equal scores are all called or none of them; and the highest, wrong, must not be called."""
        assert chosen(Target("sensitivity", 0.8), [0.3] * 4, [0, 1, 1, 0]) == 0
        nobody = chosen(Target("specificity", 0.8), [1.0] * 4, [0, 1, 1, 0])
        assert nobody == NOBODY > 1 and report(nobody, np.ones(4), np.ones(4, bool)).tp == 0
        assert chosen(Target("specificity", 1.0), [0.2, 0.9], [1, 0]) == NOBODY
        assert chosen(Target("sensitivity", 1.0), [0.0, 0.9], [1, 0]) == 0

    def test_neighbours_among_the_floats_are_parted(self) -> None:
        low = 0.25  # halfway rounds to it
        high = math.nextafter(low, 1)
        assert chosen(Target("specificity", 1.0), [low, high], [0, 1]) == high

    def test_rates_are_compared_in_whole_cases(self) -> None:
        """.95 of 20 is 19, and in floats a hair more."""
        scores = np.arange(40) / 40
        positive = np.arange(40) % 2 == 1
        for value in np.arange(1, 20) / 20:
            got = report(chosen(Target("sensitivity", value), scores, positive), scores, positive)
            assert got.tp == round(20 * value)

    @pytest.mark.parametrize(("target", "side", "why"), [
        (Target("sensitivity", 0.9), 0, "no case is positive"),
        (Target("specificity", 0.9), 1, "no case is negative"),
        (YOUDEN, 0, "no case is positive"),
        (YOUDEN, 1, "no case is negative"),
    ])  # fmt: skip
    def test_undefined(self, target: Target, side: int, why: str) -> None:
        threshold, reason = choose_threshold(target, np.array([0.2, 0.4]), np.full(2, side == 1))
        assert math.isnan(threshold) and reason == why

    def test_a_rate_that_there_is_needs_no_other_side(self) -> None:
        assert chosen(Target("sensitivity", 0.9), [0.5], [1]) == 0
        assert chosen(Target("specificity", 0.9), [0.5], [0]) == NOBODY

    @pytest.mark.parametrize(
        ("rule", "value"), [("auroc", 0.5), ("sensitivity", None), ("youden", 0.5), ("fixed", 1.5)]
    )
    def test_a_target_that_is_none_is_refused(self, rule: Any, value: float | None) -> None:
        with pytest.raises(ValueError, match="a target of"):
            Target(rule, value)


class TestReport:
    @pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9])
    def test_counts_and_rates_are_those_of_the_libraries(self, threshold: float) -> None:
        scores, positive = some(60, 0, 1)
        got = report(threshold, scores, positive)
        tn, fp, fn, tp = confusion_matrix(positive, scores >= threshold).ravel().tolist()
        assert (got.tn, got.fp, got.fn, got.tp) == (tn, fp, fn, tp)
        shares = {
            "sensitivity": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "ppv": (tp, tp + fp),
            "npv": (tn, tn + fn),
            "accuracy": (tp + tn, 60),
        }
        for name, (right, of) in shares.items():
            interval = getattr(got, name)
            if of:
                low, high = proportion_confint(right, of, method="wilson")
                assert (interval.value, interval.low, interval.high) == pytest.approx(
                    (right / of, low, high), abs=1e-12
                )
            else:
                assert interval.why
        assert got.f1.value == pytest.approx(f1_score(positive, scores >= threshold), abs=1e-12)

    def test_the_interval_of_f1_is_that_of_the_share_mapped(self) -> None:
        got = report(0.5, np.array([0.9] * 8 + [0.8] * 3 + [0.1] * 2), np.array([True] * 8 + [False] * 3 + [True] * 2))
        low, high = proportion_confint(8, 13, method="wilson")
        assert (got.f1.low, got.f1.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
        assert got.f1.value == pytest.approx(16 / 21)

    def test_the_interval_of_f1_holds_the_truth(self) -> None:
        generator, held = np.random.default_rng(0), 0
        rates = np.array([0.3, 0.1, 0.1, 0.5])  # tp, fp, fn, tn
        truth = 2 * 0.3 / (2 * 0.3 + 0.2)
        for _ in range(600):
            cell = generator.choice(4, 78, p=rates)
            f1 = report(0.5, (cell < 2).astype(float), (cell == 0) | (cell == 2)).f1
            held += f1.low <= truth <= f1.high
        assert 0.92 <= held / 600 <= 0.98

    def test_nothing_to_divide_by_has_a_reason(self) -> None:
        got = report(0.5, np.array([0.1]), np.array([False]))
        assert got.accuracy.value == 1 and got.npv.value == 1
        whys = [got.sensitivity.why, got.ppv.why, got.f1.why]
        assert whys == ["no case is positive", "no case is called positive", "no case is positive or called so"]
        assert json.loads(json.dumps(got.as_json(), allow_nan=False))["ppv"]["undefined"]

    def test_scores_of_less_precision_do_not_pull_the_threshold(self) -> None:
        scores = np.array([0.1, 0.1], np.float32)
        assert report(float(np.nextafter(np.float64(scores[0]), 1)), scores, np.array([True, True])).tp == 0
        assert report(NOBODY, np.ones(2, np.float32), np.array([True, True])).tp == 0

    def test_no_threshold_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not a number"):
            report(math.nan, np.array([0.5]), np.array([True]))


class TestCrossFitted:
    def test_a_model_that_knows_nothing_is_not_flattered(self) -> None:
        """Youden's index of noise is .2 on the cases that it was chosen on, and nought on others."""
        inside, outside = [], []
        for seed in range(40):
            generator = np.random.default_rng(seed)
            scores, positive = generator.random(60), generator.random(60) < 0.5
            on_itself = report(chosen(YOUDEN, scores, positive), scores, positive)
            other = cross_fitted_report(YOUDEN, scores, positive, generator)
            for found, got in ((inside, on_itself), (outside, other)):
                found.append(got.sensitivity.value + got.specificity.value - 1)
        assert np.mean(inside) > 0.12
        assert abs(np.mean(outside)) < 0.06

    def test_each_case_is_counted_once(self) -> None:
        scores, positive = some(53, 1)
        got = cross_fitted_report(Target("sensitivity", 0.8), scores, positive, np.random.default_rng(0))
        assert (got.tp + got.fn, got.fp + got.tn) == (positive.sum(), 53 - positive.sum())
        assert "threshold" not in got.as_json()

    def test_a_fixed_threshold_is_the_same_either_way(self) -> None:
        scores, positive = some(30, 2)
        fixed = Target("fixed", 0.5)
        crossed = cross_fitted_report(fixed, scores, positive, np.random.default_rng(0)).as_json()
        assert crossed == {
            key: value for key, value in report(0.5, scores, positive).as_json().items() if key != "threshold"
        }

    @pytest.mark.parametrize("positives", [0, 1])
    def test_what_some_folds_cannot_choose_is_undefined(self, positives: int) -> None:
        scores = np.linspace(0, 1, 12)
        got = cross_fitted_report(YOUDEN, scores, np.arange(12) < positives, np.random.default_rng(0))
        assert "no case is positive" in got.sensitivity.why and math.isnan(got.accuracy.value)

    def test_a_single_case_and_a_single_fold(self) -> None:
        one = np.array([0.5]), np.array([True])
        assert "single case" in cross_fitted_report(YOUDEN, *one, np.random.default_rng(0)).f1.why
        with pytest.raises(ValueError, match="two at least"):
            cross_fitted_report(YOUDEN, *some(9, 0), np.random.default_rng(0), folds=1)


class TestOfTasks:
    @every_task
    def test_every_problem_has_every_target(self, draw: Draw, task: Task) -> None:
        logits, labels = draw(task, 80, 0)
        predicted = metrics.probabilities(logits, task)
        got = choose_thresholds(predicted, labels, task)
        problems = [1] if task == "binary" else range(predicted.shape[1])
        assert [(one.problem, one.target) for one in got] == [(k, target) for k in problems for target in TARGETS]
        reports = report_thresholds(got, predicted, labels, task)
        for one, told in zip(got, reports, strict=True):
            truth = labels[:, one.problem] if task == "multilabel" else labels == one.problem
            assert told.tp + told.fn == truth.sum()
            if one.target.rule in ("sensitivity", "specificity"):
                assert getattr(told, one.target.rule).value >= one.target.value

    @every_task
    def test_they_survive_json_and_are_reported_on_other_cases(self, draw: Draw, task: Task) -> None:
        logits, labels = draw(task, 60, 1)
        labels[labels == 1] = 0  # so that some are undefined
        got = choose_thresholds(metrics.probabilities(logits, task), labels, task)
        again = thresholds_from_json(json.loads(json.dumps([one.as_json() for one in got], allow_nan=False)))
        assert [(one.problem, one.target, one.why) for one in again] == [
            (one.problem, one.target, one.why) for one in got
        ]
        assert [one.threshold for one in again] == pytest.approx([one.threshold for one in got], abs=0, nan_ok=True)
        new, truth = draw(task, 40, 2)
        reports = report_thresholds(again, metrics.probabilities(new, task), truth, task)
        undefined = [one for one, told in zip(again, reports, strict=True) if told.accuracy.why]
        assert undefined and undefined == [one for one in again if one.why]

    def test_a_problem_that_is_not_there_is_refused(self, draw: Draw) -> None:
        logits, labels = draw("binary", 10, 3)
        stray = Threshold(4, Target("fixed", 0.5), 0.5)
        with pytest.raises(ValueError, match="class 4"):
            report_thresholds([stray], metrics.probabilities(logits, "binary"), labels, "binary")

    @pytest.mark.parametrize(
        "saved", [{}, {"problem": 1, "rule": "youden", "value": 0.5, "threshold": 1.0}, {"problem": None}]
    )
    def test_a_file_that_holds_no_thresholds_is_refused(self, saved: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            thresholds_from_json([saved])
