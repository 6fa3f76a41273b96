import math
import time
import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import optuna
import pytest
import torch

from medtune.cli.progress import Progress
from medtune.config.default import default_point, trial_config
from medtune.data.batches import to_device
from medtune.models.build import empty_model
from medtune.search.attempts import Attempts
from medtune.search.entries import best_entry
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted, Watcher
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.run import SweepRun
from medtune.search.sweep import reopen_sweep
from medtune.search.worker import run_job
from medtune.training.checkpoint import load_weights
from medtune.training.loop import predict_logits

NO_AUTOCAST = torch.autocast("cpu", torch.bfloat16, enabled=False)


class Recorder(Watcher):
    """Writes down all that it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.interrupted: bool | None = None

    def trial_started(self, event: TrialStarted) -> None:
        self.events.append(event)

    def epoch_ended(self, event: EpochEnded) -> None:
        self.events.append(event)

    def trial_ended(self, event: TrialEnded) -> None:
        self.events.append(event)

    def closed(self, interrupted: bool) -> None:
        self.interrupted = interrupted

    def epochs(self) -> list[tuple[int, int]]:
        return [(event.number, event.epoch) for event in self.events if isinstance(event, EpochEnded)]

    def ended(self) -> list[TrialEnded]:
        return [event for event in self.events if isinstance(event, TrialEnded)]


class Counting:
    """A pruner that stops nothing and writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def stop(self, trial: int, epoch: int, value: float) -> bool:
        self.asked.append((trial, epoch))
        return False


class StopAll:
    """A pruner that stops everything."""

    def stop(self, trial: int, epoch: int, value: float) -> bool:
        return True


@pytest.fixture
def seen() -> Recorder:
    return Recorder()


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> SweepFolder:
    return tiny.create(tmp_path / "tiny", "pruning={name: none}")


def say(run: SweepRun, number: int, epoch: int, value: float, last: bool = False) -> bool:
    """What a worker says of an epoch."""
    message = {"epoch": epoch, "last": last, "at": 1000.0 + epoch, "val/auroc": value, "train/loss": 0.5}
    return run.message(number, message)


def start(run: SweepRun) -> int:
    job = run.next_job()
    assert job is not None
    return job.trial


def records(folder: SweepFolder) -> dict[int, list[dict[str, Any]]]:
    """What each trial measured, without what time it was."""
    numbers = sorted(int(path.name) for path in (folder.path / "trials").iterdir())
    return {
        number: [
            {key: value for key, value in record.items() if key not in ("at", "epoch_seconds")}
            for record in folder.epochs(number)
        ]
        for number in numbers
    }


