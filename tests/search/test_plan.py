from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medtune.search.cost import Costs, Timed
from medtune.search.plan import describe_space, estimate, estimate_from, planned_trials, wanted_trials
from medtune.search.rehearsal import EPOCH_END, SHUT_DOWN, START_UP, TRIAL_START
from medtune.search.resources import Share
from medtune.search.sweep import longest


def test_the_space_in_words(tiny: Any) -> None:
    overrides = ["trial.epochs={log_int: [3, 30]}", "trial.augment={flip: {choice: [true, false]}}"]
    overrides.append("trial.loss={label_smoothing: {choice: [0, {uniform: [0.1, 0.3], step: 0.1}]}}")
    lines = describe_space(tiny.config(*overrides).trial)
    assert sorted(lines) == sorted(
        [
            "epochs: a whole number from 3 to 30, on a log scale",
            "batch_size: one of 16, 32",
            "model.dropout: a number from 0 to 0.5",
            "optimizer: one of adam, sgd",
            "optimizer[0].lr: a number from 0.0001 to 0.01, on a log scale",
            "optimizer[1].lr: a number from 0.001 to 0.1, on a log scale",
            "optimizer[1].momentum: a number from 0.5 to 0.99",
            "augment.flip: one of true, false",
            "loss.label_smoothing: one of 0, a number from 0.1 to 0.3, in steps of 0.1",
            "loss.label_smoothing[1]: a number from 0.1 to 0.3, in steps of 0.1",
        ]
    )


def test_a_grid_may_have_fewer_points_than_trials_are_asked_for(tiny: Any) -> None:
    space = "trial={batch_size: {choice: [16, 32]}, augment: {flip: {choice: [true, false]}}}"
    grid = [space, "search={sampler: grid, trials: 40}"]
    assert wanted_trials(tiny.config(*grid)) == 4
    assert wanted_trials(tiny.config(*grid, "search.trials=3")) == 3
    assert wanted_trials(tiny.config(space, "search.trials=40")) == 40


@pytest.mark.parametrize(
    ("epochs", "most"), [("7", 7), ("{int: [2, 9]}", 9), ("{choice: [3, {log_int: [4, 16]}, 5]}", 16)]
)
def test_the_longest_trial(epochs: str, most: int, tiny: Any) -> None:
    assert longest(tiny.config(f"trial.epochs={epochs}").trial) == most


COSTS = Costs((Timed("smallcnn", 32, 0.01),), train=60, val=30)  # 0.7 s an epoch
EPOCH = 0.7 + EPOCH_END


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def share(concurrent: int) -> Share:
    return Share("cpu", 1, 0.0, concurrent)


def test_without_pruning_it_is_a_sum(tiny: Any) -> None:
    config = tiny.config("search.trials=6", "pruning={name: none}")
    one, two = (estimate_from(config, share(concurrent), COSTS) for concurrent in (1, 2))
    alone = START_UP + SHUT_DOWN + 6 * (TRIAL_START + 3 * EPOCH)
    assert one.expected == one.at_most == one.seconds.low == one.seconds.high == pytest.approx(alone)
    assert two.expected - START_UP - SHUT_DOWN == pytest.approx((alone - START_UP - SHUT_DOWN) / 2)
    assert (one.pruned.median, one.complete.median, one.epochs.median, one.trials) == (0, 6, 18, 6)
    assert one.an_epoch == pytest.approx(0.7)


def test_what_is_pruned_is_not_trained(tiny: Any) -> None:
    overrides = ("search.trials=40", "trial.epochs=27")
    found = {
        name: estimate_from(tiny.config(*overrides, f"pruning={{name: {name}}}"), share(2), COSTS)
        for name in ("asha", "hyperband", "median", "none")
    }
    assert found["asha"].epochs.median < found["hyperband"].epochs.median < found["none"].epochs.median == 40 * 27
    assert 25 <= found["asha"].pruned.median <= 38 and 0 < found["median"].pruned.median < 40
    for name, one in found.items():
        assert one.pruned.median + one.complete.median == pytest.approx(40)
        assert one.seconds.low <= one.expected <= one.seconds.high <= one.at_most
        assert (one.expected < one.at_most) == (name != "none")


