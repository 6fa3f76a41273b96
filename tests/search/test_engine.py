"""Real sweeps through Ray, started, interrupted, killed and resumed as people do it; and what needs no Ray for it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import psutil
import pytest
from ray.tune.schedulers import TrialScheduler

from medtune.search import cluster, engine
from medtune.search.folder import SweepFolder
from medtune.search.resources import Share
from medtune.search.worker import Job, Message, SearchData
from medtune.tracking.server import tracking_uri

LONGER = ("trial.epochs=10", "data.train_fraction=1.0", "pruning={name: none}", "search.trials=8")
PATIENCE = 100  # seconds for what takes some


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray and killed processes keep what they must: short, because of Ray's sockets, and removed."""
    path = Path(tempfile.mkdtemp(prefix="mt-"))
    monkeypatch.setenv("RAY_TMPDIR", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class TestWhatRayTells:
    """The scheduler's side of the engine, with trials that are none."""

    @pytest.fixture
    def told(self, tiny: Any, tmp_path: Path) -> Callable[..., str]:
        """`told(message)`: what Ray is answered for a message of the trial that runs."""
        run = tiny.open(tiny.create(tmp_path / "tiny"))
        messages = engine._Messages(run)
        trial = SimpleNamespace(config={"trial": run.next_job().trial}, run_metadata=SimpleNamespace(num_failures=2))

        def tell(**message: Any) -> str:
            return messages.on_trial_result(None, trial, {"message": json.dumps(message)})

        tell.trial, tell.run, tell.messages = trial, run, messages
        return tell

    def test_only_a_new_epoch_makes_up_for_a_death(self, told: Any) -> None:
        epoch = {"last": False, "at": 1.0, "val/auroc": 0.5}
        assert told(epoch=1, **epoch) == TrialScheduler.CONTINUE and told.trial.run_metadata.num_failures == 0
        told.trial.run_metadata.num_failures = 2
        told(epoch=1, **epoch)  # told again by the next attempt
        assert told.trial.run_metadata.num_failures == 2
        told(epoch=2, **epoch)
        assert told.trial.run_metadata.num_failures == 0

    def test_a_trial_that_has_ended_is_stopped(self, told: Any, tiny: Any) -> None:
        assert told(failed="training diverged in epoch 1") == TrialScheduler.STOP
        assert told(epoch=1, last=False, at=1.0) == TrialScheduler.STOP
        assert [entry.state for entry in tiny.entries(told.run.folder)] == ["failed"]

    def test_a_worker_that_keeps_dying_fails_its_trial(self, told: Any, tiny: Any) -> None:
        told.trial.should_recover = lambda: True
        told.messages.on_trial_error(None, told.trial)
        assert told.run.live
        told.trial.should_recover = lambda: False
        told.messages.on_trial_error(None, told.trial)
        told.messages.on_trial_error(None, told.trial)
        (entry,) = tiny.entries(told.run.folder)
        assert entry.state == "failed" and entry.note == "its worker died 3 times without finishing an epoch"

    def test_the_first_signal_interrupts_and_an_echo_of_it_does_nothing_more(
        self, told: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = signal.getsignal(signal.SIGINT)
        now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with engine._signals(told.run):
            os.kill(os.getpid(), signal.SIGTERM)
            assert told.run.stopping
            now += 0.5
            os.kill(os.getpid(), signal.SIGINT)
            now += 2
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before


def _wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)


class Shell:
    """Runs verbs in processes of their own, with streams in files, and ends all that they leave behind."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.left: list[psutil.Process] = []

    def start(self, *arguments: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "medtune", *map(str, arguments)]
        with (self.cwd / "out").open("w") as out, (self.cwd / "err").open("w") as err:
            environment = {name: value for name, value in os.environ.items() if name != "UV"}
            return subprocess.Popen(command, cwd=self.cwd, env=environment, stdout=out, stderr=err, text=True)

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        code = process.wait(PATIENCE)
        return code, (self.cwd / "out").read_text(), (self.cwd / "err").read_text()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """The driver at once; its mirror ends by itself; Ray's processes get some seconds to notice."""
        self.left = psutil.Process(process.pid).children(recursive=True)
        mirrors = [child for child in self.left if "medtune.tracking.mirror" in child.cmdline()]
        process.kill()
        process.wait()
        assert len(mirrors) == 1
        assert psutil.wait_procs(mirrors, timeout=PATIENCE)[1] == []
        self.end()

    def end(self) -> None:
        for child in psutil.wait_procs(self.left, timeout=5)[1]:
            child.kill()
        psutil.wait_procs(self.left, timeout=5)


@pytest.fixture
def shell(tmp_path: Path, ray_folder: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()
    of_ours = [p for p in psutil.process_iter(["cmdline"]) if str(ray_folder) in " ".join(p.info["cmdline"] or ())]
    left = psutil.wait_procs(of_ours, timeout=10)[1]
    for process in left:
        process.kill()
    assert left == []


def ended(folder: Path) -> int:
    return len(list(folder.glob("trials/*/validation.npz")))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_interrupted_then_killed_then_resumed_a_sweep_is_what_it_would_have_been(
    shell: Shell, tiny: Any, tmp_path: Path
) -> None:
    sets = [word for override in LONGER for word in ("--set", override)]
    folder = tmp_path / "runs" / "tiny"

    # Ctrl-C while trials run
    process = shell.start("sweep", tiny.file, *sets, "--json")
    _wait_for(lambda: ended(folder) >= 2, process)
    process.send_signal(signal.SIGINT)
    code, out, err = shell.finish(process)
    assert code == 130 and "go on    medtune resume runs/tiny" in err
    told = json.loads(out.splitlines()[-1])
    assert told["trials"]["complete"] >= 2 and told["trials"]["unfinished"] >= 1

    # the driver is killed while trials run
    before = ended(folder)
    process = shell.start("resume", "runs/tiny", "--trials", 9)
    _wait_for(lambda: ended(folder) > before and list(folder.glob("trials/*/attempt-*/epoch-*.safetensors")), process)
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
@pytest.mark.timeout(200)
def test_a_worker_that_dies_is_tried_again_while_it_gains_epochs(tiny: Any, tmp_path: Path, ray_folder: Path) -> None:
    folder = tiny.create(tmp_path / "tiny", "search.trials=3", "pruning={name: none}")

    def work(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
        """Trial 1 dies after its second epoch has been told, trial 2 always before its second."""
        import os

        from medtune.search.attempts import Attempts
        from medtune.search.worker import run_job

        attempt = Attempts(job.storage).current() + 1

        def dying(message: Message) -> None:
            report(message)
            if (job.trial == 1 and message["epoch"] == 2 and attempt == 1) or job.trial == 2:
                os._exit(1)

        run_job(job, data, dying)

    run = tiny.open(folder)
    try:
        cluster.start(run.config.cluster)
        engine.run_jobs(run, tiny.data(run.config), Share("cpu", 1, 0.0, 2), work)
    finally:
        cluster.stop()
    first, second, third = tiny.entries(folder)
    assert (first.state, second.state, third.state) == ("complete", "complete", "failed")
    assert "died 3 times" in third.note and list(third.values) == [1]
    assert [record["epoch"] for record in folder.epochs(1)] == [1, 2, 3]
