"""Where one driver stops scaling: what a report and a trial cost it with 10, 100 or 1,000 slots, and in a long sweep.

    uv run python benchmarks/driver_scale.py --layers run tune ray --slots 10 100 1000
    uv run python benchmarks/driver_scale.py --layers run --long 20000 --sampler random

The driver is the real one; what reports to it is simulated, because 1,000 worker processes do not fit one machine:

run   messages go straight into the `SweepRun`: folder, ledger, pruner, spool. No engine.
tune  Ray Tune's real loop above it. Its actors are simulated: they deliver from a heap of times, without Ray.
ray   the same loop with Ray's real futures: one process answers for all slots, each once a second, in real time.

`run` and `tune` go as fast as they can. Milliseconds are the driver's processor time: a report is an epoch in the
middle of a trial, a start is the way from nothing to a trial that runs, a turn is the end of one trial and the start of
the next. Beside them the milliseconds a report that it waits: for the disk, in `ray` for the next report. At 1,000
reports a second 1 ms a report is a whole core. MLflow's mirror is a process of its own and does not run.
"""

import argparse
import asyncio
import cProfile
import heapq
import itertools
import json
import multiprocessing
import os
import platform
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray
from ray import cloudpickle
from ray.air.execution import AcquiredResources, ResourceManager, ResourceRequest
from ray.air.execution._internal.event_manager import RayEventManager
from ray.tune.execution import tune_controller

from medtune.config.read import read_sweep
from medtune.data import Split
from medtune.search import cluster, engine
from medtune.search.folder import SweepFolder
from medtune.search.jobs import Run
from medtune.search.ledger import Ledger
from medtune.search.pruning import build_pruner
from medtune.search.resources import Share
from medtune.search.run import SweepRun
from medtune.search.sweep import JobMaker
from medtune.search.worker import Job, Message, SearchData, run_job
from medtune.tracking.spool import Spool, TrialSpool

EPOCHS = 20
PERIOD = 1.0  # seconds between two reports of a slot
NAMES = ("train/loss", "lr", "val/loss", "val/auroc", "val/accuracy", "val/ece", "val/brier", "epoch_seconds")
SWEEP = """
sweep: driver-scale
data: {dataset: phantom-binary}
trial:
  batch_size: {choice: [32, 64, 128]}
  model: {name: smallcnn, dropout: {uniform: [0, 0.5]}}
  optimizer:
    choice:
      - {name: adam, lr: {log_uniform: [1.0e-4, 1.0e-1]}, weight_decay: {log_uniform: [1.0e-6, 1.0e-2]}}
      - {name: sgd, lr: {log_uniform: [1.0e-4, 1.0e-1]}, weight_decay: {log_uniform: [1.0e-6, 1.0e-2]}}
"""


# ---------------------------------------------------------------- what reports


def message(job: Job, epoch: int) -> Message:
    """What a worker would say of an epoch: a curve that costs nothing to make."""
    height = 0.5 + 0.4 * np.random.default_rng(job.seed).random()
    values = dict.fromkeys(NAMES, 0.123456789) | {"val/auroc": height * (1 - 0.5**epoch)}
    return {"epoch": epoch, "last": epoch == job.config["epochs"], "at": time.time(), "halved_from": None, **values}


def one_checkpoint(out: Path) -> bytes:
    """A real checkpoint, of which every trial leaves a copy: at a trial's end the driver reads it."""
    (out / "sweep.yaml").write_text(SWEEP)
    config = read_sweep(out / "sweep.yaml", ["trial.model.dropout=0", "trial.optimizer={name: adam}"])
    values = np.random.default_rng(0)
    splits = [Split(values.integers(0, 255, (64, 28, 28)).astype(np.uint8), np.arange(64) % 2) for _ in range(2)]
    trial = {**config.trial, "epochs": 1, "batch_size": 32, "precision": "float32"}
    job = JobMaker(config, Share("cpu", 1, 0.0, 1))(0, trial, str(out / "one"))
    run_job(job, SearchData("one", *splits), lambda message: None)
    [file] = (out / "one").glob("attempt-1/*.safetensors")
    return file.read_bytes()


