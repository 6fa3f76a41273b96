"""Calibrators against netcal and scikit-learn, against simulated truth, and on validation sets that say little."""

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad, minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from medtune.evaluation import metrics
from medtune.evaluation.calibrators import (
    CALIBRATORS,
    COLDEST,
    HOTTEST,
    Calibrator,
    Isotonic,
    Temperature,
    Uncalibrated,
    VectorScaling,
    calibrator_from_json,
)
from medtune.evaluation.proper_scores import case_nll
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]
every_task = pytest.mark.parametrize("task", TASKS)
every_kind = pytest.mark.parametrize("kind", CALIBRATORS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def loss(calibrator: Calibrator, logits: NDArray[Any], labels: NDArray[Any], task: Task) -> float:
    return float(case_nll(calibrator.apply(logits, task), labels, task).mean())


class TestTemperature:
    @every_task
    @pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
    def test_it_finds_the_temperature_that_was_put_on(self, draw: Draw, task: Task, true: float) -> None:
        logits, labels = draw(task, 4000, 0)
        assert Temperature.fit(logits * true, labels, task).temperature == pytest.approx(true, rel=0.08)

    @pytest.mark.parametrize("task", ["binary", "multiclass"])
    def test_it_is_netcals(self, draw: Draw, task: Task) -> None:
        from netcal.scaling import TemperatureScaling

        logits, labels = draw(task, 300, 1)
        logits = logits.astype(np.float64) * 2
        predicted = metrics.probabilities(logits, task)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = TemperatureScaling()
            given = predicted[:, 1] if task == "binary" else predicted
            theirs.fit(given, labels)
            expected = theirs.transform(given)
        got = Temperature.fit(logits, labels, task).apply(logits, task)
        assert (got[:, 1] if task == "binary" else got) == pytest.approx(np.squeeze(expected), abs=2e-4)

    def test_nothing_beside_it_is_better(self, draw: Draw) -> None:
        logits, labels = draw("ordinal", 90, 2)
        best = Temperature.fit(logits, labels, "ordinal")
        for factor in (0.999, 1.001):
            beside = Temperature(best.temperature * factor)
            assert loss(best, logits, labels, "ordinal") < loss(beside, logits, labels, "ordinal")

    @every_task
    def test_cases_that_are_all_right_or_all_wrong_stop_at_a_bound(self, draw: Draw, task: Task) -> None:
        logits, _ = draw(task, 30, 3)
        right = (logits > 0).astype(int) if task == "multilabel" else logits.argmax(axis=1)
        wrong = 1 - right if task == "multilabel" else logits.argmin(axis=1)
        cold, hot = Temperature.fit(logits, right, task), Temperature.fit(logits, wrong, task)
        assert (cold.temperature, hot.temperature) == (COLDEST, HOTTEST)
        assert cold.at_bound and hot.as_json()["at_bound"]

    def test_logits_that_say_nothing_leave_it_at_one(self) -> None:
        got = Temperature.fit(np.zeros((6, 3)), np.array([0, 1, 2, 2, 1, 1]), "multiclass")
        assert got.temperature == 1 and not got.at_bound

    def test_it_keeps_the_order_of_the_classes(self, draw: Draw) -> None:
        logits, labels = draw("multiclass", 50, 4)
        got = Temperature.fit(logits * 3, labels, "multiclass").apply(logits, "multiclass")
        assert (got.argsort(axis=1) == logits.argsort(axis=1)).all()


class TestVectorScaling:
    def test_it_is_penalised_logistic_regression(self, draw: Draw) -> None:
        """Of each label alone, with the prior around the model's own logit instead of 0, found another way."""
        logits, labels = draw("multilabel", 120, 0)
        got = VectorScaling.fit(logits * 2, labels, "multilabel")
        for label in range(5):
            z, y = 2.0 * logits[:, label].astype(np.float64), labels[:, label]

            def objective(p: Any, z: Any = z, y: Any = y) -> float:
                scaled = p[0] * z + p[1]
                return float(np.logaddexp(0, np.where(y == 1, -scaled, scaled)).sum() + ((p - [1, 0]) ** 2).sum() / 2)

            expected = minimize(objective, [1.0, 0.0], method="BFGS").x
            assert (got.scale[label], got.bias[label]) == pytest.approx(tuple(expected), abs=1e-5)

    @every_task
    def test_nothing_beside_it_is_better(self, draw: Draw, task: Task) -> None:
        logits, labels = draw(task, 80, 1)
        got = VectorScaling.fit(logits, labels, task)
        terms = labels.size

        def objective(parameters: NDArray[Any]) -> float:
            scale, bias = np.split(parameters, 2)
            away = np.append(scale - 1, bias)
            return metrics.nll(logits * scale + bias, labels, task) * terms + float(away @ away) / 2

        best = np.array([*got.scale, *got.bias])
        # the gradient is nought where the objective is least
        assert check_grad(objective, lambda parameters: np.zeros_like(parameters), best) < 1e-2
        assert objective(best) < objective(np.repeat([1.0, 0.0], logits.shape[1]))

    def test_it_undoes_a_bias_that_temperature_cannot(self, draw: Draw) -> None:
        logits, labels = draw("multiclass", 2000, 2)
        shifted = logits * 2 + np.arange(7)
        vector = VectorScaling.fit(shifted, labels, "multiclass")
        assert loss(vector, shifted, labels, "multiclass") < 1.02 * metrics.nll(logits, labels, "multiclass")
        cold = Temperature.fit(shifted, labels, "multiclass")
        assert loss(cold, shifted, labels, "multiclass") > 1.15 * metrics.nll(logits, labels, "multiclass")

    def test_on_many_cases_the_prior_does_not_matter(self, draw: Draw) -> None:
        logits, labels = draw("multilabel", 20_000, 3)
        got = VectorScaling.fit(logits, labels, "multilabel")
        model = LogisticRegression(C=math.inf, tol=1e-8).fit(logits[:, :1].astype(float), labels[:, 0])
        assert (got.scale[0], got.bias[0]) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), abs=2e-3)

    def test_a_missing_class_is_made_rare_and_not_impossible(self, draw: Draw) -> None:
        logits, labels = draw("multiclass", 60, 4)
        labels[labels == 3] = 2
        got = VectorScaling.fit(logits, labels, "multiclass")
        assert -10 < got.bias[3] < min(got.bias[:3])


