"""Choosing a calibrator without optimism, on simulated truth and on validation sets that say little."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medtune.evaluation import metrics
from medtune.evaluation.calibrators import (
    CALIBRATORS,
    Calibrator,
    Isotonic,
    Temperature,
    Uncalibrated,
    VectorScaling,
    calibrator_from_json,
)
from medtune.evaluation.proper_scores import case_nll
from medtune.evaluation.recalibration import choose, cross_fitted
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]
every_task = pytest.mark.parametrize("task", TASKS)
every_kind = pytest.mark.parametrize("kind", CALIBRATORS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def loss(calibrator: Calibrator, logits: NDArray[Any], labels: NDArray[Any], task: Task) -> float:
    return float(case_nll(calibrator.apply(logits, task), labels, task).mean())


class TestCrossFitted:
    @every_task
    def test_no_case_sees_its_own_label(self, draw: Draw, task: Task) -> None:
        """With as many folds as cases, each case's probabilities are those of the calibrator of all others."""
        logits, labels = draw(task, 12, 0)
        got = cross_fitted("vector", logits, labels, task, rng(), folds=12)
        others = np.arange(12) != 7
        expected = VectorScaling.fit(logits[others], labels[others], task).apply(logits[7:8], task)
        assert got.folds == 12 and got.probabilities[7:8] == pytest.approx(expected, abs=1e-6)

    def test_the_optimism_is_gone(self, draw: Draw) -> None:
        """Of a calibrated model, isotonic regression seems to make a better one; cross-fitted it makes a worse one."""
        inside, outside, before = [], [], []
        for seed in range(20):
            logits, labels = draw("binary", 78, seed)
            inside.append(loss(Isotonic.fit(logits, labels, "binary"), logits, labels, "binary"))
            after = cross_fitted("isotonic", logits, labels, "binary", rng(seed)).probabilities
            outside.append(case_nll(after, labels, "binary").mean())
            before.append(metrics.nll(logits, labels, "binary"))
        assert np.mean(inside) < np.mean(before) < np.mean(outside)

    def test_its_nll_is_that_of_new_cases(self, draw: Draw) -> None:
        differences = []
        for seed in range(30):
            # the first cases of a draw have planted labels
            logits, labels = (drawn[7:] for drawn in draw("multiclass", 107, seed))
            new, truth = draw("multiclass", 1000, 1000 + seed)
            after = cross_fitted("temperature", logits * 2, labels, "multiclass", rng(seed)).probabilities
            fitted = Temperature.fit(logits * 2, labels, "multiclass")
            differences.append(
                case_nll(after, labels, "multiclass").mean() - loss(fitted, new * 2, truth, "multiclass")
            )
        assert abs(np.mean(differences)) < 2.5 * np.std(differences) / math.sqrt(30)

    def test_a_rare_class_is_said(self, draw: Draw) -> None:
        logits, labels = draw("multiclass", 100, 1)
        assert not cross_fitted("temperature", logits, labels, "multiclass", rng()).notes
        labels[labels == 4] = 3
        labels[0] = 4
        (note,) = cross_fitted("isotonic", logits, labels, "multiclass", rng()).notes
        assert "class 4 has 1 cases" in note and "5 folds" in note

    def test_and_so_is_a_rare_label(self, draw: Draw) -> None:
        logits, labels = draw("multilabel", 100, 2)
        labels[:, 2] = np.arange(100) > 2
        (note,) = cross_fitted("vector", logits, labels, "multilabel", rng()).notes
        assert "label 2 has 3 cases" in note

    @every_task
    def test_fewer_cases_than_folds(self, draw: Draw, task: Task) -> None:
        logits, labels = draw(task, 10, 3)
        assert cross_fitted("isotonic", logits[:3], labels[:3], task, rng()).folds == 3
        one = cross_fitted("temperature", logits[:1], labels[:1], task, rng())
        assert one.folds == 0 and "single case" in one.notes[0]
        assert (one.probabilities == metrics.probabilities(logits[:1], task)).all()

    def test_what_cannot_be_is_refused(self, draw: Draw) -> None:
        logits, labels = draw("binary", 10, 4)
        with pytest.raises(ValueError, match="known are none, temperature"):
            cross_fitted("platt", logits, labels, "binary", rng())
        with pytest.raises(ValueError, match="two at least"):
            cross_fitted("vector", logits, labels, "binary", rng(), folds=1)