def leave(checkpoint: bytes, storage: str) -> None:
    """What a worker leaves of its trial."""
    attempt = Path(storage) / "attempt-1"
    attempt.mkdir(parents=True, exist_ok=True)
    (attempt / "epoch-0001.safetensors").write_bytes(checkpoint)


class Metered:
    """A run that notes, at every call, the driver's seconds so far: of the processor and of the wall.

    What a worker would do, leaving its checkpoint, is done here and taken out of both.
    """

    def __init__(self, run: SweepRun, checkpoint: bytes) -> None:
        self.run, self.checkpoint = run, checkpoint
        self.marks: list[tuple[str, float, float]] = []
        self._workers = np.zeros(2)
        self.inside = 0.0  # processor seconds spent within the run itself
        self.on_end: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def next_job(self) -> Job | None:
        before = time.process_time()
        job = self.run.next_job()
        self.inside += time.process_time() - before
        if job is not None:
            self._mark("start")
        return job

    def message(self, number: int, message: Message) -> bool:
        live = self.run.live[number]
        if message["epoch"] == 1 and live.job is not None:
            before = np.array(now())
            leave(self.checkpoint, live.job.storage)
            self._workers += np.array(now()) - before
        before_it = time.process_time()
        goes_on = self.run.message(number, message)
        self.inside += time.process_time() - before_it
        self._mark("report" if goes_on else "end")
        if not goes_on:
            self.on_end()
        return goes_on

    def _mark(self, what: str) -> None:
        used, wall = np.array(now()) - self._workers
        self.marks.append((what, float(used), float(wall)))


def now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


# ---------------------------------------------------------------- run: without an engine


def feed(run: Run, slots: int) -> None:
    """Messages from a heap of times: each slot reports once in a period, until the run wants no more."""
    order = itertools.count()
    due = [(PERIOD * slot / slots, next(order), None, 0) for slot in range(slots)]
    while due:
        at, _, job, epoch = heapq.heappop(due)
        if job is None or not run.message(job.trial, message(job, epoch)):
            job, epoch = run.next_job(), 0
        if job is not None:
            heapq.heappush(due, (at + PERIOD, next(order), job, epoch + 1))  # type: ignore[misc]
    run.close()


# ---------------------------------------------------------------- tune: its loop, with simulated actors


@dataclass
class Place(AcquiredResources):
    """A slot for an actor; whatever is to become an actor in it becomes a simulated one."""

    make: Callable[[], Any]

    def annotate_remote_entities(self, entities: list[Any]) -> list[Any]:
        return [SimpleNamespace(remote=lambda **arguments: self.make(**arguments))]


class Places(ResourceManager):
    """As many slots as there are, at once. Ray's own makes a placement group for each."""

    slots = 1

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make, self.free, self.wanted = make, self.slots, 0

    def request_resources(self, resource_request: ResourceRequest) -> None:
        self.wanted += 1

    def cancel_resource_request(self, resource_request: ResourceRequest) -> None:
        self.wanted -= 1

    def has_resources_ready(self, resource_request: ResourceRequest) -> bool:
        return self.free > 0 and self.wanted > 0

    def acquire_resources(self, resource_request: ResourceRequest) -> Place:
        self.free, self.wanted = self.free - 1, self.wanted - 1
        return Place(resource_request, self.make)

    def free_resources(self, acquired_resource: AcquiredResources) -> None:
        self.free += 1

    def get_resource_futures(self) -> list[Any]:
        return []

    def clear(self) -> None: ...


