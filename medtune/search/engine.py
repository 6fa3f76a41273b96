"""Ray Tune, which runs the jobs of a `Run`: jobs out through a searcher, messages back through a scheduler."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

# Tune reads these when it is imported
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the folder and the tracker have all of it
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # ours leaves the sweep resumable
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1000000000"  # nothing is ever restored from Ray's own state
os.environ["TUNE_WARN_THRESHOLD_S"] = "1000000000"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no tables of its own

from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from medtune.search.jobs import Run
from medtune.search.resources import Share
from medtune.search.worker import Job, Message, SearchData, run_job

T = TypeVar("T")
Work = Callable[[Job, SearchData, Callable[[Message], None]], None]

SAME_SIGNAL = 1.0  # seconds within which a second one is an echo: a wrapper like `uv run` passes on what we have had
NO_MEMORY = "OutOfMemoryError"  # of a worker, in Ray's words
DEATHS = 3  # of a worker that a trial survives without an epoch gained between them


def run_jobs(run: Run, data: SearchData, share: Share, work: Work = run_job) -> None:
    """Runs jobs until the run wants no more, or is to stop. The data goes once into the object store.

    work: what a worker does with a job.
    """

    def trainable(config: dict[str, Any], data: SearchData) -> None:
        # as one text: Ray would look at every value, flatten and copy it
        work(Job(**json.loads(config["job"])), data, lambda message: tune.report({"message": json.dumps(message)}))

    # a function within a function travels by value: workers need not import this module and the driver's half of search
    with_data, driver = tune.with_parameters(trainable, data=data), _Driver(run)
    with tempfile.TemporaryDirectory(prefix="medtune-") as throwaway, _signals(run):
        tuner = tune.Tuner(
            tune.with_resources(with_data, {"cpu": share.cpus, "gpu": share.gpus}),
            tune_config=tune.TuneConfig(
                num_samples=10**9,  # the searcher says when it is enough
                max_concurrent_trials=share.concurrent,
                reuse_actors=True,
                search_alg=_Jobs(driver),
                scheduler=_Messages(driver),
                trial_name_creator=lambda trial: f"trial-{trial.config['trial']:04d}",
                trial_dirname_creator=lambda trial: f"{trial.config['trial']:04d}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=throwaway,
                stop=_Stop(driver),
                failure_config=tune.FailureConfig(max_failures=DEATHS - 1),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            driver.guarded(run.close)
    if driver.error is not None:
        raise driver.error


class _Driver:
    """The run, and the first error that it raised: Ray would take it for the failure of a trial."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.error: Exception | None = None

    @property
    def stopping(self) -> bool:
        return self.error is not None or self.run.stopping

    def guarded(self, ask: Callable[..., T], *arguments: Any) -> T | None:
        """What the run answers; None once it has raised an error, which ends all."""
        try:
            return ask(*arguments)
        except Exception as error:
            self.error = self.error or error
            return None


class _InDriver:
    """Holds what lives in the driver alone: Ray pickles a tuner, for a restore that never comes."""

    def __init__(self, driver: _Driver) -> None:
        super().__init__()
        self.driver = driver

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Jobs(_InDriver, Searcher):
    """Hands out the jobs of a run."""

    def suggest(self, trial_id: str) -> Any:
        job = None if self.driver.stopping else self.driver.guarded(self.driver.run.next_job)
        return Searcher.FINISHED if job is None else _config(job)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class _Messages(_InDriver, FIFOScheduler):
    """Passes each message on and ends the trial when the run says so.

    It sees every message, the last ones too, which a searcher does not.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        run, number = self.driver.run, trial.config["trial"]
        if self.driver.error is not None or number not in run.live:
            return TrialScheduler.STOP
        message = json.loads(result["message"])
        # what is told again after a death is no gain
        if "epoch" in message and not run.knows(number, message["epoch"]):
            trial.run_metadata.num_failures = 0
        goes_on = self.driver.guarded(run.message, number, message)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Ray calls it too for a trial that it tries again."""
        run, number = self.driver.run, trial.config["trial"]
        if self.driver.error is not None or number not in run.live:
            return
        errors = Path(trial.error_file).read_text() if trial.error_file else ""  # one below the other
        no_memory = NO_MEMORY in errors.rpartition("Failure #")[2]
        if not trial.should_recover():
            why = "ran out of memory" if no_memory else "died"
            note = f"its worker {why} {DEATHS} times without finishing an epoch"
            self.driver.guarded(run.end, number, "failed", note)
        elif no_memory:
            trial.set_config(_config(replace(Job(**json.loads(trial.config["job"])), halve=True)))


class _Stop(_InDriver, Stopper):
    """Ends the whole run, whatever is in it."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.driver.stopping


class _Manager(RayActorManager):
    """Ray's own takes a worker that was killed for want of memory for no death, and ends the whole run (2.60)."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=f"{NO_MEMORY}: {exception}")
        super()._actor_task_failed(tracked_actor_task, exception)


tune_controller.RayActorManager = _Manager  # type: ignore[attr-defined]


def _config(job: Job) -> dict[str, Any]:
    return {"trial": job.trial, "job": json.dumps(asdict(job))}


@contextmanager
def _signals(run: Run) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sweep cleanly; a second one ends it at once."""

    first = 0.0

    def interrupt(number: int, frame: Any) -> None:
        nonlocal first
        if first and time.monotonic() - first > SAME_SIGNAL:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        run.interrupt()

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
