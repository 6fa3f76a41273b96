import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtune.config.sweep import SweepConfig, TrainOn
from medtune.config.trial import MultiStep, Plateau, TrialConfig
from medtune.data.batches import join, to_device
from medtune.data.splits import load_search_splits
from medtune.evaluation.metrics import evaluate, probabilities
from medtune.retraining.plan import Part, Plan, _alone, plan_as_json, plan_of, plan_retrain
from medtune.retraining.result import default_model, retrained_models
from medtune.retraining.train import Piece, retrain
from medtune.search import worker
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.jobs import TrainingFailed
from medtune.search.launch import in_this_process
from medtune.select import one_trial
from medtune.selection.ensembles import Ensemble, Member
from medtune.trained.model import TrainedModel, read_description
from medtune.training.loop import Training
from medtune.training.schedules import plateaus
from medtune.training.seeds import RETRAINED, trial_seed

State = dict[str, torch.Tensor]


def quiet(piece: Piece, record: dict[str, Any]) -> None: ...


def state(path: Path, member: int = 0) -> State:
    return TrainedModel.load(path).members[member].network.state_dict()


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def by_hand(folder: SweepFolder, part: Part, epochs: int, index: int = 0, both: bool = False) -> State:
    """The weights of a training of a part's configuration on train, or on it and validation, after so many epochs."""
    train, val = (to_device(split, "cpu") for split in load_search_splits(folder.config().data))
    fitted = join(train, val) if both else train
    training = Training(part.config, "binary", 2, fitted, trial_seed(0, RETRAINED + index))
    for _ in range(epochs):
        training.run_epoch(None if both else val)
    return training.model.state_dict()


@pytest.fixture
def plan(finished_once: SweepFolder) -> Plan:
    """The first trial that is not the default, for two epochs of its three."""
    config = finished_once.config()
    made = plan_retrain(finished_once, config, Ensemble("single", (Member(1, 2, 1.0),)), with_default=False)
    assert made.parts[0].config.epochs == 3
    return made


@pytest.fixture
def train(finished: SweepFolder) -> Callable[..., list[Path]]:
    def run(plan: Plan, on_epoch: Any = quiet) -> list[Path]:
        return retrain(finished, finished.config(), plan, on_epoch, in_this_process)

    return run


def test_a_model_is_its_trial_trained_on_all_of_train(finished: SweepFolder, plan: Plan, train: Any) -> None:
    told: list[Any] = []
    (path,) = train(plan, lambda piece, record: told.append((piece.model, piece.part.trial, record["epoch"])))
    assert path == finished.path / "retrain" / "model" and told == [("model", 1, 1), ("model", 1, 2)]
    assert same(state(path), by_hand(finished, plan.parts[0], 2))
    assert retrained_models(finished) == [path] and default_model(finished) is None
    assert not list(finished.retrained.glob("*trial*"))  # the checkpoints have gone


def test_what_lies_beside_the_weights_is_enough_to_rebuild_the_model(
    finished: SweepFolder, plan: Plan, train: Any
) -> None:
    (path,) = train(plan)
    model, val = TrainedModel.load(path), load_search_splits(finished.config().data)[1]
    assert not model.first.network.training
    logits = model.logits(to_device(val, "cpu"))
    description = read_description(path)
    (member,) = description["members"]
    for name, value in evaluate(logits, val.labels, "binary").items():
        assert member["metrics"][f"val/{name}"] == pytest.approx(value, abs=1e-6)
    assert description["classes"] == ["enhancing", "shadowing"] and description["task"] == "binary"
    assert (description["channels"], description["size"], member["epochs_trained"]) == (1, 28, 2)
    assert member["normalise"] == {"mean": [0.5], "std": [0.5]} and description["train_on"] == "train"
    assert member["seed"] == trial_seed(0, RETRAINED) and len(description["data_md5"]) == 32
    assert description["chosen"] == "trial 1 up to epoch 2"
    json.loads((path / "model.json").read_text(), parse_constant=pytest.fail)


