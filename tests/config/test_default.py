import random
from collections.abc import Callable
from typing import Any

import pytest

from medtune.config.default import default_point, start_points, swept_values, trial_config
from medtune.config.space import Choice, Distribution, Range, distributions, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.trial import TrialConfig

Read = Callable[..., SweepConfig]


def space_of(read: Read, trial: str) -> dict[str, Any]:
    return read(f"sweep: a\ntrial: {trial}").trial


def test_trial_0_of_the_design_s_example(read: Read, design: str) -> None:
    assert default_point(read(design).trial) == {
        "batch_size": 2,
        "model.dropout": 0.0,
        "optimizer": 0,
        "optimizer[0].lr": 1e-3,
        "optimizer[0].weight_decay": 1e-2,
        "schedule.name": 0,
        "augment.flip": 1,
        "augment.rotate_degrees": 0,
        "augment.noise": 0,
        "loss.label_smoothing": 0.0,
    }


@pytest.mark.parametrize(
    ("trial", "point"),
    [
        ("{optimizer: {name: sgd, lr: {uniform: [0.001, 0.5]}}}", {"optimizer.lr": 1e-2}),
        ("{optimizer: {name: sgd, lr: {uniform: [0.1, 0.5]}}}", {"optimizer.lr": 0.1}),
        ("{optimizer: {name: {choice: [sgd, adam]}}}", {"optimizer.name": 1}),
        ("{optimizer: {choice: [{name: sgd}, {name: adam}]}}", {"optimizer": 1}),
        ("{optimizer: {choice: [{name: sgd}, {name: adamw}]}}", {"optimizer": 0}),
        (
            "{optimizer: {choice: [{choice: [{name: sgd}, {name: adam, beta1: {uniform: [0, 0.8]}}]}, {name: adamw}]}}",
            {"optimizer": 0, "optimizer[0]": 1, "optimizer[0][1].beta1": 0.8},
        ),
        ("{epochs: {int: [10, 80], step: 20}}", {"epochs": 70}),
        ("{batch_size: {choice: [32, 64]}}", {"batch_size": 0}),
        ("{early_stopping: {patience: {choice: [5, null]}}}", {"early_stopping.patience": 1}),
        ("{early_stopping: {patience: {int: [5, 9]}}}", {"early_stopping.patience": 5}),
        ("{augment: {noise: {choice: [{uniform: [0, 0.4]}, 0]}}}", {"augment.noise": 1}),
        (
            "{schedule: {name: multistep, milestones: {choice: [[0.3, 0.6], [0.5, 0.75]]}}}",
            {"schedule.milestones": 1},
        ),
        (
            "{schedule: {name: multistep, milestones: [{uniform: [0, 1]}, {uniform: [0.8, 1]}]}}",
            {"schedule.milestones.0": 0.5, "schedule.milestones.1": 0.8},
        ),
    ],
)
def test_the_default_of_a_distribution(read: Read, trial: str, point: dict[str, Any]) -> None:
    space = space_of(read, trial)
    assert default_point(space) == point
    assert isinstance(trial_config(space, point), TrialConfig)


def test_start_points_take_the_default_for_what_they_do_not_mention(read: Read, design: str) -> None:
    space = read(design).trial
    nested, flat, empty = start_points(
        space,
        [
            {"optimizer": {"name": "sgd", "lr": 0.2}, "augment": {"noise": 0.3}},
            {"optimizer.momentum": 0.6, "schedule.name": "step", "epochs": 20},
            {},
        ],
    )
    default = default_point(space)
    others = {path: value for path, value in default.items() if not path.startswith("optimizer")}
    sgd = {"optimizer": 1, "optimizer[1].lr": 0.2, "optimizer[1].momentum": 0.9}
    assert nested == others | sgd | {"augment.noise": 1, "augment.noise[1]": 0.3}
    assert flat == others | sgd | {"optimizer[1].lr": 0.01, "optimizer[1].momentum": 0.6, "schedule.name": 2}
    assert empty == default


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"optimizer": {"name": "adam"}},
            "optimizer is {name: 'adam', ...}, but the space has {name: 'adamw', ...} or",
        ),
        ({"optimizer": {"name": "sgd", "lr": 9}}, "optimizer.lr is 9, but the space has 0.001 to 0.3"),
        ({"optimizer": {"name": "adamw", "weight_decay": 1e-10}}, "optimizer.weight_decay is 1e-10, but the space has"),
        ({"augment.rotate_degrees": 3}, "augment.rotate_degrees is 3, but the space has 0 to 20 in steps of 5"),
        ({"augment.flip": 1}, "augment.flip is 1, but the space has true or false"),
        ({"epochs": 3}, "epochs is 3, but the space has only 20"),
        ({"lr": 3}, "lr is no key of this space"),
        ({"epochs": 20, "epochs.x": 3}, "epochs.x stands below a plain value"),
    ],
)
def test_a_start_outside_of_the_space(read: Read, design: str, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        start_points(read(design).trial, [entry])
    assert str(caught.value).startswith(words)


def test_swept_values_have_names_without_branches(read: Read) -> None:
    space = space_of(
        read,
        "{optimizer: {choice: [{name: adam}, {name: sgd, lr: {uniform: [0.1, 1]}}]}, schedule: {name: multistep, "
        "milestones: {choice: [[0.3, 0.6], [0.5, 0.75]]}}, augment: {noise: {choice: [0, {uniform: [0.1, 0.4]}]}}}",
    )
    point = {"optimizer": 1, "optimizer[1].lr": 0.5, "schedule.milestones": 0, "augment.noise": 1}
    point["augment.noise[1]"] = 0.2
    assert swept_values(space, point, trial_config(space, point)) == {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.5,
        "schedule.milestones": "[0.3, 0.6]",
        "augment.noise": 0.2,
    }


def test_a_point_without_a_value_is_an_error(read: Read, design: str) -> None:
    with pytest.raises(KeyError, match="batch_size"):
        trial_config(read(design).trial, {})


def drawn(generator: random.Random) -> Callable[[str, Distribution], Any]:
    def pick(path: str, distribution: Distribution) -> Any:
        if isinstance(distribution, Choice):
            return generator.randrange(len(distribution.options))
        return distribution.clip(generator.uniform(distribution.low, distribution.high))

    return pick


def test_random_points_of_a_space_are_valid_trials(read: Read, design: str) -> None:
    space = read(design).trial
    paths = {path for path, _ in distributions(space)}
    generator = random.Random(0)
    for _ in range(200):
        point: dict[str, Any] = {}
        pick = drawn(generator)

        def record(path: str, distribution: Distribution, pick: Any = pick, point: dict[str, Any] = point) -> Any:
            point[path] = pick(path, distribution)
            return point[path]

        tree = resolve(space, record)
        trial = trial_config(space, point)
        assert set(point) <= paths
        assert trial == TrialConfig.model_validate(tree)
        # a trial of the space can be asked for again by its values
        again = start_points(space, [tree])[0]
        assert trial_config(space, again) == trial
        assert set(swept_values(space, point, trial)) >= {"optimizer.lr", "optimizer.name", "batch_size"}


def test_clip_keeps_the_type_of_a_range() -> None:
    assert isinstance(default_point({"epochs": Range(5, 200, integer=True)})["epochs"], int)