class TestWhatComesNext:
    def test_the_default_then_what_the_file_starts_with_then_the_sampler(self, tiny: Any, tmp_path: Path) -> None:
        start_with = "[{optimizer: {name: sgd, lr: 0.02}}, {batch_size: 32, model.dropout: 0.25}]"
        run = tiny.open(tiny.create(tmp_path / "tiny", f"search.start_with={start_with}"))
        jobs = [run.next_job() for _ in range(4)]
        assert [job.trial for job in jobs] == [0, 1, 2, 3]
        default = trial_config(run.config.trial, default_point(run.config.trial))
        assert jobs[0].config == default.model_dump(mode="json")
        assert jobs[0].config["optimizer"]["name"] == "adam" and jobs[0].config["batch_size"] == 16
        assert (jobs[1].config["optimizer"]["name"], jobs[1].config["optimizer"]["lr"]) == ("sgd", 0.02)
        assert (jobs[2].config["batch_size"], jobs[2].config["model"]["dropout"]) == (32, 0.25)
        assert 0 < jobs[3].config["model"]["dropout"] != 0.25
        assert len({job.seed for job in jobs}) == 4

    def test_after_a_restart_the_presets_go_on_where_they_were(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "tiny", "search.start_with=[{batch_size: 32}, {model.dropout: 0.5}]")
        first = tiny.open(folder)
        start(first), start(first)
        second = tiny.open(folder)
        jobs = [second.next_job() for _ in range(3)]
        assert [job.trial for job in jobs] == [0, 1, 2]  # the two that were running, then the next
        assert jobs[1].config["batch_size"] == 32 and jobs[2].config["model"]["dropout"] == 0.5

    def test_no_more_than_wanted_and_failures_count(self, tiny: Any, folder: SweepFolder) -> None:
        run = tiny.open(folder)
        for _ in range(5):
            number = start(run)
            assert not run.message(number, {"failed": "training diverged in epoch 1: loss nan"})
        assert run.next_job() is None
        assert [entry.state for entry in tiny.entries(folder)] == ["failed"] * 5

    def test_a_grid_runs_each_of_its_points_once_whatever_happens(self, tiny: Any, tmp_path: Path) -> None:
        space = "{batch_size: {choice: [16, 32]}, optimizer: {choice: [{name: adam}, {name: sgd}]}}"
        folder = tiny.create(
            tmp_path / "grid", f"trial={space}", "search={sampler: grid, trials: 40}", "pruning={name: none}"
        )
        points: dict[int, tuple[int, str]] = {}
        for _ in range(6):  # each time killed while two trials run, of which the first comes to an end
            run = tiny.open(folder)
            for job in (run.next_job(), run.next_job()):
                if job is not None:
                    point = (job.config["batch_size"], job.config["optimizer"]["name"])
                    assert points.setdefault(job.trial, point) == point
            if run.live:
                run.end(min(run.live), "failed", "-")
        assert run.wanted == 4 and run.next_job() is None
        assert set(points) == {0, 1, 2, 3} and len(set(points.values())) == 4

    def test_nothing_starts_after_an_interrupt_or_beyond_the_budget(self, tiny: Any, folder: SweepFolder) -> None:
        run = tiny.open(folder)
        run.deadline = time.monotonic() + 3600
        assert start(run) == 0 and not run.stopping
        run.deadline = time.monotonic() - 1
        assert run.stopping and run.next_job() is None
        run = tiny.open(folder)
        run.interrupt()
        assert run.stopping and run.next_job() is None


class TestMessages:
    def test_an_epoch_goes_to_the_ledger_the_folder_and_the_watchers(
        self, tiny: Any, folder: SweepFolder, seen: Recorder
    ) -> None:
        run = tiny.open(folder, seen)
        assert say(run, start(run), 1, 0.7)
        assert tiny.entries(folder)[0].values == {1: 0.7}
        assert folder.epochs(0) == [{"epoch": 1, "at": 1001.0, "val/auroc": 0.7, "train/loss": 0.5}]
        started, ended = seen.events
        assert (started.number, started.attempt) == (0, 1)
        expected = {"batch_size": 16, "model.dropout": 0.0, "optimizer.name": "adam", "optimizer.lr": 1e-3}
        assert started.swept == expected
        assert ended == EpochEnded(0, 1, 1001.0, {"val/auroc": 0.7, "train/loss": 0.5})

    def test_what_is_told_again_is_not_written_again(self, tiny: Any, folder: SweepFolder) -> None:
        first = tiny.open(folder)
        number = start(first)
        say(first, number, 1, 0.7), say(first, number, 2, 0.6)
        again, pruner = Recorder(), Counting()
        run = tiny.open(folder, again, pruner=pruner)
        assert start(run) == number and pruner.asked == [(number, 1), (number, 2)]  # the past
        assert say(run, number, 1, 0.7) and say(run, number, 2, 0.6) and say(run, number, 3, 0.8)
        assert [record["epoch"] for record in folder.epochs(number)] == [1, 2, 3]
        assert again.epochs() == [(0, 3)] and pruner.asked[2:] == [(number, 3)]
        assert tiny.entries(folder)[0].values == {1: 0.7, 2: 0.6, 3: 0.8}

    def test_an_epoch_that_reached_only_the_folder_reaches_the_ledger(
        self, tiny: Any, folder: SweepFolder, killed_in: Any
    ) -> None:
        run = tiny.open(folder)
        number = start(run)
        with killed_in(run.ledger, "report"):
            say(run, number, 1, 0.7)
        run = tiny.open(folder)
        assert start(run) == number and say(run, number, 1, 0.7) and say(run, number, 2, 0.6)
        assert tiny.entries(folder)[0].values == {1: 0.7, 2: 0.6}
        assert [record["epoch"] for record in folder.epochs(number)] == [1, 2]

    def test_a_line_that_was_cut_short_is_written_again(self, tiny: Any, folder: SweepFolder) -> None:
        run = tiny.open(folder)
        number = start(run)
        with (folder.trial(number) / "epochs.jsonl").open("a") as file:
            file.write('{"epoch": 1, "val/au')
        run = tiny.open(folder)
        start(run), say(run, number, 1, 0.7), say(run, number, 2, 0.6)
        assert [record["epoch"] for record in folder.epochs(number)] == [1, 2]

    def test_the_best_epoch_may_lie_before_the_kill(self, tiny: Any, folder: SweepFolder, seen: Recorder) -> None:
        run = tiny.open(folder)
        number = start(run)
        say(run, number, 1, 0.9), say(run, number, 2, 0.6)
        run = tiny.open(folder, seen)
        start(run), say(run, number, 3, 0.8, last=True)
        assert (seen.ended()[0].best_epoch, seen.ended()[0].best["val/auroc"]) == (1, 0.9)
        assert tiny.entries(folder)[0].value == 0.9