def test_several_seeds_are_several_models(finished: SweepFolder, plan: Plan, train: Any) -> None:
    first, second = train(replace(plan, seeds=2))
    assert (first.name, second.name) == ("model", "model-1")
    assert not same(state(first), state(second))
    assert same(state(second), by_hand(finished, plan.parts[0], 2, 1))


def test_the_untuned_default_is_trained_the_same_way(finished: SweepFolder, train: Any) -> None:
    config = finished.config()
    plan = plan_retrain(finished, config, Ensemble("single", (Member(1, 1, 1.0),)), epochs=1)
    train(plan)
    path = default_model(finished)
    assert path is not None and plan.default is not None and plan.default.trial == 0
    assert same(state(path), by_hand(finished, plan.default, 1))
    assert plan_retrain(finished, config, one_trial(finished, config, 0)).default is None  # it is that itself


def test_an_ensemble_is_the_weighted_mean_of_its_members(finished: SweepFolder, train: Any) -> None:
    members = (Member(1, 1, 0.2), Member(1, 3, 0.5), Member(2, 1, 0.3))
    plan = plan_retrain(finished, finished.config(), Ensemble("bagged", members), with_default=False)
    assert [(part.trial, dict(part.takes)) for part in plan.parts] == [(1, {1: 0.2, 3: 0.5}), (2, {1: 0.3})]
    said: list[Any] = []
    (path,) = train(plan, lambda piece, record: said.append((piece.part.trial, record["epoch"])))
    assert said == [(1, 1), (1, 2), (1, 3), (2, 1)]  # two epochs of a trial are one training
    assert same(state(path, 0), by_hand(finished, plan.parts[0], 1))
    assert same(state(path, 1), by_hand(finished, plan.parts[0], 3))
    model, val = TrainedModel.load(path), load_search_splits(finished.config().data)[1]
    split = to_device(val, "cpu")
    shown = [
        probabilities(member.network(split.batch(slice(None))[0]).detach().numpy(), "binary")
        for member in model.members
    ]
    wanted = 0.2 * shown[0] + 0.5 * shown[1] + 0.3 * shown[2]
    np.testing.assert_allclose(probabilities(model.logits(split), "binary"), wanted, atol=1e-6)
    assert model.first.trial == 1 and "ensemble of the trials 1, 2" in model.chosen


@pytest.mark.parametrize("members", [(Member(1, 2, 1.0),), (Member(1, 2, 0.6), Member(2, 1, 0.4))])
def test_train_and_val(finished: SweepFolder, train: Any, members: tuple[Member, ...]) -> None:
    chosen = Ensemble("single" if len(members) == 1 else "bagged", members)
    plan = plan_retrain(finished, finished.config(), chosen, train_on="train+val", with_default=False)
    (path,) = train(plan)
    description = read_description(path)
    assert description["train_on"] == "train+val"
    # nothing is left to validate on: what is decided is decided by what the trials said
    assert not [name for name in description["members"][0]["metrics"] if name.startswith("val/")]
    assert same(state(path), by_hand(finished, plan.parts[0], 2, both=True))
    assert "thresholds" in description["decided"] and description["decided"]["thresholds"]


