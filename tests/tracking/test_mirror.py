import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock
from mlflow.entities import Run

from medtune.retraining.plan import plan_retrain
from medtune.search.folder import SweepFolder
from medtune.search.launch import in_this_process
from medtune.select import one_trial
from medtune.tracking import mirror, retrained
from medtune.tracking.mirror import AtWork, Mirror, drain
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool, TrialSpool
from medtune.tracking.staged import stage
from medtune.tracking.tracker import Tracker

FAILING = "[{name: adam, lr: {log_uniform: [1.0e-4, 1.0e-2]}}, {name: sgd, lr: 1.0e+9, momentum: {uniform: [0, 0.9]}}]"
OVERRIDES = (
    f"trial.optimizer={{choice: {FAILING}}}",
    "search={sampler: random, trials: 5, start_with: [{optimizer: {name: sgd}}]}",
    "pruning={name: none}",
)
TAGS = {"sweep": "tiny", "dataset": "phantom-binary", "size": 28, "git_commit": ""}


@pytest.fixture(scope="module")
def sweep(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """Five trials, of which the second failed and the last was interrupted, resumed and interrupted again."""
    folder = tiny.create(tmp_path_factory.mktemp("mirrored") / "runs" / "tiny", *OVERRIDES)
    spool = Spool(folder.tracking / "spool.jsonl")
    for messages in (11, 2):  # trials 0, 2, 3 have three epochs, trial 1 a failure: both end within trial 4
        run = tiny.run_killed(folder, messages, TrialSpool(spool, TAGS))
        run.interrupt()
        run.close()
    assert [entry.state for entry in tiny.entries(folder)] == [
        "complete",
        "failed",
        "complete",
        "complete",
        "unfinished",
    ]
    return folder


@pytest.fixture(scope="module")
def mirrored(sweep: SweepFolder) -> SweepFolder:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sweep.path.parent)
        assert drain(sweep)
    return sweep


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may be written to where we are."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert list((tmp_path / "here").iterdir()) == []


def client(folder: SweepFolder) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri(folder.config().tracking, folder.path))


def runs(folder: SweepFolder) -> dict[str, Run]:
    """All runs of the sweep by our keys; every key once."""
    experiment = client(folder).get_experiment_by_name("medtune")
    found = client(folder).search_runs(
        [experiment.experiment_id], f"tags.`medtune.sweep_id` = '{folder.sweep_id}'", max_results=1000
    )
    keys = [run.data.tags["medtune.run"] for run in found]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, found, strict=True))


def points(folder: SweepFolder, run: Run) -> dict[str, list[tuple[int, float, int]]]:
    """Step, value and time of every point by name, in MLflow's order."""
    history = {name: client(folder).get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: [(one.step, one.value, one.timestamp) for one in found] for name, found in history.items()}


def artifacts(folder: SweepFolder, run: Run) -> set[str]:
    return {file.path for file in client(folder).list_artifacts(run.info.run_id)}


def everything(folder: SweepFolder) -> dict[str, Any]:
    """All of a sweep that MLflow can tell."""
    return {
        key: (
            run.info.status,
            run.data.params,
            points(folder, run),
            artifacts(folder, run),
            len(run.inputs.dataset_inputs),
        )
        for key, run in runs(folder).items()
    }


