import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtune import replay as module
from medtune.config.write import dump_yaml
from medtune.config.yaml_text import load_yaml
from medtune.replay import Difference, Replayed, ReplayFailed, Verdict, best_epoch, compare, reasons, replay
from medtune.search.folder import SweepFolder
from medtune.search.record import Record, RecordError, record_in_folder

Change = Callable[[dict[str, Any]], Any]


def again(folder: SweepFolder, trial: int) -> tuple[Record, Replayed, Verdict]:
    """A trial of a sweep, replayed and compared."""
    record = record_in_folder(folder.path, trial)
    done = replay(record, lambda epoch, values: None)
    return record, done, compare(record, done)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit_config(folder: SweepFolder, trial: int, change: Change) -> None:
    """Changes a trial's config.yaml in place."""
    path = folder.trial(trial) / "config.yaml"
    tree = load_yaml(path.read_text())
    change(tree)
    path.write_text(dump_yaml(tree))


def edit_epochs(folder: SweepFolder, trial: int, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    path = folder.trial(trial) / "epochs.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    change(records)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


class TestTheSameAgain:
    def test_every_trial_of_a_sweep_and_its_folder_stays_as_it_is(self, tiny: Any, finished_once: SweepFolder) -> None:
        entries, states = tiny.entries(finished_once), set()  # opening a ledger writes into it
        before = contents(finished_once.path)
        for entry in entries:
            record, done, verdict = again(finished_once, entry.number)
            trained = len(record.epochs)
            assert verdict == Verdict(trained, 7 * trained, trained, []) and verdict.identical
            assert list(done.epochs) == sorted(entry.values)
            assert best_epoch(record, done.epochs) == entry.best_epoch
            states.add(entry.state)
        assert states == {"complete", "pruned"}
        assert contents(finished_once.path) == before

    def test_a_cross_validated_one(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "folds", "trial.folds=3", "trial.epochs=2", "search.trials=1")
        tiny.run(tiny.open(folder))
        _, _, verdict = again(folder, 0)
        assert verdict.identical and verdict.numbers == 2 * (7 + 5)  # the deviations too

    def test_one_that_was_killed_and_resumed(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "killed", "search.trials=1")
        tiny.run_killed(folder, 2)
        _, done, verdict = again(folder, 0)  # while it is unfinished: as far as it is
        assert verdict == Verdict(2, 14, 0, []) and not done.logits
        tiny.run(tiny.open(folder))
        assert again(folder, 0)[2] == Verdict(3, 21, 3, [])

    def test_one_whose_logits_were_kept_of_the_best_epoch_alone(self, finished: SweepFolder) -> None:
        kept = finished.predictions(0)
        finished.write_predictions(0, {**kept, "epochs": kept["epochs"][1:2], "logits": kept["logits"][1:2]})
        assert again(finished, 0)[2] == Verdict(3, 21, 1, [])

    def test_logits_of_an_epoch_that_nobody_was_told_of_are_not_compared(self, finished: SweepFolder) -> None:
        edit_epochs(finished, 0, lambda records: records.pop())  # a worker may be an epoch ahead when it is stopped
        assert again(finished, 0)[2] == Verdict(2, 14, 2, [])

    def test_a_trials_own_folder_is_enough(self, finished: SweepFolder, tmp_path: Path) -> None:
        shutil.copytree(finished.trial(1), tmp_path / "alone" / "copied")
        record = record_in_folder(tmp_path / "alone" / "copied", None)
        assert record.trial is None
        assert compare(record, replay(record, lambda *_: None)).identical
        assert record_in_folder(finished.trial(1), None).trial == 1

    def test_the_threads_and_the_objective_are_those_of_the_record(
        self, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        edit_config(
            finished, 0, lambda tree: tree.update(threads=2, objective={"metric": "val/loss", "direction": "min"})
        )
        asked: list[int] = []
        monkeypatch.setattr(torch, "set_num_threads", asked.append)
        record, done, _ = again(finished, 0)
        losses = {epoch: values["val/loss"] for epoch, values in done.epochs.items()}
        assert asked == [2] and best_epoch(record, done.epochs) == min(losses, key=losses.__getitem__)

    def test_each_epoch_is_told(self, finished_once: SweepFolder) -> None:
        told: list[tuple[int, dict[str, float]]] = []
        done = replay(record_in_folder(finished_once.path, 0), lambda epoch, values: told.append((epoch, values)))
        assert told == list(done.epochs.items()) and len(told) == 3


class TestWhatDiffers:
    def test_a_changed_number_is_found_and_named(self, finished: SweepFolder) -> None:
        edit_epochs(finished, 0, lambda records: records[1].update({"val/ece": np.nextafter(records[1]["val/ece"], 1)}))
        record, done, verdict = again(finished, 0)
        was, now = record.epochs[1]["val/ece"], done.epochs[2]["val/ece"]
        assert verdict.differences == [Difference(2, "val/ece", was, now)] and not verdict.identical
        assert 0 < verdict.differences[0].size < 1e-15

    def test_a_changed_bit_of_the_logits_too(self, finished: SweepFolder) -> None:
        kept = finished.predictions(0)
        logits = kept["logits"].copy()
        logits[2, 5, 1] = np.nextafter(logits[2, 5, 1], np.float32(9))
        finished.write_predictions(0, {**kept, "logits": logits})
        _, _, verdict = again(finished, 0)
        expected = Difference(3, "logits", float(logits[2, 5, 1]), float(kept["logits"][2, 5, 1]))
        assert verdict.differences == [expected]

    def test_another_seed_differs_in_every_loss(self, finished: SweepFolder) -> None:
        edit_config(finished, 0, lambda tree: tree.update(seed=tree["seed"] + 1))
        _, _, verdict = again(finished, 0)
        assert {d.epoch for d in verdict.differences if d.metric == "train/loss"} == {1, 2, 3}
        assert verdict.differences[0].epoch == 1 and verdict.differences[0].metric == "train/loss"

    def test_an_epoch_that_the_replay_has_not(self, finished: SweepFolder) -> None:
        edit_config(finished, 0, lambda tree: tree.update(epochs=2))
        missing = [one for one in again(finished, 0)[2].differences if one.epoch == 3]
        assert len(missing) == 8 and all(one.replayed is None and one.size == np.inf for one in missing)

    def test_what_is_not_defined_is_the_same_twice(self, finished_once: SweepFolder) -> None:
        record = record_in_folder(finished_once.path, 0)
        record.epochs[0]["val/ece"] = float("nan")
        done = replay(record, lambda *_: None)
        assert [one.metric for one in compare(record, done).differences] == ["val/ece"]
        done.epochs[1]["val/ece"] = float("nan")
        assert compare(record, done).identical

    def test_a_number_that_only_the_replay_has_is_none(self, finished: SweepFolder) -> None:
        edit_epochs(finished, 0, lambda records: [record.pop("val/brier") for record in records])
        assert again(finished, 0)[2] == Verdict(3, 18, 3, [])


class TestWhy:
    def test_other_versions_and_processors_are_named(self, finished: SweepFolder) -> None:
        def change(tree: dict[str, Any]) -> None:
            tree["versions"]["torch"] = "1.0"
            tree["processor"] = "Abacus"

        edit_config(finished, 0, change)
        record = record_in_folder(finished.path, 0)
        here = record_in_folder(finished.path, 1).used
        told = reasons(record, Replayed("cpu", {}, {}))
        assert told == [f"torch: 1.0 -> {here.versions['torch']}", f"processor: Abacus -> {here.processor}"]

    def test_other_devices_and_weights_too(self, finished: SweepFolder) -> None:
        edit_config(finished, 0, lambda tree: [tree.update(device="cuda"), tree["model"].update(weights="my.pth")])
        told = reasons(record_in_folder(finished.path, 0), Replayed("cpu", {}, {}))
        assert told[0] == "device: cuda -> cpu" and "my.pth" in told[1]

    def test_where_nothing_is_seen_that_is_said(self, finished_once: SweepFolder) -> None:
        (told,) = reasons(record_in_folder(finished_once.path, 0), Replayed("cpu", {}, {}))
        assert told.startswith("nothing that is known")

    def test_a_device_that_is_not_here_is_replaced_by_the_best_that_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "detect_device", lambda: "cuda")
        assert [module.device_here(wanted) for wanted in ("cpu", "mps")] == ["cpu", "cuda"]


class TestWhatIsRefused:
    def test_data_that_has_changed_before_anything_is_trained(
        self, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        edit_config(finished, 0, lambda tree: tree["data"].update(md5="0" * 32))
        monkeypatch.setattr(module, "search_data", lambda *_: pytest.fail("it was loaded"))
        with pytest.raises(RecordError, match=f"phantom-binary has changed since \\(MD5 {'0' * 32} then, "):
            again(finished, 0)

    def test_a_folder_of_pictures_that_has_changed(
        self, tiny: Any, tmp_path: Path, make_pictures: Callable[..., Path], cache: Path
    ) -> None:
        pictures = make_pictures({"a": 20, "b": 20})
        overrides = (f"data={{folder: {pictures}, size: 28}}", "search.trials=1", "trial.epochs=1")
        folder = tiny.create(tmp_path / "sweep", *overrides)
        tiny.run(tiny.open(folder))
        assert again(folder, 0)[2].identical
        moved = pictures.rename(tmp_path / "moved")
        record = record_in_folder(folder.path, 0)
        assert compare(record, replay(record, lambda *_: None, moved)).identical
        (moved / "a" / "0.png").unlink()
        with pytest.raises(RecordError, match=f"{moved} has changed since .* or say with --data where it still is"):
            replay(record, lambda *_: None, moved)

    def test_data_that_is_not_here(self, finished: SweepFolder) -> None:
        edit_config(finished, 0, lambda tree: tree["data"].update(dataset="breastmnist", root="/no/such/folder"))
        with pytest.raises(RecordError, match=r"its data was in /no/such/folder, .*; say with --data where it is"):
            again(finished, 0)

    def test_a_number_without_a_trial(self, tiny: Any, finished_once: SweepFolder, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match=f"{finished_once.path} has no trial 7: they are numbered 0 to 4"):
            record_in_folder(finished_once.path, 7)
        with pytest.raises(RecordError, match="has no trial 0: none has begun"):
            record_in_folder(tiny.create(tmp_path / "new").path, 0)

    def test_a_trial_without_an_epoch(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "begun")
        tiny.open(folder).next_job()
        with pytest.raises(RecordError, match=f"trial 0 of {folder.path} has no epoch yet"):
            record_in_folder(folder.path, 0)

    @pytest.mark.parametrize(
        "change", [lambda records: records.pop(0), lambda records: records[1].update({"val/ece": "0.1"})]
    )
    def test_a_damaged_curve(self, finished: SweepFolder, change: Callable[[list[dict[str, Any]]], Any]) -> None:
        edit_epochs(finished, 0, change)
        with pytest.raises(RecordError, match=r"trial 0 of .*: epochs.jsonl is damaged"):
            record_in_folder(finished.path, 0)

    def test_damaged_predictions_and_a_configuration_of_another_version(self, finished: SweepFolder) -> None:
        (finished.trial(0) / "validation.npz").write_bytes(b"PK")
        with pytest.raises(RecordError, match=r"validation.npz is damaged"):
            record_in_folder(finished.path, 0)
        edit_config(finished, 1, lambda tree: tree.update(warp=9))
        with pytest.raises(RecordError, match=r"trial 1 of .*: .*warp.* \(config.yaml is of medtune .*, this is "):
            record_in_folder(finished.path, 1)

    def test_what_is_no_trial(self, finished_once: SweepFolder) -> None:
        with pytest.raises(RecordError, match=r"there is no config.yaml, .*; give a trial's number, or its folder"):
            record_in_folder(finished_once.path, None)

    def test_a_training_that_fails_says_why(self, finished: SweepFolder) -> None:
        edit_config(finished, 0, lambda tree: tree.update(optimizer={"name": "sgd", "lr": 1e9}))
        with pytest.raises(ReplayFailed, match=r"trial 0 of .*, replayed: training diverged in epoch 1: loss "):
            again(finished, 0)


class TestRecordsOfAnEarlierVersion:
    @pytest.fixture
    def earlier(self, finished: SweepFolder) -> SweepFolder:
        """Without what was added."""
        edit_config(finished, 0, lambda tree: [tree.pop(key) for key in ("data", "objective", "processor")])
        return finished

    def test_the_sweeps_own_file_says_it(self, earlier: SweepFolder) -> None:
        record, _, verdict = again(earlier, 0)
        assert verdict.identical and record.used.data.md5 is None and record.used.processor is None
        assert record_in_folder(earlier.trial(0), None).used == record.used

    def test_without_that_a_line_does(self, earlier: SweepFolder) -> None:
        (earlier.path / "sweep.yaml").unlink()
        with pytest.raises(RecordError, match=r"an earlier medtune, .*: replay it from the folder of its sweep"):
            record_in_folder(earlier.path, 0)


def test_the_record_says_all_that_changes_a_number(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "tiny", "seed=7", "search={metric: val/auroc, best_epoch: val/loss}")
    tiny.open(folder).next_job()
    used = folder.used(0)
    assert used["objective"] == {"metric": "val/loss", "direction": "min"}
    assert used["data"]["dataset"] == "phantom-binary" and used["data"]["train_fraction"] == 0.1
    assert len(used["data"]["md5"]) == 32 and used["data"]["fraction_seed"] == 7
    assert used["processor"] and set(used["versions"]) == {"medtune", "torch", "torchvision", "numpy"}


def test_neither_ray_nor_optuna_nor_mlflow_is_needed() -> None:
    code = "import sys, medtune.replay; print({'ray', 'optuna', 'mlflow'} & set(sys.modules))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout == "set()\n"
