"""Workers that are killed, that raise, and that run out of memory, through Ray."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
import pytest

from medtune.search import cluster, engine
from medtune.search.folder import SweepFolder
from medtune.search.resources import Share
from medtune.search.worker import Job, Message, SearchData
from medtune.tracking.server import tracking_uri
from medtune.tracking.tracker import Tracker

Work = Callable[[Job, SearchData, Callable[[Message], None]], None]
EPOCHS = 8
WHOLE = (f"trial.epochs={EPOCHS}", "pruning={name: none}")


@contextmanager
def ray() -> Iterator[None]:
    try:
        yield
    finally:
        cluster.stop()


def run_on_ray(tiny: Any, folder: SweepFolder, work: Work) -> None:
    """A sweep with its tracking, and workers that do as a test likes."""
    config = folder.config()
    with Tracker(folder, config) as tracker, ray():
        cluster.start(config.cluster)
        run = tiny.open(folder, tracker.watcher())
        engine.run_jobs(run, tiny.data(config), Share("cpu", 1, 0.0, 2), work=work)
    assert tracker.reached


def tracked(folder: SweepFolder) -> dict[str, Any]:
    """The runs of the trials on the tracking server, by key; each is there once."""
    client = mlflow.MlflowClient(tracking_uri(folder.config().tracking, folder.path))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`medtune.sweep_id` = '{folder.sweep_id}'")
    keys = [run.data.tags["medtune.run"] for run in runs]
    assert len(keys) == len(set(keys))
    return {key: (run, client) for key, run in zip(keys, runs, strict=True) if key != "sweep"}


def states(tiny: Any, folder: SweepFolder) -> Counter[str]:
    return Counter(entry.state for entry in tiny.entries(folder))


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_workers_that_are_killed(
    tiny: Any, tmp_path: Path, ray_folder: Path, count: Any, record_property: Callable[[str, Any], None]
) -> None:
    kills, trials = count(20), count(16) + 4
    times = np.random.default_rng(0).multinomial(kills - 3, [1 / trials] * trials)
    times[1] += 3  # some of them three times and more
    plan = [int(each) for each in times]
    folder = tiny.create(tmp_path / "runs" / "tiny", f"search.trials={trials}", *WHOLE, "data.train_fraction=0.5")
    log = tmp_path / "log"

    def work(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
        """Is killed so many times, each time at a random moment after an epoch that was new."""
        import os
        import random
        import signal
        import threading

        from medtune.search.attempts import Attempts
        from medtune.search.worker import run_job
        from medtune.training.loop import Training

        attempt = Attempts(job.storage).current() + 1
        trained: list[int] = []
        run_epoch = Training.run_epoch

        def counted(self: Training, val: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{job.trial} {self.epoch + 1}\n")
            trained.append(self.epoch + 1)
            return run_epoch(self, val)

        def tell(message: Message) -> None:
            report(message)
            if trained and len(trained) == 1 and attempt <= plan[job.trial]:
                moment = random.Random(f"{job.trial} {attempt}").uniform(0, 0.2)
                threading.Timer(moment, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
            if len(trained) == 3 and attempt <= plan[job.trial]:
                threading.Event().wait()  # until it comes

        Training.run_epoch = counted  # type: ignore[method-assign]
        try:
            run_job(job, data, tell)
        finally:
            Training.run_epoch = run_epoch  # type: ignore[method-assign]

    run_on_ray(tiny, folder, work)
    entries, lines = tiny.entries(folder), log.read_text().splitlines()
    assert states(tiny, folder) == {"complete": trials}
    runs = tracked(folder)
    for entry in entries:
        epochs = list(range(1, EPOCHS + 1))
        assert sorted(entry.values) == epochs and [record["epoch"] for record in folder.epochs(entry.number)] == epochs
        run, client = runs[f"trial-{entry.number:04d}"]
        assert [point.step for point in client.get_metric_history(run.info.run_id, "val/auroc")] == epochs
        assert run.info.status == "FINISHED"
    lost = len(lines) - trials * EPOCHS
    assert 0 <= lost <= kills and len(set(lines)) == trials * EPOCHS
    for number, killed in enumerate(plan):
        assert sum(line.startswith(f"{number} ") for line in lines) <= EPOCHS + killed  # an epoch lost a kill at most
    twin = tiny.create(tmp_path / "twin", f"search.trials={trials}", *WHOLE, "data.train_fraction=0.5")
    tiny.run(tiny.open(twin))
    assert [entry.values for entry in tiny.entries(twin)] == [entry.values for entry in entries]
    record_property("injected", f"{kills} SIGKILLs of workers over {trials} trials, one of them {max(plan)} times")
    record_property("held", f"{trials} of {trials} complete; {lost} epochs trained twice; every epoch once")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trials_that_always_raise(
    tiny: Any, tmp_path: Path, ray_folder: Path, record_property: Callable[[str, Any], None]
) -> None:
    folder = tiny.create(tmp_path / "runs" / "tiny", "search.trials=20", "trial.epochs=2", "pruning={name: none}")
    log = tmp_path / "log"

    def work(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
        """Trial 4 is wrong, trial 9 breaks its device, trial 14 diverges."""
        from medtune.search.worker import run_job
        from medtune.training.loop import Training

        forward = Training._train_step

        def broken(self: Training, cases: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{job.trial}\n")
            if job.trial == 4:
                raise ValueError("size mismatch")
            if job.trial == 9:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return forward(self, cases) * (float("nan") if job.trial == 14 else 1)

        Training._train_step = broken  # type: ignore[method-assign]
        try:
            run_job(job, data, report)
        finally:
            Training._train_step = forward  # type: ignore[method-assign]

    run_on_ray(tiny, folder, work)
    assert states(tiny, folder) == {"complete": 17, "failed": 3}
    notes = {entry.number: entry.note for entry in tiny.entries(folder) if entry.state == "failed"}
    assert "ValueError: size mismatch" in notes[4] and "died 3 times" in notes[9] and "loss nan" in notes[14]
    steps = Counter(log.read_text().splitlines())
    assert (steps["4"], steps["9"]) == (1, 3)  # a wrong configuration is not tried again, a broken device is
    assert steps["14"] == -(-len(tiny.data(folder.config()).train) // folder.used(14)["batch_size"])  # one epoch
    runs = tracked(folder)
    assert {key for key, (run, _) in runs.items() if run.info.status == "FAILED"} == {
        "trial-0004",
        "trial-0009",
        "trial-0014",
    }
    record_property("injected", "3 of 20 trials: one raises always, one breaks its device, one diverges")
    record_property("held", "17 of 17 others complete; tried 1, 3 and 1 times, FAIL with the reason")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trials_that_run_out_of_memory(
    tiny: Any, tmp_path: Path, ray_folder: Path, record_property: Callable[[str, Any], None]
) -> None:
    folder = tiny.create(tmp_path / "runs" / "tiny", "search.trials=20", *WHOLE, "trial.batch_size=32")

    def work(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
        """Of every second trial a whole batch does not fit into the address space from its third epoch on; of trials 5
        and 15 half a batch does not either."""
        import resource

        import psutil
        import torch

        from medtune.search.worker import run_job
        from medtune.training.loop import Training

        gradients = Training._gradients

        def hungry(self: Training, images: Any, targets: Any) -> Any:
            if job.trial % 2 and self.epoch >= 2:
                torch.empty(len(images) // self.halves * 64 * 2**20, dtype=torch.uint8)
            return gradients(self, images, targets)

        Training._gradients = hungry  # type: ignore[method-assign]
        before = resource.getrlimit(resource.RLIMIT_AS)
        room = (0.5 if job.trial in (5, 15) else 1.5) * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + int(room), before[1]))
        try:
            run_job(job, data, report)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
            Training._gradients = gradients  # type: ignore[method-assign]

    run_on_ray(tiny, folder, work)
    assert states(tiny, folder) == {"complete": 18, "failed": 2}
    runs = tracked(folder)
    for entry in tiny.entries(folder):
        used, (run, _) = folder.used(entry.number), runs[f"trial-{entry.number:04d}"]
        halved = entry.number % 2
        assert used.get("halved_from") == (3 if halved else None) and used["batch_size"] == 32
        assert run.data.tags.get("medtune.halved_from") == ("3" if halved else None)
        if entry.number in (5, 15):
            assert entry.state == "failed" and "memory" in entry.note and sorted(entry.values) == [1, 2]
        else:
            assert [record["epoch"] for record in folder.epochs(entry.number)] == list(range(1, EPOCHS + 1))
    record_property("injected", "10 of 20 trials run into the limit of their worker's address space in epoch 3")
    record_property("held", "8 go on in halves and complete, 2 whose halves do not fit either FAIL; 10 others complete")


def test_what_is_said_of_a_memory_monitor_reaches_the_next_attempt(tiny: Any, tmp_path: Path) -> None:
    """Ray kills a worker where a machine runs out of memory, and starts it again with the trial's configuration."""
    folder = tiny.create(tmp_path / "tiny")
    run = tiny.open(folder)
    job = run.next_job()
    messages = engine._Messages(engine._Driver(run, Share("cpu", 1, 0.0, 2)))

    class Trial:
        config = engine._config(job, "")
        recovers = True
        error_file = tmp_path / "error.txt"

        def should_recover(self) -> bool:
            return self.recovers

        def set_config(self, config: dict[str, Any]) -> None:
            self.config = config

    trial = Trial()
    trial.error_file.write_text("Failure # 1\nsomething else\nFailure # 2\nOutOfMemoryError: Task was killed")
    messages.on_trial_error(None, trial)
    assert json.loads(trial.config["job"])["halve"]
    trial.recovers = False
    messages.on_trial_error(None, trial)
    (entry,) = tiny.entries(folder)
    assert entry.state == "failed" and "ran out of memory 3 times" in entry.note


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif("MEDTUNE_ALL_FAULTS" not in os.environ, reason="takes 4 GB, which a machine of others may not have")
def test_a_machine_that_runs_out_of_memory(
    tiny: Any,
    tmp_path: Path,
    ray_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, Any], None],
) -> None:
    memory = psutil.virtual_memory()
    monkeypatch.setenv("RAY_memory_usage_threshold", str((memory.total - memory.available + 4e9) / memory.total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    folder = tiny.create(tmp_path / "runs" / "tiny", "search.trials=4", "pruning={name: none}")

    def work(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
        """Whole batches of trial 1 take all the memory that there is, from its second epoch on."""
        import time

        import numpy as np

        from medtune.search.worker import run_job
        from medtune.training.loop import Training

        gradients = Training._gradients

        def hungry(self: Training, images: Any, targets: Any) -> Any:
            eaten = []
            while job.trial == 1 and self.epoch == 1 and self.halves == 1:
                eaten.append(np.ones(2**25))
                time.sleep(0.1)
            return gradients(self, images, targets)

        Training._gradients = hungry  # type: ignore[method-assign]
        try:
            run_job(job, data, report)
        finally:
            Training._gradients = gradients  # type: ignore[method-assign]

    run_on_ray(tiny, folder, work)
    assert states(tiny, folder) == {"complete": 4}
    assert folder.used(1)["halved_from"] == 2 and [record["epoch"] for record in folder.epochs(1)] == [1, 2, 3]
    record_property("injected", "one of 4 trials takes all the memory of the machine, and Ray kills its worker")
    record_property("held", "it goes on in halves; 4 of 4 complete")