class TestHowATrialEnds:
    def test_its_last_epoch_makes_it_complete_whatever_the_pruner_says(self, tiny: Any, folder: SweepFolder) -> None:
        run = tiny.open(folder, pruner=StopAll())
        start(run)
        number = start(run)
        assert not say(run, number, 1, 0.7, last=True)
        assert tiny.entries(folder)[number].state == "complete"

    def test_the_pruner_prunes_all_but_trial_0(self, tiny: Any, folder: SweepFolder, seen: Recorder) -> None:
        run = tiny.open(folder, seen, pruner=StopAll())
        default, other = start(run), start(run)
        assert say(run, default, 1, 0.5) and not say(run, other, 1, 0.9)
        assert [entry.state for entry in tiny.entries(folder)] == ["unfinished", "pruned"]
        assert seen.ended() == [TrialEnded(1, "pruned", 1, {"val/auroc": 0.9, "train/loss": 0.5}, at=1001.0)]

    def test_a_failure_says_why(self, tiny: Any, folder: SweepFolder, seen: Recorder) -> None:
        run = tiny.open(folder, seen)
        number = start(run)
        say(run, number, 1, 0.7)
        assert not run.message(number, {"failed": "training diverged in epoch 2: loss nan"})
        entry = tiny.entries(folder)[0]
        assert (entry.state, entry.note) == ("failed", "training diverged in epoch 2: loss nan")
        assert seen.ended()[0].state == "failed" and "diverged" in seen.ended()[0].note
        assert number not in run.live

    def test_without_any_value_it_has_failed(self, tiny: Any, folder: SweepFolder) -> None:
        run = tiny.open(folder)
        number = start(run)
        say(run, number, 1, math.nan), say(run, number, 2, math.nan, last=True)
        entry = tiny.entries(folder)[0]
        assert entry.state == "failed" and "val/auroc is not defined" in entry.note

    def test_nan_in_between_is_no_best_epoch(self, tiny: Any, folder: SweepFolder) -> None:
        run = tiny.open(folder)
        number = start(run)
        for epoch, value in enumerate([math.nan, 0.6, math.nan], start=1):
            say(run, number, epoch, value, last=epoch == 3)
        assert (tiny.entries(folder)[0].state, tiny.entries(folder)[0].value) == ("complete", 0.6)

    def test_what_runs_when_the_engine_stops_is_unfinished(
        self, tiny: Any, folder: SweepFolder, seen: Recorder
    ) -> None:
        run = tiny.open(folder, seen)
        start(run), start(run)
        say(run, 0, 1, 0.7)
        run.interrupt()
        run.close()
        assert [(event.number, event.state) for event in seen.ended()] == [(0, "unfinished"), (1, "unfinished")]
        assert seen.interrupted is True
        assert [entry.state for entry in tiny.entries(folder)] == ["unfinished"] * 2


