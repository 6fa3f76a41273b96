"""Named calibration errors against netcal, and against definitions spelled out case by case."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from netcal.metrics import ECE, MCE
from numpy.typing import NDArray

from medtune.evaluation import metrics
from medtune.evaluation.calibration import KINDS, Kind, calibration_error, equal_mass
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

every_task = pytest.mark.parametrize("task", TASKS)
every_number_of_bins = pytest.mark.parametrize("bins", [10, 15])


def tasks_and_kinds(by: str) -> list[tuple[Task, Kind]]:
    return [(task, kind) for task in TASKS for kind in KINDS.values() if kind.by == by and not kind.why_undefined(task)]


def problems(kind: Kind, probabilities: NDArray[Any], labels: NDArray[Any], task: Task) -> list[tuple[Any, Any]]:
    """Confidence and whether it came true, of each problem that a kind is the mean over."""
    if kind.what == "top-label":
        return [(probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(int))]
    if task == "multilabel":
        return list(zip(probabilities.T, labels.T, strict=True))
    classes = [1] if kind.what == "positive-class" else range(probabilities.shape[1])
    return [(probabilities[:, k], (labels == k).astype(int)) for k in classes]


def in_bins(bin_of: list[int], confidence: Any, outcome: Any) -> float:
    """The ECE, word for word."""
    total = 0.0
    for one in set(bin_of):
        members = [i for i, each in enumerate(bin_of) if each == one]
        said = sum(float(confidence[i]) for i in members) / len(members)
        true = sum(int(outcome[i]) for i in members) / len(members)
        total += len(members) / len(bin_of) * abs(said - true)
    return total


def mass_bins(confidence: Any, bins: int) -> list[int]:
    """Where the middle of all that are equal to a case lies, in bins of equal numbers of cases."""
    found = []
    for one in confidence:
        below, equal = sum(other < one for other in confidence), sum(other == one for other in confidence)
        found.append(next(k for k in range(bins) if 2 * below + equal < (k + 1) * 2 * len(confidence) / bins))
    return found


@every_task
def test_the_named_ece_is_the_ece(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 300, 1)
    predicted = metrics.probabilities(logits, task)
    name = "positive-class-15-width" if task == "multilabel" else "top-label-15-width"
    expected = metrics.ece(predicted, labels, task)
    assert calibration_error(predicted, labels, task, KINDS[name]) == pytest.approx(expected, abs=1e-15)


def test_every_kind_that_is_asked_for_has_a_name() -> None:
    for what in ("top-label", "positive-class", "class-wise"):
        for bins in (10, 15):
            assert {f"{what}-{bins}-width", f"{what}-{bins}-mass"} <= set(KINDS)
    assert {"mce-top-label-15-width", "mce-positive-class-15-width"} <= set(KINDS)
    assert all(kind.name == name for name, kind in KINDS.items())


@pytest.mark.parametrize(("task", "kind"), tasks_and_kinds("width"), ids=lambda one: getattr(one, "name", one))
@pytest.mark.parametrize(("cases", "decimals"), [(78, 6), (500, 1)])
def test_equal_width_is_that_of_netcal(draw: Draw, task: Task, kind: Kind, cases: int, decimals: int) -> None:
    logits, labels = draw(task, cases, 2, decimals=decimals)
    predicted = metrics.probabilities(logits, task)
    theirs = (MCE if kind.worst else ECE)(kind.bins)
    expected = np.mean([theirs.measure(*problem) for problem in problems(kind, predicted, labels, task)])
    assert calibration_error(predicted, labels, task, kind) == pytest.approx(expected, abs=1e-12)


@every_number_of_bins
@pytest.mark.parametrize("worst", [False, True])
def test_the_edges_of_bins_are_those_of_netcal(bins: int, worst: bool) -> None:
    """Confidences k/bins, with exactly 0 and 1 among them."""
    generator = np.random.default_rng(3)
    positive = generator.integers(0, bins + 1, 400) / bins
    labels = (generator.random(400) < 0.7 * positive).astype(np.int64)
    got = calibration_error(
        positive[:, None], labels[:, None], "multilabel", Kind("positive-class", bins, "width", worst)
    )
    assert got == pytest.approx((MCE if worst else ECE)(bins).measure(positive, labels), abs=1e-12)


@every_number_of_bins
def test_confidences_of_exactly_0_and_1_are_in_a_bin(bins: int) -> None:
    ends = np.array([0.0, 1.0])
    assert metrics.bin_of(ends, bins).tolist() == [0, bins - 1]
    assert equal_mass(np.repeat(ends, 30), bins).tolist() == [bins // 4] * 30 + [bins * 3 // 4] * 30
    certain = np.array([[0.0, 1.0]] * 4)
    for kind in KINDS.values():
        assert calibration_error(certain, np.array([1, 1, 1, 0]), "binary", kind) == 0.25


@pytest.mark.parametrize(("task", "kind"), tasks_and_kinds("mass"), ids=lambda one: getattr(one, "name", one))
@pytest.mark.parametrize(("cases", "decimals"), [(12, 6), (78, 6), (120, 0)])
def test_equal_mass_is_its_definition(draw: Draw, task: Task, kind: Kind, cases: int, decimals: int) -> None:
    logits, labels = draw(task, cases, 4, decimals=decimals)
    predicted = metrics.probabilities(logits, task)
    expected = [
        in_bins(mass_bins(confidence, kind.bins), confidence, outcome)
        for confidence, outcome in problems(kind, predicted, labels, task)
    ]
    assert calibration_error(predicted, labels, task, kind) == pytest.approx(np.mean(expected), abs=1e-12)


@every_number_of_bins
def test_bins_of_equal_mass_differ_by_a_case_at_most(bins: int) -> None:
    for cases in (bins, 78, 151):
        confidence = np.random.default_rng(cases).permutation(cases) / cases
        found = equal_mass(confidence, bins)
        sizes = np.bincount(found, minlength=bins)
        assert len(sizes) == bins and np.ptp(sizes) <= 1
        assert (np.diff(found[np.argsort(confidence)]) >= 0).all()


def test_equal_confidences_are_never_in_two_bins() -> None:
    generator = np.random.default_rng(5)
    confidence = generator.choice([0.1, 0.5, 0.50001, 0.9, 1.0], 200, p=[0.05, 0.5, 0.05, 0.1, 0.3])
    found = equal_mass(confidence, 15)
    assert all(len(set(found[confidence == one])) == 1 for one in confidence)
    order = generator.permutation(200)
    assert (equal_mass(confidence[order], 15) == found[order]).all()
    assert set(equal_mass(np.full(7, 0.3), 10)) == {5}


def test_class_wise_by_hand() -> None:
    predicted = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    # class 0: |.5 - .5|; class 1: |.3 - .5|; class 2: |.2 - 0|
    got = calibration_error(predicted, np.array([0, 1]), "multiclass", KINDS["class-wise-15-width"])
    assert got == pytest.approx((0 + 0.2 + 0.2) / 3)


def test_what_a_task_does_not_have(draw: Draw) -> None:
    missing = {task: {kind.what for kind in KINDS.values() if kind.why_undefined(task)} for task in TASKS}
    assert missing == {
        "binary": set(),
        "multiclass": {"positive-class"},
        "ordinal": {"positive-class"},
        "multilabel": {"top-label", "class-wise"},
    }
    logits, labels = draw("multilabel", 20, 6)
    with pytest.raises(ValueError, match="there is no top label"):
        calibration_error(
            metrics.probabilities(logits, "multilabel"), labels, "multilabel", KINDS["top-label-15-width"]
        )


@every_task
def test_labels_with_a_second_axis_and_single_precision(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 50, 7)
    predicted = metrics.probabilities(logits, task).astype(np.float32)
    kind = KINDS["positive-class-10-mass" if task == "multilabel" else "class-wise-10-mass"]
    column = labels if task == "multilabel" else labels[:, None]
    first, second = (calibration_error(predicted, each, task, kind) for each in (labels, column))
    assert first == second == calibration_error(predicted.astype(np.float64), labels, task, kind)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="0..1"):
        calibration_error(np.array([[0.5, np.nan]]), np.array([0]), "binary", KINDS["top-label-15-width"])
