"""How sure calibration errors are: against labels drawn one by one, and in simulated validation sets.

`benchmarks/intervals.py` has more worlds and more sets.
"""

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from scipy.stats import binom

from medtune.evaluation import gap_worlds, metrics
from medtune.evaluation.calibration import KINDS, Binned, Kind, binned, calibration_error, put_in_bins
from medtune.evaluation.calibration_error import Estimate, calibration_estimate, calibration_estimates
from medtune.evaluation.gap_worlds import walk
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

every_task = pytest.mark.parametrize("task", TASKS)
TOP = KINDS["top-label-15-width"]
POSITIVE = KINDS["positive-class-15-width"]
TRUTHS = {1.0: 0.0, 0.69: 0.057, 0.4: 0.131}  # of logits times so much, from the benchmark
SETS = 100


def two_columns(positive: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1 - positive, positive], axis=1)


@cache
def simulated(slope: float) -> tuple[Estimate, ...]:
    """Estimates from validation sets of 78 cases."""
    generator, found = np.random.default_rng(6), []
    for _ in range(SETS):
        logit = generator.normal(0.7, 1.8, 78)
        labels = (generator.random(78) < expit(slope * logit)).astype(np.int64)
        found.append(calibration_estimate(two_columns(expit(logit)), labels, "binary", TOP, generator, draws=200))
    return tuple(found)


@pytest.mark.parametrize("slope", TRUTHS)
def test_the_interval_holds_the_truth(slope: float) -> None:
    found = simulated(slope)
    assert np.mean([one.low <= TRUTHS[slope] <= one.high for one in found]) >= 0.92
    # and not by being wide: the plain number and twice its deviation would be as much
    assert np.mean([one.high - one.low for one in found]) < 0.25


@pytest.mark.parametrize("slope", TRUTHS)
def test_at_most_half_of_the_bias_is_left(slope: float) -> None:
    plain, debiased = np.mean([(one.value, one.debiased) for one in simulated(slope)], axis=0) - TRUTHS[slope]
    assert plain > 0.03
    assert abs(debiased) <= plain / 2


def test_perfect_calibration_is_rejected_as_often_as_it_should_be() -> None:
    told = {slope: np.mean([one.told_from_perfect for one in simulated(slope)]) for slope in TRUTHS}
    assert told[1.0] <= 0.10
    assert told[0.4] >= 0.6
    for one in simulated(1.0):
        assert one.told_from_perfect or one.low == 0


def test_the_truth_in_a_few_of_many_labels() -> None:
    """The one world in which noise adds most: four of fourteen correlated labels have all of the error."""
    generator, truth = np.random.default_rng(7), 0.050
    held, sets = 0, 15
    for _ in range(sets):
        logits = generator.normal(-1.5, 1.5, (78, 14))
        true = expit(np.where(np.arange(14) < 4, 0.3, 1.0) * logits)
        latent = math.sqrt(0.5) * (generator.normal(size=(78, 1)) + generator.normal(size=(78, 14)))
        labels = (latent < ndtri(true)).astype(np.int64)
        got = calibration_estimate(expit(logits), labels, "multilabel", POSITIVE, generator, draws=200)
        held += got.low <= truth <= got.high
    assert held >= sets - 2


def one_set(cases: int = 300, slope: float = 0.3) -> Binned:
    generator = np.random.default_rng(8)
    logit = generator.normal(0.7, 1.8, cases)
    labels = (generator.random(cases) < expit(slope * logit)).astype(np.int64)
    return binned(two_columns(expit(logit)), labels, "binary", TOP)


def test_noise_adds_least_to_an_error_everywhere_and_most_to_one_in_few_bins() -> None:
    _, everywhere, in_few = walk(one_set(), np.random.default_rng(9), 2000)
    for truth in (0.03, 0.06):
        assert np.interp(truth, everywhere.truth, everywhere.mean) + 0.003 < np.interp(truth, in_few.truth, in_few.mean)
    assert in_few.not_rejected(0.025)[0] < everywhere.not_rejected(0.025)[0]


def test_worlds_begin_at_perfect_calibration_and_have_the_error_they_should() -> None:
    shown = one_set()
    seen = gap_worlds._Seen.of(shown)
    sums = gap_worlds._sums(shown, seen)
    for path, _ in gap_worlds.PATHS:
        assert np.abs(path(seen, sums)) @ seen.count == pytest.approx(sums)
    for walked in walk(shown, np.random.default_rng(9), 500):
        assert walked.truth[0] == 0
        assert walked.mean[0] == pytest.approx(0.05, abs=0.01)
        assert walked.truth[-1] > shown.value


def test_noise_is_as_large_on_average_as_the_binomial_number() -> None:
    count, rate = np.array([1.0, 2, 5, 40, 40]), np.array([0.5, 0.9, 0.3, 0.02, 0.6])
    seen = gap_worlds._Seen(
        count, rate, np.zeros(5)
    )  # the rate is that of the confidence: one more case changes nothing
    expected = [binom(n, p).expect(lambda k, n=n, p=p: abs(k - n * p)) for n, p in zip(count, rate, strict=True)]
    assert seen.noise(rate) * math.sqrt(2 / math.pi) == pytest.approx(expected)