class Trainable:
    """What Tune's wrapper of a function says in a worker, without the worker."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.begin(config)

    def begin(self, config: dict[str, Any]) -> bool:
        self.config = {"trial": config["trial"], "job": config["job"]}
        self.job, self.epoch = Job(**json.loads(config["job"])), 0
        return True

    def filled(self) -> dict[str, Any]:
        """What Tune adds to every result."""
        at = time.time()
        return {
            "trial_id": f"{self.job.trial:08x}",
            "date": time.strftime("%Y-%m-%d_%H-%M-%S"),
            "timestamp": int(at),
            "time_this_iter_s": PERIOD,
            "time_total_s": PERIOD * self.epoch,
            "pid": os.getpid(),
            "hostname": platform.node(),
            "node_ip": "127.0.0.1",
            "config": self.config,
            "time_since_restore": PERIOD * self.epoch,
            "iterations_since_restore": self.epoch,
        }

    def train(self) -> dict[str, Any]:
        self.epoch += 1
        told = {"message": json.dumps(message(self.job, self.epoch)), "checkpoint_dir_name": None, "done": False}
        return {**told, "training_iteration": self.epoch, **self.filled()}


class Heap:
    """Futures of simulated actors, each with the time at which it is there."""

    def __init__(self) -> None:
        self.at, self.order = 0.0, itertools.count()
        self.due: list[tuple[float, int, tuple[Any, ...]]] = []

    def future(self, answer: Callable[[], Any], later: float = 0.0) -> tuple[Any, ...]:
        future = (next(self.order), answer)
        heapq.heappush(self.due, (self.at + later, future[0], future))
        return future

    def next(self) -> tuple[Any, ...] | None:
        if not self.due:
            return None
        self.at, _, future = heapq.heappop(self.due)
        return future


class HeapActor:
    """An actor's handle, as Tune uses it."""

    def __init__(self, heap: Heap, config: dict[str, Any]) -> None:
        trainable, future = Trainable(config), heap.future
        first = itertools.chain([np.random.default_rng(trainable.job.trial).random()], itertools.repeat(1.0))
        self.__ray_ready__ = SimpleNamespace(remote=lambda: future(lambda: True))
        self.stop = SimpleNamespace(remote=lambda: future(lambda: None))
        self.train = SimpleNamespace(remote=lambda: future(trainable.train, PERIOD * next(first)))
        self.reset = SimpleNamespace(remote=lambda config, storage: future(partial(trainable.begin, config)))
        self.get_auto_filled_metrics = SimpleNamespace(remote=lambda **_: {"node_ip": "127.0.0.1", "pid": 1})


class HeapEvents(RayEventManager):
    """Resolves futures of the heap."""

    def resolve_future(self, future: Any) -> None:
        on_result, _ = self._tracked_futures.pop(future)
        result = future[1]()
        if on_result:
            on_result(result)


class HeapManager(engine._Manager):
    """Tune's manager of actors, with the heap in the place of Ray."""

    def __init__(self, resource_manager: Any) -> None:
        self.heap = Heap()
        super().__init__(Places(lambda config, **_: HeapActor(self.heap, config)))
        self._actor_state_events, self._actor_task_events = HeapEvents(), HeapEvents()

    def next(self, timeout: float | None = None) -> bool:
        self._try_start_actors()
        while (future := self.heap.next()) is not None:
            for events in (self._actor_state_events, self._actor_task_events):
                if future in events._tracked_futures:
                    events.resolve_future(future)
                    self._try_start_actors()
                    return True
        return False

    def cleanup(self) -> None: ...


# ---------------------------------------------------------------- ray: real futures, one process for all slots


class Host:
    """All slots in one process: each answers when its period is over, from the moment on at which all are there."""

    def __init__(self, slots: int) -> None:
        self.wanted, self.all_there = slots, asyncio.Event()
        self.slots: dict[int, Trainable] = {}
        self.due: dict[int, float] = {}

    async def begin(self, slot: int, config: dict[str, Any]) -> bool:
        self.slots[slot] = Trainable(config)
        if len(self.slots) == self.wanted:
            self.all_there.set()
        return True

    async def train(self, slot: int) -> dict[str, Any]:
        await self.all_there.wait()
        at = self.due.get(slot, time.monotonic() + PERIOD * np.random.default_rng(slot).random())
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        self.due[slot] = max(at + PERIOD, time.monotonic())
        return self.slots[slot].train()

    async def filled(self, slot: int) -> dict[str, Any]:
        return {"node_ip": "127.0.0.1", "pid": os.getpid()}

    async def stop(self, slot: int) -> None: ...


