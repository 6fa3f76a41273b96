"""Whether this machine can run sweeps, and whether a sweep's folder is in order, one finding at a time."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from medtune.config.sweep import Cluster, SweepConfig, Tracking
from medtune.config.write import without_password
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.leftovers import Leftover, find_leftovers


@dataclass(frozen=True)
class Finding:
    what: str
    right: bool
    found: str


def examine(config: SweepConfig | None) -> Iterator[Finding]:
    """Everything, or with a sweep file also the data and the server that it names."""
    yield from (_look(name, partial(version, name)) for name in _PACKAGES)
    yield _look("devices", _devices)
    yield _look("threads", _threads)
    yield _look("Ray", lambda: _ray(config.cluster if config else Cluster()))
    yield _look("tracking server", lambda: _server(config.tracking if config else Tracking()))
    if config:
        yield _look("data", lambda: _data(config))


def examine_folder(path: Path, fix: bool) -> Iterator[Finding]:
    """What killed processes have left of a sweep, in its folder and on the tracking server. fix: mends it, where that
    takes nobody's judgement. Raises FolderError where there is no sweep, and ConfigError."""
    from medtune.tracking.orphans import find_orphans
    from medtune.tracking.tracker import Tracker

    folder = SweepFolder.open(path)
    config = folder.config()
    try:
        folder.lock()
    except FolderError:
        yield Finding("folder", False, f"{path}: a process is at work in it; say this again when it has ended")
        return
    try:
        if not fix:
            folder.unlock()
        clean = True
        in_folder = find_leftovers(folder, config, lambda: [Tracker(folder, config).watcher()])
        for leftover in chain(in_folder, find_orphans(folder, config)):
            clean = False
            yield _mended(leftover) if fix else Finding("left over", False, _told(leftover))
        if clean:
            yield Finding("folder", True, f"{path}: nothing is left over")
    finally:
        folder.unlock()


def _told(leftover: Leftover) -> str:
    return f"{leftover.what}; {'--fix ' if leftover.mend else ''}{leftover.remedy}"


def _mended(leftover: Leftover) -> Finding:
    if leftover.mend is None:
        return Finding("left over", False, _told(leftover))
    try:
        leftover.mend()
    except Exception as error:  # a finding of its own
        return Finding("left over", False, without_password(f"{leftover.what}; {type(error).__name__}: {error}"))
    return Finding("mended", True, f"{leftover.what}; done: {leftover.remedy}")


_PACKAGES = ("medtune", "torch", "torchvision", "ray", "optuna", "mlflow", "medmnist", "scikit-learn", "numpy")


def _look(what: str, at: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, at())
    except Exception as error:  # a finding of its own
        return Finding(what, False, without_password(f"{type(error).__name__}: {error}"))


def _devices() -> str:
    import torch

    from medtune.training.device import detect_device, resolve_precision

    device = detect_device()
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{', '.join(names) or device}; precision auto is {resolve_precision('auto', device)}"


def _threads() -> str:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ}
    said = ", ".join(f"{name}={value}" for name, value in limits.items())
    return f"{cpus} CPUs; each trial gets as many threads as CPUs{'; ' + said if said else ''}"


def _ray(cluster: Cluster) -> str:
    from medtune.search.cluster import start, stop

    found = start(cluster)
    stop()
    cpus, gpus = sum(machine.cpus for machine in found), sum(machine.gpus for machine in found)
    machines = f"{len(found)} machines, " if len(found) > 1 else ""
    return f"starts; {machines}{cpus} CPUs, {gpus} GPUs"


def _server(config: Tracking) -> str:
    from medtune.tracking.server import count_experiments, tracking_uri

    uri = tracking_uri(config, Path("runs", "any").absolute())
    if config.uri is None and not Path("runs", "mlflow.db").exists():
        return f"{uri}, made by the first sweep"
    return f"{without_password(uri)}, {count_experiments(uri)} experiments"


def _data(config: SweepConfig) -> str:
    from medtune.data.splits import load_search_splits

    train, val = load_search_splits(config.data)
    return f"{config.data.title} at {config.data.side} px: {len(train)} train, {len(val)} validation cases, whole"