class TestAMirroredSweep:
    def test_a_parent_run_and_a_child_for_each_trial(self, mirrored: SweepFolder) -> None:
        found = runs(mirrored)
        assert set(found) == {"sweep", *(f"trial-{number:04d}" for number in range(5))}
        parent = found.pop("sweep")
        assert parent.info.run_name == "tiny" and "mlflow.parentRunId" not in parent.data.tags
        assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
        assert (mirrored.tracking / "parent_run_id").read_text() == parent.info.run_id

    def test_statuses(self, mirrored: SweepFolder) -> None:
        states = {key: (run.info.status, run.data.tags.get("medtune.state")) for key, run in runs(mirrored).items()}
        assert states == {
            "sweep": ("KILLED", None),
            "trial-0000": ("FINISHED", "complete"),
            "trial-0001": ("FAILED", "failed"),
            "trial-0002": ("FINISHED", "complete"),
            "trial-0003": ("FINISHED", "complete"),
            "trial-0004": ("KILLED", "unfinished"),
        }
        assert all(run.info.end_time for run in runs(mirrored).values())
        assert "diverged" in runs(mirrored)["trial-0001"].data.tags["medtune.note"]

    def test_tags(self, mirrored: SweepFolder) -> None:
        tags = runs(mirrored)["trial-0004"].data.tags
        assert tags["medtune.sweep"] == "tiny" and tags["medtune.trial"] == "4" and tags["medtune.attempt"] == "2"
        assert tags["medtune.dataset"] == "phantom-binary" and tags["medtune.size"] == "28"
        assert tags["medtune.sweep_id"] == mirrored.sweep_id and tags["medtune.seed"].isdigit()

    def test_params_are_what_is_swept_by_names_without_branches(self, mirrored: SweepFolder) -> None:
        found = runs(mirrored)
        assert found["sweep"].data.params == {}
        adam = {"batch_size", "model.dropout", "optimizer.name", "optimizer.lr"}
        assert found["trial-0000"].data.params.keys() == adam
        assert found["trial-0001"].data.params.keys() == adam | {"optimizer.momentum"}
        assert found["trial-0000"].data.params["optimizer.lr"] == "0.001"

    def test_every_point_once_and_in_order_with_the_epoch_as_its_step(self, mirrored: SweepFolder) -> None:
        for number in range(5):
            found = points(mirrored, runs(mirrored)[f"trial-{number:04d}"])
            records = mirrored.epochs(number)
            assert len(records) == {1: 0, 4: 2}.get(number, 3)
            for name in ("train/loss", "val/auroc", "val/loss", "val/ece", "val/accuracy", "lr", "epoch_seconds"):
                expected = [(record["epoch"], record[name], int(record["at"] * 1000)) for record in records]
                assert found.get(name, []) == expected

    def test_the_best_epoch(self, mirrored: SweepFolder, tiny: Any) -> None:
        for entry in tiny.entries(mirrored)[2:4]:
            metrics = runs(mirrored)[f"trial-{entry.number:04d}"].data.metrics
            assert (metrics["best/auroc"], metrics["best/epoch"]) == (entry.value, entry.best_epoch)

    def test_there_are_not_too_many_metrics(self, mirrored: SweepFolder) -> None:
        assert all(len(run.data.metrics) <= 40 for run in runs(mirrored).values())
        assert not [name for run in runs(mirrored).values() for name in run.data.metrics if "test" in name]

    def test_artifacts(self, mirrored: SweepFolder) -> None:
        found = runs(mirrored)
        assert artifacts(mirrored, found["sweep"]) == {"sweep.yaml"}
        assert artifacts(mirrored, found["trial-0001"]) == {"config.yaml"}
        for number in (0, 2, 3):
            expected = {"config.yaml", "epochs.jsonl", "validation.npz", "reliability.png", "roc.png"}
            assert artifacts(mirrored, found[f"trial-{number:04d}"]) == expected
        assert (mirrored.path.parent / "mlartifacts").is_dir()

    def test_the_data_is_an_input(self, mirrored: SweepFolder) -> None:
        (given,) = runs(mirrored)["trial-0000"].inputs.dataset_inputs
        assert given.dataset.name == "phantom-binary" and len(given.dataset.digest) == 32

    def test_carrying_over_again_changes_nothing(self, mirrored: SweepFolder) -> None:
        before = everything(mirrored)
        (mirrored.tracking / "state").unlink()
        (mirrored.tracking / "parent_run_id").unlink()
        assert drain(mirrored)
        assert everything(mirrored) == before
        assert (mirrored.tracking / "parent_run_id").exists()
        assert drain(mirrored)