class HostedActor:
    """An actor's handle whose methods are those of one slot of the host."""

    numbers = itertools.count()

    def __init__(self, host: Any, config: dict[str, Any]) -> None:
        slot, sent = next(self.numbers), {"trial": config["trial"], "job": config["job"]}
        self.__ray_ready__ = SimpleNamespace(remote=lambda: host.begin.remote(slot, sent))
        self.stop = SimpleNamespace(remote=lambda: host.stop.remote(slot))
        self.train = SimpleNamespace(remote=lambda: host.train.remote(slot))
        self.reset = SimpleNamespace(
            remote=lambda config, storage: host.begin.remote(slot, {key: config[key] for key in ("trial", "job")})
        )
        self.get_auto_filled_metrics = SimpleNamespace(remote=lambda **_: host.filled.remote(slot))


class HostedManager(engine._Manager):
    """Tune's manager of actors as it is, with Ray's futures; the actors' handles alone are simulated."""

    def __init__(self, resource_manager: Any) -> None:
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a script
        host = ray.remote(num_cpus=0, max_concurrency=10_000)(Host).remote(Places.slots)
        super().__init__(Places(lambda config, **_: HostedActor(host, config)))

    def cleanup(self) -> None: ...


# ---------------------------------------------------------------- one measurement


@dataclass
class Cost:
    """Milliseconds of processor time. waiting: of the wall, a report, beyond it. inside: the share of all processor
    time that is medtune's, without the engine. rate: reports a second of wall. megabytes: at most."""

    start: float
    report: float
    turn: float
    waiting: float
    inside: float
    rate: float
    megabytes: float


def measure(
    layer: str, slots: int, trials: int, epochs: int, sampler: str, profile: str, checkpoint: bytes, out: Path
) -> Cost:
    (out / "sweep.yaml").write_text(SWEEP)
    overrides = [f"search.trials={trials}", f"trial.epochs={epochs}", f"search.sampler={sampler}", "pruning.name=asha"]
    # a grace as long as the trials: ASHA has every value, and nothing ends before its time
    config = read_sweep(out / "sweep.yaml", [*overrides, f"pruning.grace_epochs={max(1, epochs - 1)}"])
    folder, share = SweepFolder.create(out / "runs" / "scale", config), Share("cpu", 1, 0.0, slots)
    if layer != "run":
        cluster.start(config.cluster)
    spool = TrialSpool(Spool(folder.tracking / "spool.jsonl"), {"sweep": "scale"})
    pruner = build_pruner(config.pruning, config.direction, epochs)
    run: Any = Metered(
        SweepRun(folder, config, Ledger(folder, config, write=True), pruner, JobMaker(config, share), [spool]),
        checkpoint,
    )
    before, profiler = now(), cProfile.Profile()
    with profiler if profile else _nothing():
        if layer == "run":
            feed(run, slots)
        else:
            Places.slots = slots
            tune_controller.RayActorManager = HeapManager if layer == "tune" else HostedManager
            data = SearchData("none", *[Split(np.zeros((2, 28, 28), np.uint8), np.array([0, 1]))] * 2)
            engine.run_jobs(run, data, share)
            cluster.stop()
    if profile:
        pstats.Stats(profiler).dump_stats(profile)
    return cost_of(run, slots, before)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def cost_of(run: Metered, slots: int, before: tuple[float, float]) -> Cost:
    """From the marks: before the first report all slots start; then they report; from the first end on they turn."""
    what = [mark[0] for mark in run.marks]
    used = np.array([mark[1:] for mark in run.marks])
    first, ended = next(i for i, one in enumerate(what) if one == "report"), what.index("end")
    # after every slot has reported once, and before any has come to its end
    reporting = slice(min(first + slots, ended - 2), ended - 1)
    reports = what[reporting].count("report") - 1
    span = used[reporting][-1] - used[reporting][0]
    per_report, per_report_wall = span / reports
    last = len(what) - 1 - what[::-1].index("start")
    turning = slice(ended - 1, last)
    turned = what[turning]
    rest = used[turning][-1][0] - used[turning][0][0] - per_report * turned.count("report")
    total = used[-1][0] - before[0]
    return Cost(
        start=1e3 * (used[first - 1][0] - before[0]) / what[:first].count("start"),
        report=1e3 * per_report,
        turn=1e3 * rest / max(1, turned.count("end")),
        waiting=1e3 * max(0.0, per_report_wall - per_report),
        inside=run.inside / total,
        rate=reports / span[1],
        megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    )


