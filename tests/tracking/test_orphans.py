import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock

from medtune.search.folder import SweepFolder
from medtune.tracking.mirror import drain
from medtune.tracking.orphans import find_orphans
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool, TrialSpool


@pytest.fixture
def folder(tiny: Any, tmp_path: Path, empty_database: Callable[[Path], None]) -> SweepFolder:
    """Of a driver that was killed: trial 0 is complete, trial 1 is in its second epoch."""
    empty_database(tmp_path / "runs")
    folder = tiny.create(tmp_path / "runs" / "tiny", "trial.epochs=2", "search.trials=2", "pruning={name: none}")
    tiny.run_killed(folder, 3, TrialSpool(Spool(folder.tracking / "spool.jsonl"), {}))
    return folder


def client(folder: SweepFolder) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri(folder.config().tracking, folder.path))


def runs(folder: SweepFolder) -> list[Any]:
    experiment = client(folder).get_experiment_by_name("medtune").experiment_id
    return sorted(client(folder).search_runs([experiment]), key=lambda run: run.data.tags["medtune.run"])


def found(folder: SweepFolder) -> list[str]:
    """What is said, with the ids left out; nothing is changed."""
    told = [f"{one.what}; {one.remedy}" for one in find_orphans(folder, folder.config())]
    return [re.sub("MLflow run [0-9a-f]{32}", "MLflow run ID", line) for line in told]


def mended(folder: SweepFolder) -> None:
    for one in find_orphans(folder, folder.config()):
        if one.mend is not None:
            one.mend()


def test_a_sweep_without_tracking_has_none(finished: SweepFolder) -> None:
    assert found(finished) == []


def test_runs_that_nobody_ends(folder: SweepFolder) -> None:
    (waiting,) = found(folder)  # looking makes no experiment
    assert waiting.endswith(
        f"lines are not on {tracking_uri(folder.config().tracking, folder.path)} yet; carries them over"
    )
    assert drain(folder)
    told = [f"{key}, MLflow run ID: RUNNING, and nobody works on it; ends it" for key in ("sweep", "trial-0001")]
    assert found(folder) == told
    assert [run.info.status for run in runs(folder)] == ["RUNNING", "FINISHED", "RUNNING"]
    mended(folder)
    assert [run.info.status for run in runs(folder)] == ["KILLED", "FINISHED", "KILLED"]
    assert [run.data.tags.get("medtune.state") for run in runs(folder)] == [None, "complete", "unfinished"]
    assert found(folder) == []


def test_what_waits_in_the_spool_goes_first(folder: SweepFolder) -> None:
    with (folder.tracking / "spool.jsonl").open("a") as file:
        file.write('{"do": "metr')
    assert "its last line was cut short; takes that line away" in found(folder)[0]
    mended(folder)
    assert found(folder) == [] and [run.info.status for run in runs(folder)] == ["KILLED", "FINISHED", "KILLED"]


def test_runs_that_should_not_be(folder: SweepFolder) -> None:
    mended(folder)
    sweep, complete, unfinished = runs(folder)
    tags = {"medtune.sweep_id": folder.sweep_id}

    def make(key: str, **more: str) -> str:
        run = client(folder).create_run(sweep.info.experiment_id, tags={**tags, "medtune.run": key, **more})
        client(folder).set_terminated(run.info.run_id)
        return str(run.info.run_id)

    make("trial-0000")
    client(folder).log_metric(make("trial-0001"), "val/auroc", 0.5)
    make("trial-0042")
    lost = make("retrain-0", **{"mlflow.parentRunId": "0" * 32})
    twin, other, unknown, child = sorted(found(folder), key=lambda line: "trial-0042" in line)[:2] + found(folder)[2:]
    assert "trial-0000" in twin and "the second of that name, with nothing in it; deletes it" in twin
    assert "trial-0001" in other and "the second of that name; delete that with less in it" in other
    assert {"the ledger has no such trial" in line for line in (unknown, child)} == {True, False}
    mended(folder)
    left = found(folder)
    assert len(left) == 2 and "the second of that name; delete" in left[0] and "no such trial" in left[1]
    assert client(folder).get_run(lost).data.tags["mlflow.parentRunId"] == sweep.info.run_id
    assert {complete.info.run_id, unfinished.info.run_id} <= {run.info.run_id for run in runs(folder)}


def test_two_sweeps_on_one_server(folder: SweepFolder, tiny: Any) -> None:
    other = tiny.create(folder.path.parent / "other", "search.trials=1")
    Spool(other.tracking / "spool.jsonl").start("sweep", {})
    mended(folder)
    assert drain(other)
    assert found(folder) == [] and len(found(other)) == 1


def test_a_mirror_at_work_and_a_server_that_is_away(folder: SweepFolder) -> None:
    with FileLock(folder.tracking / "mirror.lock"):
        assert found(folder) == [f"{folder.tracking}: the mirror is still at work; say this again when it has ended"]
    config = folder.config()
    given = config.tracking.model_copy(update={"uri": "http://me:secret@127.0.0.1:9"})
    folder.write_config(config.model_copy(update={"tracking": given}))
    waiting, away = found(folder)
    assert "are not on http://me:***@127.0.0.1:9 yet" in waiting and "secret" not in away
    assert away.startswith("http://me:***@127.0.0.1:9 cannot be asked for its runs: ")
