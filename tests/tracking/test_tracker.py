import io
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from medtune.config.sweep import Tracking
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted
from medtune.search.folder import SweepFolder
from medtune.tracking import tracker as module
from medtune.tracking.tracker import Tracker, git_commit


@pytest.fixture
def folder(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.chdir(tmp_path)
    return tiny.create(tmp_path / "runs" / "tiny")


def test_a_process_of_its_own_carries_over_what_is_spooled(folder: SweepFolder) -> None:
    with Tracker(folder, folder.config()) as tracker:
        watcher = tracker.watcher()
        watcher.trial_started(TrialStarted(0, 1, {"batch_size": 16}, {"seed": 1}))
        watcher.epoch_ended(EpochEnded(0, 1, time.time(), {"val/auroc": 0.75}))
        watcher.trial_ended(TrialEnded(0, "complete", 1, {"val/auroc": 0.75}))
        watcher.closed(interrupted=False)
    assert tracker.reached and tracker.process.returncode == 0
    client = mlflow.MlflowClient(tracker.uri)
    parent = client.get_run(tracker.parent_run_id or "")
    assert parent.info.status == "FINISHED" and parent.data.tags["medtune.dataset"] == "phantom-binary"
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [run.data.metrics["val/auroc"] for run in children] == [0.75]
    assert {path.name for path in folder.path.parent.parent.iterdir()} == {"runs"}


class Mute:
    """A mirror that cannot reach its server."""

    def __init__(self, *_: Any, **options: Any) -> None:
        assert options["start_new_session"]  # Ctrl-C is for the driver
        self.stdin = io.BytesIO()

    def wait(self, timeout: float | None = None) -> int:
        return 3

    def poll(self) -> int:
        return 3


def test_a_server_that_was_not_reached_stops_nothing(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "Popen", Mute)
    with Tracker(folder, folder.config()) as tracker:
        tracker.spool.start("sweep", {})
    assert not tracker.reached and tracker.parent_run_id is None


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a server that takes requests and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in the sweep", "while it waits"])
def test_who_interrupts_does_not_wait_for_a_server_that_hangs(
    when: str, folder: SweepFolder, hanging: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder.config().model_copy(update={"tracking": Tracking(uri=hanging)})
    folder.write_config(config)
    ctrl_c = threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT))
    with Tracker(folder, config) as tracker:
        tracker.watcher().closed(interrupted=when == "in the sweep")
        if when == "while it waits":
            ctrl_c.start()
    assert not tracker.reached
    assert tracker.process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)  # it imports for seconds
    told = f"waiting until {hanging} has everything; Ctrl-C leaves it to `medtune tracking sync {folder.path}`\n"
    assert capsys.readouterr().err == ("" if when == "in the sweep" else told)


def test_the_address_is_shown_without_its_password(folder: SweepFolder) -> None:
    config = folder.config().model_copy(update={"tracking": Tracking(uri="http://me:secret@host")})
    assert Tracker(folder, config).uri == "http://me:***@host"


def test_outside_of_a_checkout_there_is_no_commit(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_commit() == ""
    monkeypatch.setenv("PATH", "")
    assert git_commit() == ""
