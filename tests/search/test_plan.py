from typing import Any

import pytest

from medtune.config.default import trial_config
from medtune.search.plan import _random_points, describe_space, estimate, expected_epochs, wanted_trials
from medtune.search.resources import Share
from medtune.search.sweep import longest
from medtune.training.loop import Training


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
    ("pruning", "epochs", "expected"),
    [
        ("{name: none}", 9, 9),
        ("{name: median, grace_epochs: 1}", 9, 9),
        ("{name: asha, grace_epochs: 1, reduction_factor: 3}", 9, 1 + 2 / 3 + 6 / 9),
        ("{name: asha, grace_epochs: 2, reduction_factor: 2}", 8, 2 + 2 / 2 + 4 / 4),
        ("{name: asha, grace_epochs: 9, reduction_factor: 3}", 9, 9),
    ],
)
def test_expected_epochs(pruning: str, epochs: int, expected: float, tiny: Any) -> None:
    config = tiny.config(f"trial.epochs={epochs}", f"pruning={pruning}")
    assert expected_epochs(config, epochs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epochs", "most"), [("7", 7), ("{int: [2, 9]}", 9), ("{choice: [3, {log_int: [4, 16]}, 5]}", 16)]
)
def test_the_longest_trial(epochs: str, most: int, tiny: Any) -> None:
    assert longest(tiny.config(f"trial.epochs={epochs}").trial) == most


def test_random_points_are_trials(tiny: Any) -> None:
    config = tiny.config("trial.augment={rotate_degrees: {int: [0, 12], step: 5}}")
    drawn = [trial_config(config.trial, point) for point in _random_points(config)]
    assert len(drawn) == 6 and {trial.augment.rotate_degrees for trial in drawn} <= {0, 5, 10}
    assert all(1e-4 <= trial.optimizer.lr <= 0.1 for trial in drawn)
    fixed = tiny.config("trial={epochs: 1}", "pruning={name: none}")
    assert list(_random_points(fixed)) == []


def test_an_estimate_is_from_timed_batches(tiny: Any) -> None:
    one, two = (estimate(tiny.config(), Share("cpu", 1, 0.0, concurrent)) for concurrent in (1, 2))
    assert 0 < one.an_epoch < 10
    assert 8 < one.expected < one.at_most
    assert one.at_most - 8 == pytest.approx(one.an_epoch * 3 * 5)
    assert two.at_most - 8 == pytest.approx(two.an_epoch * 3 * 5 / 2)


def test_a_cross_validation_trains_on_every_case_once_for_each_other_fold(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "time_batches", lambda training, count: (1.0, 100))
    share = Share("cpu", 1, 0.0, 1)
    plain, folded = (estimate(tiny.config(f"trial.folds={folds}"), share).an_epoch for folds in ("null", 5))
    assert plain == pytest.approx((60 + 120 / 3) / 100) and folded == pytest.approx((60 + 120) * (4 + 1 / 3) / 100)