class TestChoose:
    def test_a_model_that_is_too_sure_gets_a_temperature(self, draw: Draw) -> None:
        logits, labels = draw("multiclass", 300, 0)
        got = choose(logits * 3, labels, "multiclass", rng())
        assert got.calibrator == Temperature.fit(logits * 3, labels, "multiclass")
        assert got.nll["temperature"] < got.nll["none"]

    def test_a_bias_gets_vector_scaling(self, draw: Draw) -> None:
        logits, labels = draw("multiclass", 300, 1)
        got = choose(logits + np.arange(7), labels, "multiclass", rng())
        assert got.calibrator.kind == "vector" == min(got.nll, key=lambda kind: got.nll[kind])

    def test_a_shape_that_no_scaling_has_gets_isotonic(self) -> None:
        """A step: one in ten below, nine in ten above, whatever the logit says."""
        positive = rng(2).normal(0, 6, 1500)
        labels = (rng(3).random(1500) < np.where(positive > 4, 0.9, 0.1)).astype(int)
        logits = np.stack([np.zeros(1500), positive], axis=1)
        assert choose(logits, labels, "binary", rng()).calibrator.kind == "isotonic"

    def test_temperature_is_taken_within_one_standard_error(self, draw: Draw) -> None:
        """Where vector scaling is better by less than the error of the paired difference, and not where by more."""
        seen = set()
        for seed in range(12):
            logits, labels = draw("binary", 78, seed)
            shifted = logits + np.array([0, 0.5])
            got = choose(shifted, labels, "binary", rng(seed), kinds=("vector", "temperature"))
            losses = [
                case_nll(cross_fitted(kind, shifted, labels, "binary", rng(seed)).probabilities, labels, "binary")
                for kind in ("vector", "temperature")
            ]
            worse = losses[1] - losses[0]
            close = worse.mean() <= worse.std(ddof=1) / math.sqrt(78)
            assert got.calibrator.kind == ("temperature" if close else "vector")
            seen.add((got.calibrator.kind, bool(worse.mean() > 0)))
        assert seen == {("temperature", False), ("temperature", True), ("vector", True)}

    def test_the_probabilities_are_the_cross_fitted_ones(self, draw: Draw) -> None:
        logits, labels = draw("ordinal", 90, 3)
        got = choose(logits * 2, labels, "ordinal", rng(7))
        again = cross_fitted(got.calibrator.kind, logits * 2, labels, "ordinal", rng(7))
        assert (got.chosen.probabilities == again.probabilities).all()
        loss_there = case_nll(again.probabilities, labels, "ordinal").mean()
        assert got.nll[got.calibrator.kind] == pytest.approx(loss_there)

    @every_task
    @pytest.mark.parametrize("cases", [1, 2, 3])
    def test_few_cases(self, draw: Draw, task: Task, cases: int) -> None:
        logits, labels = draw(task, 10, 4)
        got = choose(logits[:cases], labels[:cases], task, rng())
        assert cases > 1 or got.calibrator == Uncalibrated()
        said = json.loads(json.dumps(got.as_json(), allow_nan=False))
        assert calibrator_from_json(said["calibrator"]) == got.calibrator

    def test_a_bound_is_said(self) -> None:
        logits = np.array([[3.0, -3.0], [-2.0, 2.0]] * 10)
        got = choose(logits, np.array([0, 1] * 10), "binary", rng())
        assert "bound, 0.05" in " ".join(got.as_json()["notes"])

    def test_an_infinite_loss_is_a_large_one(self) -> None:
        """One very sure error: fitted without it, the coldest temperature makes it impossible."""
        logits = np.array([[5.0, -5.0], [-5.0, 5.0]] * 10)
        logits[-1] *= -8
        labels = np.array([0, 1] * 10)
        after = cross_fitted("temperature", logits, labels, "binary", rng())
        assert np.isinf(case_nll(after.probabilities, labels, "binary")).any()
        got = choose(logits, labels, "binary", rng())
        assert all(map(math.isfinite, got.nll.values())) and got.nll["temperature"] > 30

    def test_no_kind_to_choose_from_is_refused(self, draw: Draw) -> None:
        with pytest.raises(ValueError, match="no kind"):
            choose(*draw("binary", 10, 5), "binary", rng(), kinds=())
