from collections.abc import Callable
from typing import Any

import pytest

from medtune.config.default import default_point, trial_config
from medtune.config.space import Choice, Range, grid
from medtune.search.sampler import build_sampler, ledger_params, optuna_distribution

R1 = """\
sweep: r1
trial:
  batch_size: {choice: [64, 128]}
  optimizer:
    choice:
      - {name: adam, lr: {choice: [1.0e-3, 3.0e-3]}}
      - {name: sgd, lr: {choice: [1.0e-2, 3.0e-2]}}
search: {sampler: grid}
"""


@pytest.fixture
def space(tiny: Any) -> Callable[[str], dict[str, Any]]:
    return lambda trial: tiny.config(f"trial={trial}", "pruning={name: none}", text="sweep: a\n").trial


def test_the_grid_of_recipe_r1_has_its_eight_points(tiny: Any) -> None:
    config = tiny.config(text=R1)
    points = list(grid(config.trial))
    trials = {
        (trial.optimizer.name, trial.optimizer.lr, trial.batch_size)
        for trial in (trial_config(config.trial, point) for point in points)
    }
    adam = {("adam", lr, batch) for lr in (1e-3, 3e-3) for batch in (64, 128)}
    sgd = {("sgd", lr, batch) for lr in (1e-2, 3e-2) for batch in (64, 128)}
    assert len(points) == 8 and trials == adam | sgd
    assert default_point(config.trial) in points


def test_a_grid_has_the_steps_of_ranges_and_lists_inside_choices(space: Callable[[str], Any]) -> None:
    tree = space("{epochs: {int: [1, 6], step: 2}, augment: {noise: {choice: [0, {uniform: [0.1, 0.3], step: 0.1}]}}}")
    trials = [trial_config(tree, point) for point in grid(tree)]
    assert sorted({trial.epochs for trial in trials}) == [1, 3, 5]
    assert sorted({round(trial.augment.noise, 9) for trial in trials}) == [0, 0.1, 0.2, 0.3]
    assert len(trials) == 12


def test_a_fixed_space_has_one_point(space: Callable[[str], Any]) -> None:
    assert list(grid(space("{epochs: 3}"))) == [{}]


def test_the_upper_end_is_inclusive_and_on_the_grid() -> None:
    assert optuna_distribution(Range(1, 8, integer=True)).high == 8
    assert optuna_distribution(Range(0, 12, integer=True, step=5)).high == 10
    assert optuna_distribution(Range(0.0, 1.0)).high == 1.0
    assert optuna_distribution(Range(1, 64, log=True, integer=True)).log


def test_options_that_are_mappings_stand_in_the_ledger_by_index_and_plain_ones_by_value() -> None:
    mappings = Choice(({"name": "adam"}, {"name": "sgd", "lr": Range(0.1, 0.2)}))
    tree = {"optimizer": mappings, "batch_size": Choice((64, 128))}
    assert optuna_distribution(mappings).choices == (0, 1)
    assert optuna_distribution(tree["batch_size"]).choices == (64, 128)
    point = {"optimizer": 1, "optimizer[1].lr": 0.15, "batch_size": 1}
    assert ledger_params(tree, point) == {"optimizer": 1, "optimizer[1].lr": 0.15, "batch_size": 128}


def test_no_other_sampler_is_known() -> None:
    with pytest.raises(ValueError, match="bohb"):
        build_sampler("bohb", 0, 0, {})