# ---------------------------------------------------------------- a long sweep


def long_sweep(trials: int, slots: int, epochs: int, sampler: str, checkpoint: bytes, out: Path) -> None:
    """One sweep, with what a trial costs the driver as it grows; then what it is to open it again."""
    (out / "sweep.yaml").write_text(SWEEP)
    overrides = [f"search.trials={trials}", f"trial.epochs={epochs}", f"search.sampler={sampler}"]
    config = read_sweep(out / "sweep.yaml", overrides)
    folder, share = SweepFolder.create(out / "runs" / "scale", config), Share("cpu", 1, 0.0, slots)
    spool = TrialSpool(Spool(folder.tracking / "spool.jsonl"), {"sweep": "scale"})
    pruner = build_pruner(config.pruning, config.direction, epochs)
    sweep = SweepRun(folder, config, Ledger(folder, config, write=True), pruner, JobMaker(config, share), [spool])
    run: Any = Metered(sweep, checkpoint)
    ended, begun, step = itertools.count(1), 0, max(1, trials // 8)

    def tell() -> None:
        """A line at each eighth of the sweep."""
        nonlocal begun
        if (so_far := next(ended)) % step == 0:
            part, begun = run.marks[begun:], len(run.marks)
            used, wall = np.subtract(part[-1][1:], part[0][1:]) * 1e3 / step
            reports = sum(mark[0] != "start" for mark in part) / step
            print(f"{so_far:13} {used:29.2f} {wall:9.2f} {reports:17.1f}", flush=True)

    run.on_end = tell
    print("trials so far   ms a trial with its reports   wall ms   reports a trial")
    feed(run, slots)
    print(f"driver {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB at most")
    sizes = {name: (folder.path / name).stat().st_size / 1e6 for name in ("ledger.log", "tracking/spool.jsonl")}
    print(" ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))
    before = now()
    ledger = Ledger(folder, config)
    entries = ledger.entries()
    opened, wall = np.subtract(now(), before)
    print(f"{len(entries)} trials opened again in {opened:.1f} s of the processor, {wall:.1f} s")


# ---------------------------------------------------------------- many of them


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Each in a process of its own, so that memory is its own."""
    with tempfile.TemporaryDirectory() as out, multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (*arguments, Path(out)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", default=["run", "tune", "ray"], choices=["run", "tune", "ray"])
    parser.add_argument("--slots", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--long", type=int, default=0, help="trials of one long sweep, in the place of the table")
    parser.add_argument("--profile", default="", help="write cProfile's statistics here, which slows everything down")
    options = parser.parse_args()
    checkpoint = _apart(one_checkpoint)
    if options.long:
        _apart(long_sweep, options.long, options.slots[-1], options.epochs, options.sampler, checkpoint)
        return
    print("layer slots | ms: start  report    turn | waits, a report  | medtune's share | reports/s | MB")
    for layer, slots in itertools.product(options.layers, options.slots):
        cost = _apart(measure, layer, slots, 2 * slots, options.epochs, options.sampler, options.profile, checkpoint)
        print(
            f"{layer:5} {slots:5} | {cost.start:9.2f} {cost.report:7.3f} {cost.turn:7.2f} | {cost.waiting:16.3f} | "
            f"{cost.inside:15.2f} | {cost.rate:9.0f} | {cost.megabytes:4.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
