"""A sweep that is interrupted and killed is, at its end, the one that it would have been."""

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from medtune.search.folder import SweepFolder
from medtune.tracking.server import tracking_uri

LONGER = ("trial.epochs=10", "data.train_fraction=1.0", "pruning={name: none}", "search.trials=8")


def ended(folder: Path) -> int:
    return len(list(folder.glob("trials/*/validation.npz")))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_interrupted_then_killed_then_resumed_a_sweep_is_what_it_would_have_been(
    shell: Any, tiny: Any, tmp_path: Path
) -> None:
    sets = [word for override in LONGER for word in ("--set", override)]
    folder = tmp_path / "runs" / "tiny"

    # Ctrl-C while trials run
    process = shell.start("sweep", tiny.file, *sets, "--json")
    shell.wait_for(lambda: ended(folder) >= 2, process)
    process.send_signal(signal.SIGINT)
    code, out, err = shell.finish(process)
    assert code == 130 and "go on    medtune resume runs/tiny" in err
    told = json.loads(out.splitlines()[-1])
    assert told["trials"]["complete"] >= 2 and told["trials"]["unfinished"] >= 1

    # the driver is killed while trials run
    before = ended(folder)
    process = shell.start("resume", "runs/tiny", "--trials", 9)
    shell.wait_for(
        lambda: ended(folder) > before and list(folder.glob("trials/*/attempt-*/epoch-*.safetensors")), process
    )
    shell.kill(process)
    before = ended(folder)
    assert before < 9 and not SweepFolder.open(folder).running

    # and it comes to its end
    code, out, err = shell.finish(shell.start("resume", "runs/tiny", "--json"))
    assert code == 0 and "Traceback" not in err and "next     medtune select runs/tiny" in err
    told = json.loads(out.splitlines()[-1])
    assert {"sweep", "folder", "trials", "best", "tracking_uri", "parent_run_id", "seconds"} <= told.keys()
    assert told["trials"] == {"complete": 9, "pruned": 0, "failed": 0, "unfinished": 0}
    # the kill may have come between the ledger and the announcement of the last trial, which is then made up for
    assert len(re.findall(r"^\[\d/9\] trial ", err, flags=re.MULTILINE)) in (9 - before, 10 - before)

    sweep, twin = SweepFolder.open(folder), tiny.create(tmp_path / "twin", *LONGER, "search.trials=9")
    tiny.run(tiny.open(twin))
    assert [entry.values for entry in tiny.entries(sweep)] == [entry.values for entry in tiny.entries(twin)]
    for number in range(9):
        assert [record["epoch"] for record in sweep.epochs(number)] == list(range(1, 11))
        assert [path.name for path in sweep.trial(number).glob("attempt-*")] == []
    assert sorted(sweep.with_weights()) == sorted(twin.with_weights())
    _check_tracking(sweep, told["parent_run_id"])
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "twin", "out", "err"}


def _check_tracking(sweep: SweepFolder, parent: str) -> None:
    client = mlflow.MlflowClient(tracking_uri(sweep.config().tracking, sweep.path))
    experiment = client.get_run(parent).info.experiment_id
    runs = client.search_runs([experiment], f"tags.`medtune.sweep_id` = '{sweep.sweep_id}'")
    assert sorted(run.data.tags["medtune.run"] for run in runs) == ["sweep", *(f"trial-000{n}" for n in range(9))]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.info.run_id != parent:
            points = client.get_metric_history(run.info.run_id, "val/auroc")
            assert [point.step for point in points] == list(range(1, 11))
            assert "roc.png" in {file.path for file in client.list_artifacts(run.info.run_id)}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_driver_that_is_killed_at_random_moments(
    shell: Any, tiny: Any, tmp_path: Path, count: Any, record_property: Callable[[str, Any], None]
) -> None:
    kills, generator = count(20), np.random.default_rng(0)
    options = ("trial.epochs=10", "data.train_fraction=1.0", f"search.trials={8 * kills}", "search.sampler=random")
    sets = [word for override in (*options, "resources.max_concurrent=1") for word in ("--set", override)]
    folder = tmp_path / "runs" / "tiny"

    def epochs() -> int:
        return sum(path.read_text().count("\n") for path in folder.glob("trials/*/epochs.jsonl"))

    finished: dict[str, str] = {}
    slowest = 0.0
    for kill in range(kills):
        before, started = epochs(), time.monotonic()
        arguments = ("resume", "runs/tiny") if kill else ("sweep", tiny.file, *sets)
        process = shell.start(*arguments)
        if kill % 3 == 2:  # before the first epoch too
            shell.wait_for(lambda: (folder / "tracking" / "mirror.lock").exists(), process)
        else:
            shell.wait_for(lambda before=before: epochs() > before, process)
            slowest = max(slowest, time.monotonic() - started)
        time.sleep(generator.uniform(0, 2))
        shell.kill(process)
        for path, text in finished.items():
            assert Path(path).read_text() == text  # not run again
        done = (trial.parent for trial in folder.glob("trials/*/validation.npz"))
        finished = {str(trial / "epochs.jsonl"): (trial / "epochs.jsonl").read_text() for trial in done}
    code, _, err = shell.finish(shell.start("resume", "runs/tiny"))
    assert code == 0, err
    for path, text in finished.items():
        assert Path(path).read_text() == text

    sweep, twin = SweepFolder.open(folder), tiny.create(tmp_path / "twin", *options)
    tiny.run(tiny.open(twin))
    assert tiny.entries(sweep) == tiny.entries(twin)  # the same trials, stopped at the same rungs
    client = mlflow.MlflowClient(tracking_uri(sweep.config().tracking, sweep.path))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`medtune.sweep_id` = '{sweep.sweep_id}'", max_results=1000)
    assert len(runs) == 8 * kills + 1 and {run.info.status for run in runs} == {"FINISHED"}
    keys = {run.data.tags["medtune.run"]: run for run in runs}
    for entry in tiny.entries(sweep):
        points = client.get_metric_history(keys[f"trial-{entry.number:04d}"].info.run_id, "val/auroc")
        assert [point.step for point in points] == sorted(entry.values) == list(range(1, len(points) + 1))
        assert [record["epoch"] for record in sweep.epochs(entry.number)] == sorted(entry.values)
    record_property("injected", f"{kills} SIGKILLs of the driver, each followed by `resume`")
    record_property(
        "held",
        f"{8 * kills} trials, each once in the ledger and in MLflow, none RUNNING; equal to a sweep without kills, "
        f"ASHA's decisions included; the first new epoch at most {slowest:.0f} s after the command",
    )