class TestConstraints:
    @pytest.fixture
    def limited(self, tiny: Any, tmp_path: Path) -> SweepFolder:
        limits = "search.constraints={val/ece: {max: 0.1}, val/accuracy: {min: 0.8}}"
        return tiny.create(tmp_path / "limited", limits, "pruning={name: none}")

    def tell(self, run: SweepRun, auroc: float, ece: float, accuracy: float) -> None:
        """A trial with these values in its first of two epochs, which is the best."""
        number = start(run)
        best = {"val/auroc": auroc, "val/ece": ece, "val/accuracy": accuracy}
        if run.message(number, {"epoch": 1, "last": False, "at": 0.0, **best}):
            run.message(number, {"epoch": 2, "last": True, "at": 0.0, **best, "val/auroc": 0.5, "val/ece": 0.0})

    def test_a_trial_is_held_against_them_at_its_best_epoch(self, tiny: Any, limited: SweepFolder) -> None:
        run = tiny.open(limited)
        self.tell(run, 0.9, 0.3, 0.9), self.tell(run, 0.8, 0.15, 0.7), self.tell(run, 0.6, 0.1, 0.8)
        assert [entry.violation for entry in tiny.entries(limited)] == pytest.approx([0.2, 0.15, 0])
        assert best_entry(tiny.entries(limited), "max").number == 2
        assert best_entry(tiny.entries(limited)[:2], "max").number == 1

    def test_pruned_trials_set_none_and_are_pruned_by_the_metric_alone(self, tiny: Any, limited: SweepFolder) -> None:
        run = tiny.open(limited)
        self.tell(run, 0.9, 0.3, 0.9)
        run.pruner = StopAll()
        self.tell(run, 0.95, 0.3, 0.9)
        default, pruned = tiny.entries(limited)
        assert (default.state, default.violation) == ("complete", pytest.approx(0.2))
        assert (pruned.state, pruned.violation) == ("pruned", 0)
        assert best_entry([default, pruned], "max") == default

    def test_one_that_is_not_defined_is_broken(self, tiny: Any, limited: SweepFolder) -> None:
        self.tell(tiny.open(limited), 0.9, math.nan, 0.9)
        assert (tiny.entries(limited)[0].state, tiny.entries(limited)[0].violation) == ("complete", 1)

    def test_weights_are_kept_of_those_that_keep_them(self, tiny: Any, tmp_path: Path) -> None:
        small = ["keep.weights=1", "search.trials=2", "trial.epochs=1", "pruning={name: none}"]
        free = tiny.create(tmp_path / "free", *small)
        tiny.run(tiny.open(free))
        (best,) = free.with_weights()
        (record,) = free.epochs(1 - best)
        side = "max" if record["val/ece"] < free.epochs(best)[0]["val/ece"] else "min"
        limit = f"search.constraints={{val/ece: {{{side}: {record['val/ece']}}}}}"
        limited = tiny.create(tmp_path / "limited", *small, limit)
        tiny.run(tiny.open(limited))
        assert limited.with_weights() == [1 - best]


