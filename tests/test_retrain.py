import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtune.data.batches import to_device
from medtune.data.splits import load_search_splits
from medtune.retrain import Plan, load_model, plan_retrain, retrain, retrained_models
from medtune.search.entries import best_entry
from medtune.search.folder import FolderError, SweepFolder
from medtune.training.loop import EpochRecord, Training, predict_logits
from medtune.training.seeds import RETRAINED, trial_seed

NO_AUTOCAST = torch.autocast("cpu", torch.bfloat16, enabled=False)


def quiet(index: int, record: EpochRecord) -> None: ...


def make_plan(folder: SweepFolder, stop: int = 2, **changes: Any) -> Plan:
    """The plan of a folder, ended early, with other changes."""
    return replace(plan_retrain(folder, folder.config(), None, None), stop=stop, **changes)


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path)[0].state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def by_hand(folder: SweepFolder, plan: Plan, index: int = 0) -> dict[str, torch.Tensor]:
    """The weights of a training of the plan's configuration on train, up to its last epoch."""
    train, val = (to_device(split, "cpu") for split in load_search_splits(folder.config().data))
    training = Training(plan.config, "binary", 2, train, trial_seed(0, RETRAINED + index))
    for _ in range(plan.stop):
        training.run_epoch(val)
    return training.model.state_dict()


class TestThePlan:
    def test_is_the_winner_up_to_its_best_epoch(self, tiny: Any, finished_once: SweepFolder) -> None:
        config = finished_once.config()
        best = best_entry(tiny.entries(finished_once), "max")
        plan = plan_retrain(finished_once, config, None, None)
        assert (plan.trial, plan.stop, plan.seeds, plan.train_on) == (best.number, best.best_epoch, 1, "train")
        assert plan.config.epochs == 3  # the schedule is the trial's
        assert f"lr: {plan.config.optimizer.lr}"[:9] in (finished_once.trial(plan.trial) / "config.yaml").read_text()

    def test_takes_other_epochs_and_seeds(self, finished_once: SweepFolder) -> None:
        plan = plan_retrain(finished_once, finished_once.config(), 3, 10)
        assert (plan.seeds, plan.stop, plan.config.epochs) == (3, 10, 10)

    def test_needs_a_winner(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "tiny")
        with pytest.raises(FolderError, match=f"no trial with a value yet: `medtune resume {folder.path}`"):
            plan_retrain(folder, folder.config(), None, None)


def test_a_model_is_its_winner_trained_on_all_of_train_for_its_best_epochs(finished: SweepFolder) -> None:
    plan, told = make_plan(finished), []
    (path,) = retrain(finished, finished.config(), plan, lambda index, record: told.append((index, record.epoch)))
    assert path == finished.path / "retrain" / "model" and told == [(0, 1), (0, 2)]
    assert same(state(path), by_hand(finished, plan))
    assert retrained_models(finished) == [path]


def test_what_lies_beside_the_weights_is_enough_to_rebuild_the_model(finished: SweepFolder) -> None:
    config = finished.config()
    (path,) = retrain(finished, config, make_plan(finished, stop=1), quiet)
    assert {entry.name for entry in path.iterdir()} == {"model.safetensors", "model.json"}
    model, description = load_model(path)
    assert not model.training
    val = load_search_splits(config.data)[1]
    logits = predict_logits(model, to_device(val, "cpu"), NO_AUTOCAST)
    from medtune.evaluation.metrics import evaluate

    for name, value in evaluate(logits, val.labels, "binary").items():
        assert description["metrics"][f"val/{name}"] == pytest.approx(value, abs=1e-6)
    assert description["classes"] == ["enhancing", "shadowing"] and description["task"] == "binary"
    assert (description["channels"], description["size"], description["epochs_trained"]) == (1, 28, 1)
    assert description["normalise"] == {"mean": [0.5], "std": [0.5]} and description["train_on"] == "train"
    assert description["seed"] == trial_seed(0, RETRAINED) and len(description["data_md5"]) == 32


def test_several_seeds_are_several_models(finished: SweepFolder) -> None:
    plan = make_plan(finished, stop=1, seeds=2)
    first, second = retrain(finished, finished.config(), plan, quiet)
    assert (first.name, second.name) == ("model", "model-1")
    assert not same(state(first), state(second))
    assert same(state(second), by_hand(finished, plan, 1))


def test_train_and_val(finished: SweepFolder) -> None:
    plan = make_plan(finished, stop=1, train_on="train+val")
    (path,) = retrain(finished, finished.config(), plan, quiet)
    _, description = load_model(path)
    assert description["train_on"] == "train+val"
    assert not [name for name in description["metrics"] if name.startswith("val/")]  # nothing is left to validate on
    assert not same(state(path), by_hand(finished, plan))


@pytest.mark.parametrize("killed_at", [(0, 2), (1, 1)])
def test_one_that_was_killed_goes_on_to_the_same_weights(finished: SweepFolder, killed_at: tuple[int, int]) -> None:
    plan, told = make_plan(finished, seeds=2), []

    def killed(index: int, record: EpochRecord) -> None:
        if (index, record.epoch) == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(finished, finished.config(), plan, killed)
    paths = retrain(finished, finished.config(), plan, lambda index, record: told.append((index, record.epoch)))
    for index, path in enumerate(paths):
        assert same(state(path), by_hand(finished, plan, index))
    assert (0, 1) not in told  # what has a checkpoint is not trained again
    if killed_at == (1, 1):
        assert {index for index, _ in told} == {1}  # nor is a model that is there


def test_another_plan_does_not_go_on_from_the_checkpoints_of_this_one(finished: SweepFolder) -> None:
    def killed(index: int, record: EpochRecord) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(finished, finished.config(), make_plan(finished), killed)
    old = make_plan(finished)
    other = replace(old, trial=99, config=old.config.model_copy(update={"batch_size": 64}))
    (path,) = retrain(finished, finished.config(), other, quiet)
    assert same(state(path), by_hand(finished, other))


def test_models_of_an_earlier_plan_are_not_taken_for_models_of_this_one(finished: SweepFolder) -> None:
    retrain(finished, finished.config(), make_plan(finished, stop=1, seeds=3), quiet)
    paths = retrain(finished, finished.config(), make_plan(finished, stop=1, seeds=1), quiet)
    assert retrained_models(finished) == paths


def test_models_come_in_the_order_of_their_seeds(finished: SweepFolder) -> None:
    names = ["model", *(f"model-{index}" for index in range(1, 12))]
    for name in reversed(names):
        (finished.retrained / name).mkdir(parents=True)
        (finished.retrained / name / "model.json").write_text("{}")
    assert [path.name for path in retrained_models(finished)] == names


def test_without_a_model_it_says_what_comes_first(finished_once: SweepFolder) -> None:
    with pytest.raises(FolderError, match="`medtune retrain .*` comes before the test"):
        retrained_models(finished_once)


def test_the_description_is_plain_json(finished: SweepFolder) -> None:
    (path,) = retrain(finished, finished.config(), make_plan(finished, stop=1), quiet)
    json.loads((path / "model.json").read_text(), parse_constant=pytest.fail)
    assert np.all([tensor.isfinite().all() for tensor in state(path).values()])
