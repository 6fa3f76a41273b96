"""A clock that jumps by an hour changes nothing but the times that are printed."""

import itertools
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest

from medtune.search.events import EpochEnded, Watcher
from medtune.search.folder import SweepFolder
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool, TrialSpool, read_from

HOUR = 3600.0
NOT_OF_THE_TRAINING = re.compile(r'"(at|epoch_seconds)": [^,}]+')

# Python reads it at its start: in the driver, the mirror, Ray's processes and the workers. What asks for `datetime.now`
# does not see it: compiled modules bear no other class. The ledger does, and has it in the test within this process.
JUMPING = """
import os, time

def ahead():
    with open(os.environ["CLOCK"]) as file:
        return float(file.read())

real, real_ns = time.time, time.time_ns
time.time = lambda: real() + ahead()
time.time_ns = lambda: real_ns() + int(ahead() * 10**9)
"""


def result(folder: SweepFolder, entries: Any) -> dict[str, Any]:
    """All of a sweep that is not a time: what the ledger says, each epoch, and the bytes of what is kept."""
    files = [path for path in sorted(folder.path.glob("trials/*/**/*")) if path.is_file()]
    told: dict[str, Any] = {"entries": [repr(entry) for entry in entries]}
    for path in files:
        name = str(path.relative_to(folder.path))
        if path.suffix == ".jsonl":
            told[name] = NOT_OF_THE_TRAINING.sub("", path.read_text())
        elif path.suffix == ".npz":
            told[name] = {key: array.tobytes() for key, array in np.load(path).items()}
        else:
            told[name] = path.read_bytes()
    return told


class Jumps(Watcher):
    """Puts the clock an hour forward and back again, at every epoch."""

    def __init__(self) -> None:
        self.ahead, self.jumps = 0.0, 0
        self._next = itertools.cycle((HOUR, 0.0, -HOUR, 0.0))

    def epoch_ended(self, event: EpochEnded) -> None:
        self.ahead = next(self._next)
        self.jumps += 1


@pytest.fixture
def jumps(monkeypatch: pytest.MonkeyPatch) -> Jumps:
    jumps, real, real_ns = Jumps(), time.time, time.time_ns

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=jumps.ahead)

    monkeypatch.setattr(time, "time", lambda: real() + jumps.ahead)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(jumps.ahead * 10**9))
    monkeypatch.setattr(optuna.storages.journal._storage, "datetime", Jumping)
    return jumps


SLOW = [pytest.param(sampler, 14, marks=pytest.mark.slow) for sampler in ("tpe", "gp", "nsga2", "cmaes")]


@pytest.mark.parametrize(("sampler", "trials"), [("random", 4), *SLOW])
def test_a_sweep_in_this_process(
    tiny: Any, tmp_path: Path, jumps: Jumps, sampler: str, trials: int, record_property: Any
) -> None:
    overrides = [f"search.sampler={sampler}", f"search.trials={trials}", "budget.hours=0.5"]
    if sampler in ("gp", "nsga2", "cmaes"):  # which have no conditions
        overrides.append("trial.optimizer={name: adam, lr: {log_uniform: [1.0e-4, 1.0e-2]}}")
    folder, twin = tiny.create(tmp_path / "jumping", *overrides), tiny.create(tmp_path / "twin", *overrides)
    tiny.run(tiny.open(twin))
    assert jumps.jumps == 0
    run = tiny.open(folder, jumps, TrialSpool(Spool(folder.tracking / "spool.jsonl"), {}))
    tiny.run(run)
    assert run.finished and jumps.jumps > trials
    assert result(folder, tiny.entries(folder)) == result(twin, tiny.entries(twin))
    assert in_order(folder)
    record_property("injected", f"{jumps.jumps} jumps of an hour in one process, {sampler}")
    record_property("held", f"{trials} of {trials} trials the same, to the last bit")


def in_order(folder: SweepFolder) -> bool:
    """Whether the times of a trial's epochs grow as its epochs do: MLflow goes by times."""
    times: dict[str, list[float]] = {}
    for line in read_from(folder.tracking / "spool.jsonl", 0):
        if line.event["do"] == "metrics" and "epoch_seconds" in line.event:
            times.setdefault(line.event["run"], []).append(line.event["at"])
    return bool(times) and all(of_run == sorted(of_run) for of_run in times.values())


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that says by how many seconds the clock of every process to come is ahead."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(JUMPING)
    clock = tmp_path / "clock"
    clock.write_text("0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"), prepend=os.pathsep)
    monkeypatch.setenv("CLOCK", str(clock))
    return clock


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_in_the_driver_the_mirror_and_the_workers(
    shell: Any, tiny: Any, tmp_path: Path, clock: Path, record_property: Any
) -> None:
    overrides = ("trial.epochs=10", "data.train_fraction=1.0", "search.trials=8", "budget.hours=0.5")
    overrides += ("resources.max_concurrent=1",)
    folder = tmp_path / "runs" / "tiny"
    sets = [word for override in overrides for word in ("--set", override)]
    process = shell.start("sweep", tiny.file, *sets, "--json")
    jumps = 0
    for ahead in itertools.cycle((HOUR, 0.0, -HOUR, 0.0)):
        epochs = count_epochs(folder)
        shell.wait_for(lambda: count_epochs(folder) > epochs + 1 or process.poll() is not None, process)  # noqa: B023
        if process.poll() is not None or len(list(folder.glob("trials/*/validation.npz"))) >= 7:
            break
        part = clock.with_suffix(".part")
        part.write_text(str(ahead))
        part.replace(clock)
        jumps += 1
    code, _, err = shell.finish(process)
    assert code == 0 and "Traceback" not in err and jumps >= 4

    sweep, twin = SweepFolder.open(folder), tiny.create(tmp_path / "twin", *overrides)
    tiny.run(tiny.open(twin))
    assert result(sweep, tiny.entries(sweep)) == result(twin, tiny.entries(twin))
    trials = check_points(sweep)
    record_property("injected", f"{jumps} jumps of an hour while 8 trials ran, in all processes")
    record_property("held", f"{trials} of 8 trials the same, to the last bit; every point once and in order")


def count_epochs(folder: Path) -> int:
    return sum(path.read_text().count("\n") for path in folder.glob("trials/*/epochs.jsonl"))


def check_points(sweep: SweepFolder) -> int:
    client = mlflow.MlflowClient(tracking_uri(sweep.config().tracking, sweep.path))
    experiment = client.get_experiment_by_name("medtune")
    runs = client.search_runs([experiment.experiment_id], "tags.`medtune.run` LIKE 'trial-%'")
    for run in runs:
        epochs = [record["epoch"] for record in sweep.epochs(int(run.data.tags["medtune.trial"]))]
        points = client.get_metric_history(run.info.run_id, "val/auroc")
        assert [point.step for point in points] == epochs
        assert run.info.status == "FINISHED"
    return len(runs)