@pytest.fixture
def spooled(tiny: Any, tmp_path: Path, empty_database: Any) -> SweepFolder:
    """One short trial that waits in the spool."""
    empty_database(tmp_path / "runs")
    folder = tiny.create(tmp_path / "runs" / "tiny", "trial.epochs=1", "search.trials=1")
    tiny.run(tiny.open(folder, TrialSpool(Spool(folder.tracking / "spool.jsonl"), TAGS)))
    return folder


def point_to(folder: SweepFolder, uri: str | None) -> None:
    config = folder.config()
    folder.write_config(config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})}))


def test_a_server_that_is_away_is_given_up_and_a_later_sync_has_everything(
    spooled: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    point_to(spooled, "http://me:secret@127.0.0.1:9")
    assert not drain(spooled, threading.Event(), patience=1.5)
    said = capsys.readouterr().err
    assert "secret" not in said and said.count("\n") <= 3  # it pauses between its tries
    point_to(spooled, None)
    assert drain(spooled)
    assert {key: run.info.status for key, run in runs(spooled).items()} == {
        "sweep": "FINISHED",
        "trial-0000": "FINISHED",
    }
    assert len(points(spooled, runs(spooled)["trial-0000"])["val/auroc"]) == 1


@pytest.mark.parametrize(
    ("name", "call"),
    [("log_inputs", 1), ("log_batch", 1), ("log_inputs", 2), ("log_artifacts", 1), ("set_terminated", 2)],
)
def test_killed_in_any_call_it_goes_on_to_the_same_end(
    name: str, call: int, spooled: SweepFolder, killed_in: Any
) -> None:
    with killed_in(mlflow.MlflowClient, name, call):
        Mirror(spooled).carry_over()
    assert drain(spooled)
    trial, parent = runs(spooled)["trial-0000"], runs(spooled)["sweep"]
    assert (parent.info.status, trial.info.status) == ("FINISHED", "FINISHED")
    assert trial.data.params["optimizer.lr"] == "0.001" and len(trial.inputs.dataset_inputs) == 1
    assert len(points(spooled, trial)["val/auroc"]) == 1
    assert {"validation.npz", "roc.png"} <= artifacts(spooled, trial)
    assert (spooled.tracking / "parent_run_id").read_text() == parent.info.run_id


def test_a_run_that_the_server_lacks_holds_nothing_up(spooled: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that was moved away from its database, or a run that was deleted."""
    spool = Spool(spooled.tracking / "spool.jsonl")
    spool.metrics("trial-0042", 1, 5.0, {"val/auroc": 0.9})
    spool.files("trial-0042", "", ("sweep.yaml",))
    spool.end("trial-0042", "FINISHED", {})
    spool.metrics("trial-0000", 7, 5.0, {"late": 0.5})
    assert drain(spooled)
    assert len(points(spooled, runs(spooled)["trial-0000"])["late"]) == 1
    assert "has no run trial-0042 of this sweep: left out" in capsys.readouterr().err


def test_lines_that_are_none_hold_nothing_up(spooled: SweepFolder) -> None:
    """A torn line, a line glued to it, what a disk made of some bytes, and JSON that is no event."""
    spool = spooled.tracking / "spool.jsonl"
    lines = spool.read_bytes().splitlines(keepends=True)
    garbage = b'12\n[1]\n{}\n{"do": "metrics"}\n\0\0\xff\xfe\n{"do": "metr'
    spool.write_bytes(garbage + lines[0] + b'"half\n' + b"".join(lines[1:]) + b'{"do": "end", "run": "swe')
    assert drain(spooled)
    assert {key: run.info.status for key, run in runs(spooled).items()} == {
        "sweep": "FINISHED",
        "trial-0000": "FINISHED",
    }
    assert len(points(spooled, runs(spooled)["trial-0000"])["val/auroc"]) == 1


def test_a_run_whose_parent_was_garbage_is_there(spooled: SweepFolder) -> None:
    spool = spooled.tracking / "spool.jsonl"
    spool.write_bytes(b"".join(spool.read_bytes().splitlines(keepends=True)[1:]))
    assert drain(spooled)
    assert set(runs(spooled)) == {"trial-0000"}


@pytest.mark.parametrize("change", ["uri", "experiment"])
def test_another_server_gets_everything_from_the_first_line(change: str, spooled: SweepFolder, tmp_path: Path) -> None:
    assert drain(spooled)
    before, config = everything(spooled), spooled.config()
    shutil.copytree(spooled.path.parent, tmp_path / "other", ignore=lambda path, names: {"tiny", "mlartifacts"})
    given = f"sqlite:///{tmp_path}/other/mlflow.db" if change == "uri" else "elsewhere"
    other = config.tracking.model_copy(update={change: given})
    spooled.write_config(config.model_copy(update={"tracking": other}))
    Spool(spooled.tracking / "spool.jsonl").tags("sweep", {"looks": 1})
    assert drain(spooled)
    after = mlflow.MlflowClient(tracking_uri(other, spooled.path))
    found = after.search_runs([after.get_experiment_by_name(other.experiment).experiment_id])
    assert {run.data.tags["medtune.run"]: run.info.status for run in found} == dict.fromkeys(before, "FINISHED")
    assert "secret" not in (spooled.tracking / "state").read_text()

    spooled.write_config(config)  # and back: what the first one lacks, and nothing twice
    assert drain(spooled)
    assert everything(spooled) == before and runs(spooled)["sweep"].data.tags["medtune.looks"] == "1"


def test_the_state_of_an_earlier_version_is_of_the_server_that_has_the_sweep(
    spooled: SweepFolder, tmp_path: Path, empty_database: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drain(spooled)
    state = spooled.tracking / "state"
    size = (spooled.tracking / "spool.jsonl").stat().st_size
    state.write_text(str(size))
    assert not Mirror(spooled).carry_over()
    empty_database(tmp_path / "other")
    point_to(spooled, f"sqlite:///{tmp_path}/other/mlflow.db")
    state.write_text(str(size))
    assert drain(spooled) and set(runs(spooled)) == {"sweep", "trial-0000"}
    state.write_text('{"offs')
    assert drain(spooled) and len(points(spooled, runs(spooled)["trial-0000"])["val/auroc"]) == 1
    assert capsys.readouterr().err == ""


def test_two_at_once(spooled: SweepFolder) -> None:
    with FileLock(spooled.tracking / "mirror.lock"), pytest.raises(AtWork, match="nothing to do"):
        drain(spooled)


def test_of_a_run_that_the_server_made_twice_the_empty_one_goes(spooled: SweepFolder) -> None:
    assert drain(spooled)
    before = everything(spooled)
    for run in runs(spooled).values():
        tags = {"medtune.run": run.data.tags["medtune.run"], "medtune.sweep_id": spooled.sweep_id}
        for start in (0, 10**13):  # whether it seems older or newer
            client(spooled).create_run(run.info.experiment_id, start, tags)
    Spool(spooled.tracking / "spool.jsonl").metrics("trial-0000", 1, 5.0, {"late": 0.5})
    assert drain(spooled)
    after = everything(spooled)
    assert after["trial-0000"][2].pop("late") == [(1, 0.5, 5000)] and after == before


def test_a_disk_that_is_full_for_a_while(spooled: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the state nor the log can be written."""
    (spooled.tracking / ".state.tmp").symlink_to("/dev/full")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert drain(spooled)
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert not (spooled.tracking / ".state.tmp").exists()
    assert {run.info.status for run in runs(spooled).values()} == {"FINISHED"}


def test_two_sweeps_of_one_name_never_meet(tiny: Any, spooled: SweepFolder) -> None:
    other = tiny.create(spooled.path.parent / "other", "trial.epochs=1", "search.trials=1")
    tiny.run(tiny.open(other, TrialSpool(Spool(other.tracking / "spool.jsonl"), TAGS)))
    assert drain(spooled) and drain(other)
    ids = [{run.info.run_id for run in runs(folder).values()} for folder in (spooled, other)]
    assert len(ids[0]) == len(ids[1]) == 2 and not ids[0] & ids[1]


def test_a_given_database_has_its_artifacts_beside_it(spooled: SweepFolder, tmp_path: Path) -> None:
    point_to(spooled, f"sqlite:///{tmp_path}/mine/tracking.db")
    (tmp_path / "mine").mkdir()
    assert drain(spooled)
    assert "roc.png" in artifacts(spooled, runs(spooled)["trial-0000"])


def test_a_password_does_not_go_into_the_artifacts(spooled: SweepFolder, tmp_path: Path) -> None:
    uri = "postgresql://me:secret@db/mlflow"
    point_to(spooled, uri)
    (tmp_path / "staged").mkdir()
    stage(spooled.path, ("sweep.yaml",), tmp_path / "staged")
    text = (tmp_path / "staged" / "sweep.yaml").read_text()
    assert "secret" not in text and "postgresql://me:***@db/mlflow" in text


def test_retrained_models_and_test_numbers_are_runs_of_their_own(
    tiny: Any, spooled: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class InThisProcess(Tracker):
        def __enter__(self) -> "InThisProcess":
            return self

        def __exit__(self, *_: Any) -> None:
            assert drain(self.folder)

    monkeypatch.setattr(retrained, "Tracker", InThisProcess)
    config, said = spooled.config(), []
    plan = plan_retrain(spooled, config, one_trial(spooled, config, 0), 2, 1)
    retrained.retrain_tracked(spooled, config, plan, said.append, in_this_process)
    assert len(said) == 3 and "model-1, trial 0, epoch 1 of 1: " in said[1]
    assert said[2] == "registry: models:/medtune-phantom-binary/1 is registered"
    result = retrained.test_tracked(spooled, config, again=False)
    found = runs(spooled)
    assert set(found) == {"sweep", "trial-0000", "retrain-0", "retrain-1"}
    for index in (0, 1):
        run = found[f"retrain-{index}"]
        assert run.data.metrics["test/auroc"] == result["seeds"]["auroc"]["each"][index]
        assert run.info.status == "FINISHED" and run.data.tags["medtune.looks"] == "1"
        assert run.data.tags["mlflow.parentRunId"] == found["sweep"].info.run_id
        files = {"model.safetensors", "model.json", "outliers.safetensors", "MODEL_CARD.md", "test.json"}
        assert artifacts(spooled, run) == files | ({"registered"} if index == 0 else set())
    assert "test/auroc" not in found["trial-0000"].data.metrics


@pytest.mark.slow
def test_killed_while_it_makes_the_database_it_leaves_none(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "runs" / "tiny", "trial.epochs=1", "search.trials=1")
    Spool(folder.tracking / "spool.jsonl").start("sweep", TAGS)
    new = folder.path.parent / ".mlflow.db.tmp"
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-m", mirror.__name__, str(folder.path)], stdin=subprocess.DEVNULL)
        while not new.exists() or new.stat().st_size < 20_000:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert not (folder.path.parent / "mlflow.db").exists()
    assert drain(folder) and set(runs(folder)) == {"sweep"} and not new.exists()


@pytest.mark.slow
def test_two_processes_can_make_the_default_database_at_once(tiny: Any, spooled: SweepFolder) -> None:
    other = tiny.create(spooled.path.parent / "other", "trial.epochs=1", "search.trials=1")
    tiny.run(tiny.open(other, TrialSpool(Spool(other.tracking / "spool.jsonl"), TAGS)))
    command = [sys.executable, "-m", mirror.__name__]
    both = [
        subprocess.Popen([*command, str(folder.path)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for folder in (spooled, other)
    ]
    errors = [process.communicate(timeout=90)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert len(runs(spooled)) == len(runs(other)) == 2