class TestTheBestEpochByAnotherMetric:
    @pytest.fixture
    def by_loss(self, tiny: Any, tmp_path: Path) -> SweepFolder:
        return tiny.create(tmp_path / "by-loss", "search.best_epoch=val/loss", "pruning={name: none}")

    LOSSES = (0.5, 0.4, 0.4, 0.6)
    AUROCS = (0.6, 0.7, 0.95, 0.8)

    def say(self, run: SweepRun, number: int, epochs: range) -> None:
        for epoch in epochs:
            values = {"val/loss": self.LOSSES[epoch - 1], "val/auroc": self.AUROCS[epoch - 1]}
            run.message(number, {"epoch": epoch, "last": epoch == 4, "at": 0.0, **values})

    def test_a_value_is_the_metric_where_the_other_is_first_best(
        self, tiny: Any, by_loss: SweepFolder, seen: Recorder
    ) -> None:
        run = tiny.open(by_loss, seen)
        job = run.next_job()
        assert (job.metric, job.direction) == ("val/loss", "min")
        self.say(run, job.trial, range(1, 5))
        entry = tiny.entries(by_loss)[0]
        assert (entry.best_epoch, entry.value) == (2, 0.7)
        assert entry.values == dict(enumerate(self.AUROCS, start=1))  # which is what the pruner sees
        assert (seen.ended()[0].best_epoch, seen.ended()[0].best["val/auroc"]) == (2, 0.7)

    @pytest.mark.parametrize("name", ["report", "set_user_attr"])
    @pytest.mark.parametrize("after", [1, 2, 3])
    def test_a_kill_anywhere_changes_nothing(
        self, after: int, name: str, tiny: Any, by_loss: SweepFolder, killed_in: Any
    ) -> None:
        run = tiny.open(by_loss)
        number = start(run)
        self.say(run, number, range(1, after))
        cut = {"report": range(after, after + 1), "set_user_attr": range(after, 5)}[name]
        if name == "report" or after < 3:
            with killed_in(optuna.Trial, name):
                self.say(run, number, cut)
        run = tiny.open(by_loss)
        start(run)
        self.say(run, number, range(1, 5))  # the worker tells all that its checkpoint has once more
        assert (tiny.entries(by_loss)[0].best_epoch, tiny.entries(by_loss)[0].value) == (2, 0.7)

    def test_kept_weights_and_predictions_are_of_that_epoch(self, tiny: Any, tmp_path: Path) -> None:
        metric = "search.best_epoch=val/ece"
        folder = tiny.create(tmp_path / "tiny", metric, "search.trials=3", "keep.last=true", "pruning={name: none}")
        tiny.run_killed(folder, 4)
        tiny.run(tiny.open(folder))
        config, val = folder.config(), tiny.data(folder.config()).val
        for entry in tiny.entries(folder):
            eces = [record["val/ece"] for record in folder.epochs(entry.number)]
            assert entry.best_epoch == eces.index(min(eces)) + 1
            assert entry.value == folder.epochs(entry.number)[entry.best_epoch - 1]["val/auroc"]
        for number in folder.with_weights():
            trial = trial_config(config.trial, tiny.open(folder).ledger.point(number))
            logits = folder.predictions(number)["logits"]
            for which, epoch in (("best", tiny.entries(folder)[number].best_epoch), ("last", 3)):
                model = empty_model(trial.model, 1, 2, 28)
                load_weights(str(folder.trial(number) / which / "model.safetensors"), model)
                again = predict_logits(model, to_device(val, "cpu"), NO_AUTOCAST)
                np.testing.assert_allclose(again, logits[epoch - 1], atol=1e-5)

    def test_without_the_other_metric_the_trial_has_failed(self, tiny: Any, by_loss: SweepFolder) -> None:
        run = tiny.open(by_loss)
        values = {"val/loss": math.nan, "val/auroc": 0.8}
        run.message(start(run), {"epoch": 1, "last": True, "at": 0.0, **values})
        assert "val/loss is not defined" in tiny.entries(by_loss)[0].note