def test_it_is_the_same_each_time(tiny: Any) -> None:
    assert estimate_from(tiny.config(), share(2), COSTS) == estimate_from(tiny.config(), share(2), COSTS)
    assert estimate_from(tiny.config(), share(2), COSTS) != estimate_from(tiny.config("seed=1"), share(2), COSTS)


def test_on_a_busy_machine_all_takes_longer(tiny: Any) -> None:
    free, busy = (estimate_from(tiny.config(), share(1), replace(COSTS, slowness=slowness)) for slowness in (1, 3))
    assert busy.expected - free.expected > 2 * (START_UP + SHUT_DOWN) and busy.an_epoch == free.an_epoch


class TestABudget:
    def test_of_the_file(self, tiny: Any) -> None:
        one_trial = TRIAL_START + 3 * EPOCH
        seconds = START_UP + 4 * one_trial + one_trial / 2
        config = tiny.config("search.trials=6", "pruning={name: none}", f"budget.hours={seconds / 3600}")
        (budget,) = estimate_from(config, share(1), COSTS).budgets
        assert (budget.trials.median, budget.trials.low, budget.trials.high) == (4, 4, 4)
        longer = tiny.config("search.trials=6", "pruning={name: none}", "budget.hours=1")
        (budget,) = estimate_from(longer, share(1), COSTS).budgets
        assert budget.hours == 1 and budget.trials.median == 6

    def test_round_ones_where_the_file_has_none(self, tiny: Any) -> None:
        slow = Costs((Timed("smallcnn", 32, 1.0),), train=600, val=0)  # 10 min an epoch
        config = tiny.config("search.trials=6", "pruning={name: none}")
        found = estimate_from(config, share(1), slow)
        assert [(budget.hours, budget.trials.median) for budget in found.budgets] == [(1, 1), (2, 3)]
        assert estimate_from(config, share(1), COSTS).budgets == ()


class TestTheTrialsToBe:
    def test_begin_as_the_sweep_does(self, tiny: Any, generator: Any) -> None:
        epochs = "trial.epochs={int: [2, 90]}"
        config = tiny.config(epochs, "search.start_with=[{epochs: 7}, {epochs: 90}, {epochs: 8}]", "search.trials=3")
        first, pool = planned_trials(config, COSTS, generator)
        assert [trial.epochs for trial in first] == [90, 7, 8]  # 100 is the default; what comes twice is one trial
        assert len({trial.epochs for trial in pool}) > 30 and {round(trial.seconds, 9) for trial in pool} == {0.7}

    def test_of_a_grid_are_its_points(self, tiny: Any, generator: Any) -> None:
        grid = "trial={epochs: {choice: [2, 5]}, early_stopping: {patience: {choice: [1, 2, 3]}}}"
        config = tiny.config(grid, "search={sampler: grid, trials: 40}", "pruning={name: none}")
        first, _ = planned_trials(config, COSTS, generator)
        assert sorted({(trial.epochs, trial.patience) for trial in first}) == [
            (e, p) for e in (2, 5) for p in (1, 2, 3)
        ]
        found = estimate_from(config, share(1), COSTS)
        assert found.trials == len(first) == 6 and found.epochs.median <= 21 and found.pruned.high == 0

    def test_of_a_space_of_one_point_are_all_the_same(self, tiny: Any) -> None:
        found = estimate_from(tiny.config("trial={epochs: 2}", "pruning={name: none}"), share(1), COSTS)
        assert found.epochs.median == 10


def test_an_estimate_is_from_timed_batches(tiny: Any) -> None:
    found = estimate(tiny.config(), share(1))
    assert 0 < found.an_epoch < 10 and START_UP < found.expected <= found.at_most and found.rehearsals == 40
