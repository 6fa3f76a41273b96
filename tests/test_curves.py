import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medtune.curves import learning_curves, trained_plan
from medtune.evaluation.metrics import evaluate
from medtune.retraining.plan import Part, plan_retrain
from medtune.search.entries import best_entry
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.select import one_trial
from medtune.tracking import retrained as tracked
from medtune.tracking.retrained import curves_tracked
from medtune.tracking.spool import Spool, read_from
from medtune.unseal import unseal

NAMES = [f"{split}/{metric}" for split in ("train", "val", "test") for metric in ("loss", "auroc", "accuracy")]


class Untracked:
    """A tracker whose spool nobody empties."""

    def __init__(self, folder: SweepFolder, config: Any) -> None:
        self.spool = Spool(folder.tracking / "spool.jsonl")

    def __enter__(self) -> "Untracked":
        return self

    def __exit__(self, *_: Any) -> None: ...


def quiet(*_: Any) -> None: ...


def looks(folder: SweepFolder) -> int:
    return Ledger(folder, folder.config()).looks


def lines(folder: SweepFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder.retrained / "curves.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def tested_once(finished_once: SweepFolder, tmp_path_factory: pytest.TempPathFactory, made: Any) -> SweepFolder:
    """A sweep whose winner was retrained for two epochs of its three, and tested."""
    path = tmp_path_factory.mktemp("tested") / "runs" / "tiny"
    shutil.copytree(finished_once.path, path)
    return made(SweepFolder(path))


@pytest.fixture(scope="module")
def made(retrain_best: Any) -> Any:
    """Retrains the best trial for two epochs of its schedule, and opens the test."""

    def make(folder: SweepFolder, train_on: str = "train") -> SweepFolder:
        def stopped(part: Part) -> Part:
            return replace(part, takes={2: 1.0})

        config = folder.config()
        best = best_entry(Ledger(folder, config).entries(), "max")
        plan = plan_retrain(folder, config, one_trial(folder, config, best.number))
        retrain_best(folder, train_on=train_on, parts=tuple(map(stopped, plan.parts)))
        unseal(folder, config)
        return folder

    return make


@pytest.fixture
def tested(tested_once: SweepFolder, tmp_path: Path) -> SweepFolder:
    shutil.copytree(tested_once.path, tmp_path / "runs" / "tiny")
    return SweepFolder(tmp_path / "runs" / "tiny")


def draw(folder: SweepFolder, on_epoch: Any = quiet) -> dict[str, Any]:
    return learning_curves(folder, folder.config(), trained_plan(folder, folder.config()), on_epoch, again=True)


def test_a_line_an_epoch_of_the_whole_schedule_and_a_picture(tested: SweepFolder) -> None:
    before = {path: path.read_bytes() for path in (tested.retrained / "model").iterdir()}
    told: list[int] = []
    result = draw(tested, lambda epoch, values: told.append(epoch))
    assert told == [1, 2, 3] and [line.pop("epoch") for line in lines(tested)] == told
    assert all(list(line) == ["epoch", *NAMES] for line in lines(tested))
    assert Path(result["picture"]).read_bytes().startswith(b"\x89PNG")
    assert Path(result["curves"]) == tested.retrained / "curves.jsonl" and result["epochs"] == 3
    assert before == {path: path.read_bytes() for path in (tested.retrained / "model").iterdir()}


def test_at_its_last_epoch_the_model_is_the_one_that_was_tested(tested: SweepFolder) -> None:
    draw(tested)
    with np.load(tested.retrained / "model" / "test.npz") as kept:
        test = evaluate(kept["logits"], kept["labels"], "binary")
    description = json.loads((tested.retrained / "model" / "model.json").read_text())
    for metric in ("loss", "auroc", "accuracy"):
        assert lines(tested)[1][f"test/{metric}"] == pytest.approx(test[metric], abs=1e-6)
        assert lines(tested)[1][f"val/{metric}"] == description["members"][0]["metrics"][f"val/{metric}"]
    official = next((tested.retrained / "model").glob("*_train_*.csv")).name
    assert f"[AUC]{lines(tested)[1]['train/auroc']:.3f}_[ACC]{lines(tested)[1]['train/accuracy']:.3f}" in official


def test_of_train_and_val_together_too(finished: SweepFolder, made: Any) -> None:
    made(finished, train_on="train+val")
    draw(finished)
    test = json.loads((finished.path / "test.json").read_text())
    assert lines(finished)[1]["test/auroc"] == pytest.approx(test["auroc"]["value"], abs=1e-6)
    assert list(lines(finished)[1]) == ["epoch", *NAMES]


def test_it_is_one_look_more(tested: SweepFolder) -> None:
    assert looks(tested) == 1
    with pytest.raises(FolderError, match="--again"):
        learning_curves(tested, tested.config(), trained_plan(tested, tested.config()), quiet, again=False)
    assert draw(tested)["looks"] == 2 == looks(tested)


def test_while_the_test_is_sealed_it_is_refused(
    finished: SweepFolder, monkeypatch: pytest.MonkeyPatch, retrain_best: Any
) -> None:
    with pytest.raises(FolderError, match="retrain"):
        trained_plan(finished, finished.config())
    retrain_best(finished, epochs=1)
    with pytest.raises(FolderError, match=r"never for a choice: `medtune test .*` comes first"):
        trained_plan(finished, finished.config())
    monkeypatch.setattr(tracked, "Tracker", lambda *_: pytest.fail("begun"))
    with pytest.raises(FolderError):
        curves_tracked(finished, finished.config(), quiet, again=True)
    assert looks(finished) == 0


def test_an_interrupt_leaves_the_epochs_that_there_were(tested: SweepFolder) -> None:
    def interrupt(epoch: int, values: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tested, interrupt)
    assert [line["epoch"] for line in lines(tested)] == [1, 2] and looks(tested) == 2
    assert not (tested.retrained / "curves.png").exists()


@pytest.mark.parametrize("on", [True, False])
def test_they_stand_on_the_retrained_run_and_in_tensorboard_where_that_is_on(
    tested: SweepFolder, monkeypatch: pytest.MonkeyPatch, on: bool
) -> None:
    monkeypatch.setattr(tracked, "Tracker", Untracked)
    config = tested.config()
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"tensorboard": on})})
    said: list[str] = []
    for _ in range(2):  # a second time overwrites
        curves_tracked(tested, config, said.append, again=True)
    events = [line.event for line in read_from(tested.tracking / "spool.jsonl", 0)][-6:]
    looked = events.pop(3)
    assert (looked["run"], looked["do"], looked["tags"]) == ("sweep", "tags", {"looks": 3})
    assert [event["run"] for event in events] == ["retrain-0"] * 5
    assert [event["do"] for event in events] == ["metrics"] * 3 + ["files", "end"]
    assert events[-2]["folder"] == "retrain" and events[-1]["tags"] == {"looks": 3}
    for event, line in zip(events, lines(tested), strict=False):
        assert event["curves/test_auroc"] == line["test/auroc"] and event["curves/train_loss"] == line["train/loss"]
    assert said[0].startswith("epoch 1 of 3: train/auroc ")
    where = tested.path / "tensorboard"
    assert where.exists() == on
    if on:
        read = EventAccumulator(str(where / "retrain")).Reload()
        assert sorted(read.Tags()["scalars"]) == sorted(NAMES)
        for name in NAMES:
            wanted = [(line["epoch"], pytest.approx(line[name], rel=1e-6)) for line in lines(tested)]
            assert [(event.step, event.value) for event in read.Scalars(name)] == wanted


def test_another_retraining_takes_what_the_last_one_showed_with_it(tested: SweepFolder, retrain_best: Any) -> None:
    draw(tested)
    (tested.path / "tensorboard" / "retrain").mkdir(parents=True)
    retrain_best(tested, epochs=1)
    left = [tested.path / "test.json", tested.path / "tensorboard" / "retrain", tested.retrained / "curves.jsonl"]
    assert not any(path.exists() for path in left) and (tested.retrained / "model" / "model.json").exists()
