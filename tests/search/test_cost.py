from typing import Any

import numpy as np
import pytest

from medtune.config.default import default_point, trial_config
from medtune.config.trial import ModelConfig, TrialConfig
from medtune.search.cost import Costs, Timed, draw_point, measure, points_to_time
from medtune.search.resources import Share
from medtune.training.loop import Training

TIMED = (
    Timed("smallcnn", 16, 1.0),
    Timed("smallcnn", 16, 3.0),
    Timed("smallcnn", 32, 5.0),
    Timed("resnet18", 16, 11.0),
)


@pytest.mark.parametrize(
    ("model", "batch_size", "seconds"),
    [
        ("smallcnn", 16, 2.0),
        ("smallcnn", 32, 5.0),
        ("smallcnn", 64, 3.0),
        ("resnet18", 64, 11.0),
        ("vit_small", 16, 5.0),
    ],
)
def test_an_image_costs_what_it_did_in_the_trials_most_like_it(model: str, batch_size: int, seconds: float) -> None:
    trial = TrialConfig(model=ModelConfig(name=model), batch_size=batch_size)
    assert Costs(TIMED, train=1, val=0).epoch(trial) == pytest.approx(seconds)


def test_an_evaluated_case_costs_a_third_of_a_trained_one() -> None:
    trial = TrialConfig(model=ModelConfig(name="smallcnn"), batch_size=32)
    assert Costs(TIMED, train=60, val=30).epoch(trial) == pytest.approx(5 * (60 + 10))


def test_a_cross_validation_trains_on_every_case_once_for_each_other_fold() -> None:
    trial = TrialConfig(model=ModelConfig(name="smallcnn"), batch_size=32, folds=5)
    assert Costs(TIMED, train=60, val=30).epoch(trial) == pytest.approx(5 * 90 * (4 + 1 / 3))


def test_what_is_timed_has_every_model_and_then_every_batch_size(tiny: Any) -> None:
    config = tiny.config("trial.model={name: {choice: [smallcnn, resnet18, resnet34]}}")
    timed = [(trial.model.name, trial.batch_size) for trial in points_to_time(config)]
    assert len(timed) == 7 and {model for model, _ in timed[:3]} == {"smallcnn", "resnet18", "resnet34"}
    assert len(set(timed)) == 6
    default = trial_config(config.trial, default_point(config.trial))
    assert points_to_time(config)[0] == default
    fixed = tiny.config("trial={epochs: 1}", "pruning={name: none}")
    assert points_to_time(fixed) == [trial_config(fixed.trial, {})]


def test_random_points_are_trials(tiny: Any) -> None:
    config = tiny.config("trial.augment={rotate_degrees: {int: [0, 12], step: 5}}")
    generator = np.random.default_rng(0)
    drawn = [trial_config(config.trial, draw_point(config.trial, generator)) for _ in range(30)]
    assert {trial.augment.rotate_degrees for trial in drawn} == {0, 5, 10}
    assert all(1e-4 <= trial.optimizer.lr <= 0.1 for trial in drawn)


def test_it_is_measured_on_what_a_worker_will_have(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "time_batches", lambda training, count: (1.0, training.config.batch_size))
    costs = measure(tiny.config(), Share("cpu", 1, 0.0, 1))
    assert (costs.train, costs.val, len(costs.timed)) == (60, 120, 7) and costs.slowness >= 1
    assert {(timed.batch_size, timed.seconds) for timed in costs.timed} == {(16, 1 / 16), (32, 1 / 32)}