class TestAWholeSweep:
    def test_every_trial_leaves_what_the_design_says(self, tiny: Any, finished_once: SweepFolder) -> None:
        entries = tiny.entries(finished_once)
        assert len(entries) == 5 and {entry.state for entry in entries} == {"complete", "pruned"}
        val = tiny.data(finished_once.config()).val
        for entry in entries:
            trial = finished_once.trial(entry.number)
            assert {path.name for path in trial.iterdir()} - {"best"} == {
                "config.yaml",
                "epochs.jsonl",
                "validation.npz",
            }
            predictions = finished_once.predictions(entry.number)
            epochs = [record["epoch"] for record in finished_once.epochs(entry.number)]
            assert predictions["logits"].dtype == np.float32
            assert predictions["logits"].shape == (len(epochs), len(val), 2)
            assert predictions["epochs"].tolist() == epochs == sorted(entry.values)
            np.testing.assert_array_equal(predictions["labels"], val.labels)
            np.testing.assert_array_equal(predictions["cases"], np.arange(len(val)))

    def test_trial_configurations_hold_what_changes_numbers(self, finished_once: SweepFolder) -> None:
        text = (finished_once.trial(1) / "config.yaml").read_text()
        for key in ("seed: ", "precision: float32", "threads: 1", "device: cpu", "torch: ", "numpy: ", "lr: "):
            assert key in text

    def test_kept_weights_are_those_of_the_best_trials_at_their_best_epochs(
        self, tiny: Any, finished_once: SweepFolder
    ) -> None:
        config, entries = finished_once.config(), tiny.entries(finished_once)
        ranked = sorted(entries, key=lambda entry: (entry.state != "complete", -entry.value, entry.number))
        assert sorted(finished_once.with_weights()) == sorted(entry.number for entry in ranked[:2])
        val = tiny.data(config).val
        run = tiny.open(finished_once)
        for entry in ranked[:2]:
            trial = trial_config(config.trial, run.ledger.point(entry.number))
            model = empty_model(trial.model, 1, 2, 28)
            load_weights(str(finished_once.trial(entry.number) / "best" / "model.safetensors"), model)
            logits = predict_logits(model, to_device(val, "cpu"), NO_AUTOCAST)
            predictions = finished_once.predictions(entry.number)
            kept = predictions["logits"][predictions["epochs"].tolist().index(entry.best_epoch)]
            np.testing.assert_allclose(logits, kept, atol=1e-5)

    @pytest.mark.parametrize("messages", [0, 1, 3, 4, 7])
    def test_one_that_was_killed_and_resumed_equals_an_uninterrupted_one(
        self, tiny: Any, finished_once: SweepFolder, tmp_path: Path, messages: int
    ) -> None:
        folder = tiny.create(tmp_path / "tiny")
        tiny.run_killed(folder, messages)
        seen = Recorder()
        tiny.run(tiny.open(folder, seen))
        assert records(folder) == records(finished_once)
        assert tiny.entries(folder) == tiny.entries(finished_once)
        assert sorted(folder.with_weights()) == sorted(finished_once.with_weights())
        for number in range(5):
            expected, got = finished_once.predictions(number), folder.predictions(number)
            for name in ("epochs", "logits", "labels", "cases"):
                np.testing.assert_array_equal(got[name], expected[name])
        told = sum(len(epochs) for epochs in records(folder).values())
        assert len(seen.epochs()) == told - messages

    def test_killed_again_and_again_it_comes_to_the_same_end(
        self, tiny: Any, finished_once: SweepFolder, tmp_path: Path
    ) -> None:
        folder = tiny.create(tmp_path / "tiny")
        for messages in (2, 3, 5, 1):
            tiny.run_killed(folder, messages)
        tiny.run(tiny.open(folder))
        assert records(folder) == records(finished_once)

    def test_it_can_be_made_longer(self, tiny: Any, finished: SweepFolder) -> None:
        before = records(finished)
        finished.lock()
        with pytest.raises(FolderError, match="has 5 trials already; --trials is the number in all, give 5 or more"):
            reopen_sweep(finished, ["search.trials=4"])
        finished.lock()
        folder, config = reopen_sweep(finished, ["search.trials=7"])
        assert config == folder.config() and config.search.trials == 7
        tiny.run(tiny.open(folder))
        folder.unlock()
        after = records(finished)
        assert {number: after[number] for number in before} == before
        assert len(after) == 7 and len(folder.with_weights()) == 2

    def test_once_finished_there_is_nothing_to_do(self, tiny: Any, finished: SweepFolder) -> None:
        before, seen = records(finished), Recorder()
        tiny.run(tiny.open(finished, seen))
        assert records(finished) == before and seen.events == [] and seen.interrupted is False

    def test_workers_may_write_elsewhere(self, tiny: Any, finished_once: SweepFolder, tmp_path: Path) -> None:
        storage = f"memory://{uuid.uuid4()}"
        folder = tiny.create(tmp_path / "tiny", f"cluster.storage={storage}")
        tiny.run_killed(folder, 2)
        fs, root = fsspec.core.url_to_fs(f"{storage}/{folder.sweep_id}")
        assert any("attempt-1/epoch-" in path for path in fs.find(root))
        tiny.run(tiny.open(folder))
        assert records(folder) == records(finished_once)
        assert fs.find(root) == [] and folder.with_weights()