class TestIsotonic:
    def test_binary_is_scikit_learns_but_for_certainty(self, draw: Draw) -> None:
        logits, labels = draw("binary", 200, 0, decimals=1)
        before = metrics.probabilities(logits, "binary")[:, 1]
        theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(before, labels)
        new = rng().normal(0, 3, (300, 2))
        got = Isotonic.fit(logits, labels, "binary").apply(new, "binary")
        expected = theirs.predict(metrics.probabilities(new, "binary")[:, 1])
        assert {0.0, 1.0} <= set(expected.tolist())
        steps = np.unique(theirs.y_thresholds_)  # beyond the outer ones that are not certain lies the way to certainty
        inside = (expected >= steps[1]) & (expected <= steps[-2])
        assert inside.mean() > 0.3
        assert got[inside, 1] == pytest.approx(expected[inside], abs=1e-12)
        assert got[:, 1].min() == 1 / 202 and got[:, 1].max() == 1 - 1 / 202

    def test_multiclass_is_one_vs_rest_and_normalised(self, draw: Draw) -> None:
        logits, labels = draw("multiclass", 200, 1)
        predicted = metrics.probabilities(logits, "multiclass")
        columns = [
            np.clip(IsotonicRegression().fit(predicted[:, k], labels == k).predict(predicted[:, k]), 1 / 202, 201 / 202)
            for k in range(7)
        ]
        expected = np.stack(columns, axis=1)
        got = Isotonic.fit(logits, labels, "multiclass").apply(logits, "multiclass")
        assert got == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-12)

    def test_on_the_cases_themselves_it_is_calibrated(self, draw: Draw) -> None:
        logits, labels = draw("multilabel", 500, 2)
        got = Isotonic.fit(logits * 3, labels, "multilabel").apply(logits * 3, "multilabel")
        assert got.mean(axis=0) == pytest.approx(labels.mean(axis=0), abs=2 / 500)


