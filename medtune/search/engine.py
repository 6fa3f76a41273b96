"""Ray Tune, which runs the jobs of a `Run`: jobs out through a searcher, messages back through a scheduler."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

# Tune reads these when it is imported
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the folder and the tracker have all of it
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # ours leaves the sweep resumable
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1000000000"  # nothing is ever restored from Ray's own state
os.environ["TUNE_WARN_THRESHOLD_S"] = "1000000000"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no tables of its own

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from medtune.search.jobs import Run
from medtune.search.resources import Share
from medtune.search.worker import Job, Message, SearchData, run_job

Work = Callable[[Job, SearchData, Callable[[Message], None]], None]

SAME_SIGNAL = 1.0  # seconds within which a second one is an echo: a wrapper like `uv run` passes on what we have had
DEATHS = 3  # of a worker that a trial survives without an epoch gained between them


def run_jobs(run: Run, data: SearchData, share: Share, work: Work = run_job) -> None:
    """Runs jobs until the run wants no more, or is to stop. The data goes once into the object store.

    work: what a worker does with a job.
    """

    def trainable(config: dict[str, Any], data: SearchData) -> None:
        # as one text: Ray would look at every value, flatten and copy it
        work(Job(**json.loads(config["job"])), data, lambda message: tune.report({"message": json.dumps(message)}))

    # a function within a function travels by value: workers need not import this module and the driver's half of search
    with_data = tune.with_parameters(trainable, data=data)
    with tempfile.TemporaryDirectory(prefix="medtune-") as throwaway, _signals(run):
        tuner = tune.Tuner(
            tune.with_resources(with_data, {"cpu": share.cpus, "gpu": share.gpus}),
            tune_config=tune.TuneConfig(
                num_samples=10**9,  # the searcher says when it is enough
                max_concurrent_trials=share.concurrent,
                reuse_actors=True,
                search_alg=_Jobs(run),
                scheduler=_Messages(run),
                trial_name_creator=lambda trial: f"trial-{trial.config['trial']:04d}",
                trial_dirname_creator=lambda trial: f"{trial.config['trial']:04d}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=throwaway,
                stop=_Stop(run),
                failure_config=tune.FailureConfig(max_failures=DEATHS - 1),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            run.close()


class _InDriver:
    """Holds what lives in the driver alone: Ray pickles a tuner, for a restore that never comes."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Jobs(_InDriver, Searcher):
    """Hands out the jobs of a run."""

    def suggest(self, trial_id: str) -> Any:
        job = self.run.next_job()
        return Searcher.FINISHED if job is None else {"trial": job.trial, "job": json.dumps(asdict(job))}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class _Messages(_InDriver, FIFOScheduler):
    """Passes each message on and ends the trial when the run says so.

    It sees every message, the last ones too, which a searcher does not.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["trial"]
        if number not in self.run.live:
            return TrialScheduler.STOP
        message = json.loads(result["message"])
        if not self.run.knows(number, message.get("epoch")):  # what is told again after a death is no gain
            trial.run_metadata.num_failures = 0
        goes_on = self.run.message(number, message)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if not trial.should_recover() and trial.config["trial"] in self.run.live:
            self.run.end(trial.config["trial"], "failed", f"its worker died {DEATHS} times without finishing an epoch")


class _Stop(_InDriver, Stopper):
    """Ends the whole run, whatever is in it."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.run.stopping


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