@every_task
def test_perfect_calibration_is_that_of_labels_drawn_one_by_one(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 60, 10)
    predicted = metrics.probabilities(logits, task)
    generator = np.random.default_rng(11)
    kinds = [kind for kind in KINDS.values() if not kind.why_undefined(task) and kind.bins == 15]
    slow: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for _ in range(300):
        if task == "multilabel":
            drawn = (generator.random(predicted.shape) < predicted).astype(np.int64)
        else:
            drawn = np.array([generator.choice(len(row), p=row / row.sum()) for row in predicted])
        for kind in kinds:
            slow[kind.name].append(calibration_error(predicted, drawn, task, kind))
    for name, found in calibration_estimates(predicted, labels, task, generator, kinds, draws=2000).items():
        spread = np.std(slow[name]) / math.sqrt(300)
        assert found.if_perfect == pytest.approx(np.mean(slow[name]), abs=4 * spread)
        rank = np.mean(np.array(slow[name]) >= found.value)
        assert found.p == pytest.approx(rank, abs=0.13)


def test_labels_of_a_case_are_drawn_as_correlated_as_they_are() -> None:
    """Copies of one label are one label: the mean over them varies as it does, and is not more sure."""
    generator = np.random.default_rng(12)
    one = expit(generator.normal(0, 1.5, (100, 1)))
    label = (generator.random(one.shape) < one**2).astype(np.int64)
    single, copies = (
        calibration_estimate(np.repeat(one, k, 1), np.repeat(label, k, 1), "multilabel", POSITIVE, generator)
        for k in (1, 6)
    )
    assert copies.value == pytest.approx(single.value)
    assert copies.p == pytest.approx(single.p, abs=0.03)
    assert (copies.low, copies.high) == pytest.approx((single.low, single.high), abs=0.03)


@every_task
@pytest.mark.parametrize("cases", [1, 2, 10, 200])
def test_every_kind_gives_a_number_or_a_reason(draw: Draw, task: Task, cases: int) -> None:
    logits, labels = draw(task, max(cases, 10), 13)
    predicted, labels = metrics.probabilities(logits, task)[-cases:], labels[-cases:]
    found = calibration_estimates(predicted, labels, task, np.random.default_rng(0), draws=100)
    assert list(found) == list(KINDS)
    for name, one in found.items():
        shown = json.loads(json.dumps(one.as_json(), allow_nan=False))
        if why := KINDS[name].why_undefined(task):
            assert shown["undefined"] == why and shown["value"] is None
            continue
        assert one.value == calibration_error(predicted, labels, task, KINDS[name])
        assert 0 < one.p <= 1 and 0 <= one.if_perfect <= 1
        if KINDS[name].worst:
            assert shown["low"] is shown["debiased"] is None
        else:
            assert 0 <= one.low <= one.debiased <= one.high <= 1 and one.low < one.high
        assert str(cases) in one.words


@every_task
def test_the_same_generator_gives_the_same_estimates(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 40, 14)
    predicted = metrics.probabilities(logits, task)
    kind = Kind("positive-class" if task == "multilabel" else "top-label", 10, "mass")
    first, second = (
        calibration_estimate(predicted, labels, task, kind, np.random.default_rng(1), draws=100) for _ in "ab"
    )
    assert first == second


def test_certain_and_right_is_not_proof() -> None:
    """Twenty of twenty: the exact binomial bound of the share of wrong ones is .168."""
    certain, generator = np.array([[0.0, 1.0]] * 20), np.random.default_rng(15)
    right, wrong = (calibration_estimate(certain, np.full(20, one), "binary", TOP, generator) for one in (1, 0))
    assert (right.value, right.low, right.p) == (0, 0, 1)
    assert right.high == pytest.approx(0.168, abs=0.03)
    assert (wrong.value, wrong.high) == (1, 1)
    assert wrong.low == pytest.approx(1 - 0.168, abs=0.03)
    assert wrong.told_from_perfect


def test_all_confidences_equal() -> None:
    same, generator = np.full((30, 2), 0.5), np.random.default_rng(16)
    for kind in (TOP, KINDS["top-label-10-mass"]):
        got = calibration_estimate(same, np.arange(30) % 2, "binary", kind, generator)
        assert got.value == 0 and got.low == 0 and 0.1 < got.high < 0.3


def test_what_it_says() -> None:
    calibrated, other = (Estimate(TOP, 78, 0.096, 0.02, low, 0.12, 0.1, p) for low, p in ((0.0, 0.4), (0.03, 0.004)))
    assert calibrated.words == (
        "cannot be told from calibrated with 78 cases: it reads 0.096, a perfectly calibrated model 0.100 on average; "
        "the true error is at most 0.120"
    )
    assert other.words == "not calibrated (p = 0.004 with 78 cases): the true error is 0.030 to 0.120"
    assert Estimate.undefined(TOP, 78, "for a reason").words == "undefined: for a reason"


def test_bins_of_several_problems_do_not_mix() -> None:
    confidence = np.array([[0.2, 0.9], [0.2, 0.95]])
    shown = put_in_bins(confidence, np.zeros((2, 2), np.bool_), Kind("positive-class", 10, "width"))
    assert shown.problem.tolist() == [0, 1] and shown.count.tolist() == [2, 2]
    assert shown.value == pytest.approx((0.2 + 0.925) / 2)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="0..1"):
        calibration_estimates(np.full((4, 2), math.nan), np.array([0, 1, 0, 1]), "binary", np.random.default_rng(0))
