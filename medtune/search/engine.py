"""Ray Tune, which runs the jobs of a `Run`: jobs out through a searcher, messages back through a scheduler."""

import _thread
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

# Tune reads these when it is imported
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the folder and the tracker have all of it
os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1000"  # we say how many there may be
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # ours leaves the sweep resumable
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1000000000"  # nothing is ever restored from Ray's own state
os.environ["TUNE_WARN_THRESHOLD_S"] = "1000000000"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no tables of its own

import ray
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from medtune.provenance import versions
from medtune.search.cluster import KIND
from medtune.search.jobs import Run
from medtune.search.machines import make_software
from medtune.search.resources import Share
from medtune.search.watch import Watch, Where
from medtune.search.worker import Job, Message, SearchData, run_job

T = TypeVar("T")
Work = Callable[[Job, SearchData, Callable[[Message], None]], None]

SAME_SIGNAL = 1.0  # seconds within which a second one is an echo: a wrapper like `uv run` passes on what we have had
STRANGER = "this machine has another medtune than the driver"
NO_MEMORY = "OutOfMemoryError"  # of a worker, in Ray's words
SOME = 0.001  # of the kind of GPU that a machine has: Ray counts one of it for each machine
UNWIND = 8.0  # seconds that the driver has for leaving Ray, once the cluster is gone
DEATHS = 3  # of a worker that a trial survives without an epoch gained between them