class TestTidying:
    @pytest.mark.parametrize("name", ["tidy", "_keep_weights", "_announce_end"])
    def test_a_kill_while_a_trial_ends_is_made_good(
        self, name: str, killed_in: Any, tiny: Any, finished_once: SweepFolder, tmp_path: Path, seen: Recorder
    ) -> None:
        folder = tiny.create(tmp_path / "tiny")
        with killed_in(SweepRun, name, call=2):  # of the second trial
            tiny.run(tiny.open(folder))
        assert tiny.entries(folder)[1].state in ("complete", "pruned")
        run = tiny.open(folder, seen, Progress("val/auroc", "max"))
        assert folder.predictions(1) is not None and Attempts(str(folder.trial(1))).current() == 0
        assert [event.number for event in seen.ended()] == [1], "those who watch hear of its end"
        assert seen.ended()[0].best["val/auroc"] == tiny.entries(folder)[1].value
        tiny.run(run)
        assert records(folder) == records(finished_once)
        assert sorted(folder.with_weights()) == sorted(finished_once.with_weights())

    def test_what_is_tidied_late_takes_no_weights_from_the_better_ones_after_it(
        self, tiny: Any, finished_once: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = SweepRun._finish
        for late in (1, 3):
            folder = tiny.create(tmp_path / f"tiny-{late}")
            with monkeypatch.context() as patch:
                patch.setattr(SweepRun, "_finish", lambda run, e, live, n=late: e.number == n or real(run, e, live))
                tiny.run(tiny.open(folder))
            tiny.open(folder)
            assert sorted(folder.with_weights()) == sorted(finished_once.with_weights())

    def test_tidying_twice_is_harmless(self, tiny: Any, finished: SweepFolder) -> None:
        run = tiny.open(finished)
        before = {path: path.read_bytes() for path in finished.path.glob("trials/**/*") if path.is_file()}
        for entry in tiny.entries(finished):
            run.tidy(entry)
        assert {path: path.read_bytes() for path in finished.path.glob("trials/**/*") if path.is_file()} == before

    def test_a_failed_trial_keeps_its_predictions_and_no_weights(self, tiny: Any, folder: SweepFolder) -> None:
        run = tiny.open(folder)
        job = run.next_job()

        def report(message: dict[str, Any]) -> None:
            if message["epoch"] == 2:
                run.message(0, {"failed": "lost"})
                raise SystemExit
            run.message(0, message)

        with pytest.raises(SystemExit):
            run_job(job, tiny.data(run.config), report)
        assert folder.predictions(0)["epochs"].tolist() == [1, 2]
        assert folder.with_weights() == [] and Attempts(str(folder.trial(0))).current() == 0
        assert best_entry(tiny.entries(folder), "max") is None

    def test_the_last_weights_are_kept_of_the_same_trials_where_wanted(
        self, tiny: Any, finished_once: SweepFolder, tmp_path: Path
    ) -> None:
        folder = tiny.create(tmp_path / "tiny", "keep={weights: 2, last: true}")
        tiny.run(tiny.open(folder))
        kept = {int(path.parents[1].name) for path in folder.path.glob("trials/*/last/model.safetensors")}
        assert kept == set(folder.with_weights()) == set(finished_once.with_weights())
        assert not list(finished_once.path.glob("trials/*/last"))

    def test_no_weights_are_kept_where_none_are_wanted(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "tiny", "keep.weights=0", "search.trials=2")
        tiny.run(tiny.open(folder))
        assert folder.with_weights() == []
