"""Ctrl-C, and SIGTERM as a scheduler sends it: at any moment the sweep can be gone on with, and says how."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from medtune.search.folder import SweepFolder
from medtune.tracking.server import tracking_uri

LONG = [word for override in ("trial.epochs=200", "pruning={name: none}") for word in ("--set", override)]


def runs_of(folder: SweepFolder) -> dict[str, str]:
    """The status of every run of the sweep."""
    client = mlflow.MlflowClient(tracking_uri(folder.config().tracking, folder.path))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`medtune.sweep_id` = '{folder.sweep_id}'")
    return {run.data.tags["medtune.run"]: run.info.status for run in runs}


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("send", "group"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
    ids=["ctrl-c", "sigterm", "sigterm-for-all"],
)
@pytest.mark.parametrize("when", ["at-the-start", "in-training"])
def test_a_signal(
    shell: Any,
    tiny: Any,
    tmp_path: Path,
    record_property: Callable[[str, Any], None],
    send: int,
    group: bool,
    when: str,
) -> None:
    """group: some schedulers signal every process of a job, Ray's too."""
    folder = tmp_path / "runs" / "tiny"
    process = shell.start("sweep", tiny.file, *LONG, alone=group)
    shell.wait_for(lambda: (folder / "tracking" / "spool.jsonl").exists(), process)
    if when == "in-training":
        shell.wait_for(lambda: list(folder.glob("trials/*/epochs.jsonl")), process)
    if group:
        os.killpg(process.pid, send)
    else:
        process.send_signal(send)
    started = time.monotonic()
    code, out, err = shell.finish(process)
    seconds = time.monotonic() - started
    assert code == 130 and "Traceback" not in err and "go on    medtune resume runs/tiny" in out + err
    sweep = SweepFolder.open(folder)
    assert not sweep.running
    status = runs_of(sweep)
    assert set(status.values()) <= {"KILLED"} and (status or when == "at-the-start")
    if when == "in-training":
        saved = sorted(path.parent.parent.name for path in folder.glob("trials/*/attempt-1/epoch-*.safetensors"))
        assert "0000" in saved and status["trial-0000"] == "KILLED"
    record_property("injected", f"{signal.Signals(send).name} once, {when.replace('-', ' ')}")
    record_property("held", f"exit 130 after {seconds:.1f} s, every run KILLED, names `resume`")