@every_kind
@every_task
class TestEveryKind:
    def test_it_survives_json(self, draw: Draw, task: Task, kind: str) -> None:
        logits, labels = draw(task, 60, 0)
        fitted = CALIBRATORS[kind].fit(logits, labels, task)
        again = calibrator_from_json(json.loads(json.dumps(fitted.as_json(), allow_nan=False)))
        assert again == fitted
        assert (again.apply(logits, task) == fitted.apply(logits, task)).all()

    @pytest.mark.parametrize("cases", [1, 2, 5, 40])
    def test_it_gives_probabilities(self, draw: Draw, task: Task, kind: str, cases: int) -> None:
        logits, labels = draw(task, 40, 1)
        fitted = CALIBRATORS[kind].fit(logits[:cases], labels[:cases], task)
        for scale in (0.0, 1.0, 1e4):
            got = fitted.apply(logits * scale, task)
            assert got.shape == logits.shape and got.dtype == np.float64 and got.min() >= 0 and got.max() <= 1
            assert task == "multilabel" or got.sum(axis=1) == pytest.approx(1)

    def test_one_class_alone_and_perfect_logits_are_no_trouble(self, draw: Draw, task: Task, kind: str) -> None:
        logits, labels = draw(task, 30, 2)
        alone = CALIBRATORS[kind].fit(logits, np.zeros_like(labels), task)
        assert np.isfinite(alone.apply(logits, task)).all()
        perfect = 1000.0 * (2 * labels - 1 if task == "multilabel" else np.eye(logits.shape[1])[labels])
        fitted = CALIBRATORS[kind].fit(perfect, labels, task)
        assert loss(fitted, perfect, labels, task) < 0.05 * logits.shape[1]

    def test_it_is_never_worse_than_none_on_its_own_cases(self, draw: Draw, task: Task, kind: str) -> None:
        logits, labels = draw(task, 200, 3)
        fitted = CALIBRATORS[kind].fit(logits * 3, labels, task)
        raw = Uncalibrated.fit(logits * 3, labels, task)
        assert loss(fitted, logits * 3, labels, task) <= loss(raw, logits * 3, labels, task)

    def test_a_diverged_model_is_refused(self, draw: Draw, task: Task, kind: str) -> None:
        logits, labels = draw(task, 30, 4)
        fitted = CALIBRATORS[kind].fit(logits, labels, task)
        logits[3, 1] = math.nan
        with pytest.raises(ValueError, match="diverged"):
            fitted.apply(logits, task)
        with pytest.raises(ValueError, match="diverged"):
            CALIBRATORS[kind].fit(logits, labels, task)

    def test_labels_with_a_second_axis_are_the_same_labels(self, draw: Draw, task: Task, kind: str) -> None:
        logits, labels = draw(task, 30, 5)
        made = CALIBRATORS[kind]
        assert made.fit(logits, labels.reshape(30, -1), task) == made.fit(logits, labels, task)


@pytest.mark.parametrize("kind", ["vector", "isotonic"])
def test_other_classes_than_it_was_fitted_on_are_refused(draw: Draw, kind: str) -> None:
    fitted = CALIBRATORS[kind].fit(*draw("multiclass", 30, 0), "multiclass")
    with pytest.raises(ValueError, match="7 classes"):
        fitted.apply(np.zeros((3, 4)), "multiclass")


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"kind": "platt"},
        {"kind": ["vector"]},
        {"kind": "temperature"},
        {"kind": "temperature", "temperature": None},
        {"kind": "temperature", "temperature": 0.0},
        {"kind": "temperature", "temperature": math.nan},
        {"kind": "vector", "scale": [1.0], "bias": [0.0, 0.0]},
        {"kind": "vector", "scale": [math.inf], "bias": [0.0]},
        {"kind": "vector", "scale": 1.0, "bias": 0.0},
        {"kind": "isotonic", "before": [], "after": []},
        {"kind": "isotonic", "before": [[]], "after": [[]]},
        {"kind": "isotonic", "before": [[0.1, 0.2]], "after": [[0.1]]},
        {"kind": "isotonic", "before": [[0.2, 0.1]], "after": [[0.1, 0.2]]},
        {"kind": "isotonic", "before": [[0.1, 0.2]], "after": [[0.1, 1.2]]},
        {"kind": "isotonic", "before": [[0.1, 0.2]], "after": [[0.1, math.nan]]},
        {"kind": "isotonic", "before": [0.1], "after": [0.1]},
    ],
)
def test_a_file_that_is_no_calibrator_is_refused(saved: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        calibrator_from_json(saved)