def run_jobs(run: Run, data: SearchData, share: Share, watch: Watch | None = None, work: Work = run_job) -> None:
    """Runs jobs until the run wants no more, or is to stop. The data goes once into the object store, and from there
    once to each machine.

    watch: of the machines, which says how many jobs there is room for and is told where each runs. work: what a worker
    does with a job. Raises ConnectionError where the cluster is gone.
    """

    software, expected = make_software(), {} if watch is None or not watch.joined else versions()

    def trainable(config: dict[str, Any], data: SearchData) -> None:
        if software([*expected]) != expected:
            raise RuntimeError(STRANGER)  # a machine that has just come, and was not looked at yet
        context = ray.get_runtime_context()
        where = f"{context.get_node_id()} {' '.join(map(str, ray.get_gpu_ids()))}"

        def report(message: Message) -> None:
            # as one text: Ray would look at every value, flatten and copy it
            tune.report({"message": json.dumps(message), "where": where})

        work(Job(**json.loads(config["job"])), data, report)

    # a function within a function travels by value: workers need not import this module and the driver's half of search
    with_data, driver = tune.with_parameters(trainable, data=data), _Driver(run, share, watch)
    with tempfile.TemporaryDirectory(prefix="medtune-") as throwaway, _signals(driver):
        if watch is not None:
            watch.follow(run, driver.lost)
        tuner = tune.Tuner(
            tune.with_resources(with_data, _resources(share)),
            tune_config=tune.TuneConfig(
                num_samples=10**9,  # the searcher says when it is enough
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
        except _Gone:
            pass
        finally:
            driver.ended.set()
            driver.guarded(run.close)
    if driver.error is not None:
        raise driver.error


class _Gone(BaseException):
    """The cluster is, so that nothing may be asked of it any more: Ray would wait a minute, and end the process."""


class _Driver:
    """The run, the room that there is for its jobs, and the first error: Ray would take it for a trial's failure."""

    def __init__(self, run: Run, share: Share, watch: Watch | None = None) -> None:
        self.run, self.share, self.watch = run, share, watch
        self.error: Exception | None = None
        self.ended = threading.Event()
        self.kinds: dict[int, str] = {}  # of the GPUs that jobs have been given, where that matters

    @property
    def stopping(self) -> bool:
        return self.error is not None or self.run.stopping

    def room(self) -> str | None:
        """The kind of GPU that has the most room for another job; None where none may start now. With a number of jobs
        at once that somebody has set, a cluster gets so many: it may be one that grows when it is asked for more."""
        share, watch = self.share, self.watch
        places = {"": share.concurrent} if watch is None else share.places(watch.machines)
        most = sum(places.values())
        if share.at_most is not None:
            most = share.at_most if watch is not None and watch.joined else min(most, share.at_most)
        running = Counter(self.kinds.get(number, "") for number in self.run.live)
        if running.total() >= most:
            return None
        return max(places or {"": 0}, key=lambda kind: places.get(kind, 0) - running[kind])

    def lost(self) -> None:
        """Called in another thread. Ends the run where it is, and the process where it waits for Ray, which nothing can
        interrupt, and which would end it later without a word."""
        if self.ended.is_set():
            return  # nothing needs it any more
        self.error = ConnectionError("Ray, or the machine at the head of its cluster, does not answer any more")
        _thread.interrupt_main()
        if not self.ended.wait(UNWIND):
            self.guarded(self.run.close)
            print(f"stopped: {self.error}; nothing is lost: `medtune resume` goes on", file=sys.stderr, flush=True)
            os._exit(1)

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
        driver = self.driver
        kind = "" if driver.stopping else driver.room()
        if kind is None:
            return None  # later
        job = None if driver.stopping else driver.guarded(driver.run.next_job)
        if job is None:
            return Searcher.FINISHED
        driver.kinds[job.trial] = kind
        return _config(job, kind)

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
        if self.driver.watch is not None:
            machine, *gpus = result["where"].split()
            self.driver.watch.where[number] = Where(machine, [int(gpu) for gpu in gpus])
        message = json.loads(result["message"])
        # what is told again after a death is no gain
        if "epoch" in message and not run.knows(number, message["epoch"]):
            trial.run_metadata.num_failures = 0
        goes_on = self.driver.guarded(run.message, number, message)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Nobody: Tune starts what is pending in order by itself, and here FIFO would look at all trials for every
        message."""

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Ray calls it too for a trial that it tries again."""
        run, number = self.driver.run, trial.config["trial"]
        if self.driver.error is not None or number not in run.live:
            return
        errors = Path(trial.error_file).read_text() if trial.error_file else ""  # one below the other
        last = errors.rpartition("Failure #")[2]
        no_memory = NO_MEMORY in last
        if self.driver.watch is not None:
            self.driver.watch.where.pop(number, None)
        if not trial.should_recover():
            why = "ran out of memory" if no_memory else "died"
            note = f"its worker {why} {DEATHS} times without finishing an epoch"
            self.driver.guarded(run.end, number, "failed", note)
        elif STRANGER in last:
            trial.run_metadata.num_failures -= 1  # no fault of the trial's
        elif no_memory:
            trial.set_config(_config(replace(Job(**json.loads(trial.config["job"])), halve=True), trial.config["kind"]))


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
# a worker's death is no error of the sweep, and told by us where it is one of the trial
logging.getLogger(tune_controller.__name__).setLevel(logging.CRITICAL)


def _config(job: Job, kind: str) -> dict[str, Any]:
    return {"trial": job.trial, "kind": kind, "job": json.dumps(asdict(job))}


def _resources(share: Share) -> Any:
    """What a trial asks Ray for; by its configuration, where that depends on the kind of GPU."""
    cpus, by_kind = share.cpus, dict(share.by_kind)
    if not by_kind:
        return {"cpu": cpus, "gpu": share.gpus}

    def of(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        kind = config["kind"]
        return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": by_kind[kind], f"{KIND}{kind}": SOME}])

    return of


@contextmanager
def _signals(driver: _Driver) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sweep cleanly; a second one, or a cluster that is gone, ends it at once."""

    first = 0.0

    def interrupt(number: int, frame: Any) -> None:
        nonlocal first
        if isinstance(driver.error, ConnectionError):
            raise _Gone
        if first and time.monotonic() - first > SAME_SIGNAL:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        driver.run.interrupt()

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