@pytest.mark.parametrize("killed_at", [("model", 2), ("model-1", 1)])
def test_one_that_was_killed_goes_on_to_the_same_weights(
    finished: SweepFolder, plan: Plan, train: Any, killed_at: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, told, trained = replace(plan, seeds=2), [], []

    def killed(piece: Piece, record: dict[str, Any]) -> None:
        if (piece.model, record["epoch"]) == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(plan, killed)
    with monkeypatch.context() as patch:
        run_epoch = Training.run_epoch
        patch.setattr(Training, "run_epoch", lambda self, val: trained.append(self.epoch + 1) or run_epoch(self, val))
        paths = train(plan, lambda piece, record: told.append((piece.model, record["epoch"])))
    for index, path in enumerate(paths):
        assert same(state(path), by_hand(finished, plan.parts[0], 2, index))
    assert told == [(model, epoch) for model in ("model", "model-1") for epoch in (1, 2)]  # a checkpoint's too
    assert len(trained) == (2 if killed_at == ("model", 2) else 1)
    assert train(plan, lambda *_: pytest.fail("trained again")) == paths


def test_another_plan_does_not_go_on_from_the_checkpoints_of_this_one(
    finished: SweepFolder, plan: Plan, train: Any
) -> None:
    def killed(piece: Piece, record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(plan, killed)
    (part,) = plan.parts
    other = replace(plan, parts=(replace(part, config=part.config.model_copy(update={"batch_size": 64})),))
    (path,) = train(other)
    assert same(state(path), by_hand(finished, other.parts[0], 2))


def test_models_of_an_earlier_plan_are_not_taken_for_models_of_this_one(
    finished: SweepFolder, plan: Plan, train: Any
) -> None:
    train(replace(plan, seeds=3))
    paths = train(plan)
    assert retrained_models(finished) == paths


def test_a_training_that_fails_is_named_and_the_others_are_kept(
    finished: SweepFolder, plan: Plan, train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worker._epochs

    def failing(job: Any, *others: Any) -> Any:
        if job.seed == trial_seed(0, RETRAINED + 1):
            raise ValueError("no more")
        return real(job, *others)

    monkeypatch.setattr(worker, "_epochs", failing)
    with pytest.raises(TrainingFailed, match="model-1, trial 1 failed: ValueError: no more"):
        train(replace(plan, seeds=2))
    monkeypatch.undo()
    told: list[Any] = []
    train(replace(plan, seeds=2), lambda piece, record: told.append(piece.model))
    assert set(told) == {"model", "model-1"}  # of the whole one only what its checkpoint has


def test_models_come_in_the_order_of_their_seeds_and_only_when_all_are_there(
    finished: SweepFolder, plan: Plan, train: Any
) -> None:
    train(plan)
    twelve = replace(plan, seeds=12)
    (finished.retrained / "plan.json").write_text(json.dumps(plan_as_json(twelve)))
    for name in reversed(twelve.models[1:]):
        with pytest.raises(FolderError, match="no whole retraining, model-.* missing: `medtune retrain .*goes on"):
            retrained_models(finished)
        (finished.retrained / name).mkdir(parents=True)
        (finished.retrained / name / "model.json").write_text("{}")
    assert [path.name for path in retrained_models(finished)] == ["model", *(f"model-{k}" for k in range(1, 12))]


def test_on_a_shared_storage_another_plan_finds_no_checkpoints(
    finished: SweepFolder, plan: Plan, tmp_path: Path
) -> None:
    config = finished.config()
    shared = config.model_copy(update={"cluster": config.cluster.model_copy(update={"storage": str(tmp_path / "s")})})

    def killed(piece: Piece, record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(finished, shared, plan, killed, in_this_process)
    assert list((tmp_path / "s").rglob("*.safetensors"))
    (path,) = retrain(finished, shared, replace(plan, train_on="train+val"), quiet, in_this_process)
    assert same(state(path), by_hand(finished, plan.parts[0], 2, both=True))


def test_patience_does_not_end_a_training_whose_epochs_were_chosen(finished: SweepFolder, train: Any) -> None:
    """A metric that never improves: patience would end it after two epochs."""
    text = (finished.path / "sweep.yaml").read_text()
    assert "patience: null" in text
    (finished.path / "sweep.yaml").write_text(text.replace("patience: null", "patience: 1"))
    members = (Member(1, 1, 0.5), Member(1, 3, 0.5))
    plan = plan_retrain(finished, finished.config(), Ensemble("bagged", members), with_default=False)
    (path,) = train(plan)
    assert [member["epochs_trained"] for member in read_description(path)["members"]] == [1, 3]


def test_without_a_model_it_says_what_comes_first(finished_once: SweepFolder) -> None:
    with pytest.raises(FolderError, match="`medtune retrain .*` comes before the test"):
        retrained_models(finished_once)


class TestThePlan:
    @pytest.mark.parametrize("train_on", ["train", "train+val"])
    def test_of_a_plateau_falls_where_the_trial_fell_if_nothing_validates(self, train_on: TrainOn) -> None:
        """The loss improves in epochs 1 and 2 of 8 alone."""
        schedule = Plateau(metric="val/loss", patience=1, gamma=0.1)
        trial = TrialConfig(epochs=8, folds=3, schedule=schedule)
        records = [{"val/loss": loss} for loss in (1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6)]
        alone = _alone(trial, records, train_on)
        assert alone.folds is None
        if train_on == "train":
            assert alone.schedule == schedule
        else:
            wanted = [fall / 8 for fall in plateaus(schedule, [record["val/loss"] for record in records])]
            assert isinstance(alone.schedule, MultiStep) and wanted and list(alone.schedule.milestones) == wanted
            assert alone.schedule.gamma == schedule.gamma

    def test_of_an_earlier_version_is_refused_with_a_line(self, finished: SweepFolder) -> None:
        finished.retrained.mkdir()
        (finished.retrained / "plan.json").write_text('{"trial": 1, "best_epoch": 2, "seeds": 1}')
        with pytest.raises(FolderError, match="by an earlier medtune: `medtune retrain .*` makes the models anew"):
            plan_of(finished)

    def test_says_what_is_trained(self, finished_once: SweepFolder) -> None:
        config = finished_once.config()
        one = Ensemble("single", (Member(1, 2, 1.0),))
        assert plan_retrain(finished_once, config, one, epochs=1).chosen == "trial 1 up to epoch 1"
        best = config.model_copy(update={"retrain": config.retrain.model_copy(update={"select": "best"})})
        assert plan_retrain(finished_once, best, one).chosen == "trial 1 at its best epoch of 3"

    def test_is_read_again_as_it_was_written(self, finished: SweepFolder, train: Any) -> None:
        members = (Member(1, 1, 0.4), Member(2, 1, 0.6))
        plan = plan_retrain(finished, finished.config(), Ensemble("greedy", members), epochs=1)
        train(plan)
        assert plan_of(finished) == plan and plan.trial == 2

    def test_takes_other_epochs_and_seeds(self, finished_once: SweepFolder) -> None:
        config = finished_once.config()
        plan = plan_retrain(finished_once, config, Ensemble("single", (Member(1, 2, 1.0),)), 3, 10)
        (part,) = plan.parts
        assert (plan.seeds, dict(part.takes), part.config.epochs) == (3, {10: 1.0}, 10)
        assert plan.default is not None and dict(plan.default.takes) == {10: 1.0}

    def test_of_the_best_weights_runs_to_the_end_of_the_schedule(
        self, finished: SweepFolder, retrain_best: Any
    ) -> None:
        config: SweepConfig = finished.config()
        how = config.retrain.model_copy(update={"select": "best"})
        finished.write_config(config.model_copy(update={"retrain": how}))
        told: list[int] = []
        (path,) = retrain_best(finished, on_epoch=lambda piece, record: told.append(record["epoch"]))
        (member,) = read_description(path)["members"]
        assert told == [1, 2, 3] and member["epochs_trained"] in told
        val = to_device(load_search_splits(config.data)[1], "cpu")
        shown = evaluate(TrainedModel.load(path).logits(val), val.labels.numpy(), "binary")
        assert member["metrics"]["val/auroc"] == pytest.approx(shown["auroc"])
        with pytest.raises(FolderError, match="best needs validation"):
            plan_retrain(finished, finished.config(), one_trial(finished, config, 1), train_on="train+val")
