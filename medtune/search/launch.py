"""Brings jobs to where they run: onto Ray, or into this process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from medtune.config.sweep import SweepConfig
from medtune.search.folder import SweepFolder
from medtune.search.jobs import Run, run_here
from medtune.search.machines import Machine, address_of, mark
from medtune.search.prepare import weight_files
from medtune.search.resources import Share, plan_shares, share_of_this_machine
from medtune.search.worker import SearchData

if TYPE_CHECKING:
    from medtune.search.watch import Watch

R = TypeVar("R", bound=Run)


class Launch(Protocol):
    """Loads the data, makes the run once it is known what each job gets, and runs it to its end."""

    def __call__(
        self,
        folder: SweepFolder,
        config: SweepConfig,
        load: Callable[[], SearchData],
        make_run: Callable[[Share], R],
    ) -> R: ...


def on_ray(
    folder: SweepFolder, config: SweepConfig, load: Callable[[], SearchData], make_run: Callable[[Share], R]
) -> R:
    """As many jobs at once as this machine or the cluster has room for."""
    from medtune.search import cluster

    with ThreadPoolExecutor(max_workers=2) as beside:  # Ray takes seconds to start, and mostly waits
        starting = beside.submit(cluster.start, config.cluster)
        loading = beside.submit(load)
        from medtune.search.engine import run_jobs

        watch = None
        try:
            watch = _watch(folder, config, starting.result())
            data = loading.result()
            share = _share(config, watch, data)
            run = make_run(share)
            run_jobs(run, data, share, watch)
        finally:
            if watch is not None:
                watch.stop()
            cluster.stop()
    return run


def _watch(folder: SweepFolder, config: SweepConfig, machines: list[Machine]) -> "Watch":
    """Raises ResourceError, and ClusterError where a machine can take no trial of this sweep."""
    from medtune.search.watch import Watch

    device = plan_shares(config.resources, machines, config.data.side).device
    storage = folder.storage(config.cluster.storage, "").rstrip("/")
    mark(storage)
    joined = address_of(config.cluster) is not None
    return Watch(machines, joined, device, storage, folder.machines, weight_files(config))


def _share(config: SweepConfig, watch: "Watch", data: SearchData) -> Share:
    """What each job gets, the same on every machine: the precision that all of them have."""
    packed: dict[str, int] = {}
    if watch.device == "cuda" and config.resources.gpus_per_trial == "auto":
        from medtune.search.packing import measure_packing

        packed = measure_packing(config, watch.machines, data)
    share = plan_shares(config.resources, watch.machines, config.data.side, packed)
    if not watch.joined:
        return share
    precisions = {condition.precision for condition in watch.conditions.values()}
    return replace(share, precision="bfloat16" if precisions == {"bfloat16"} else "float32")


def in_this_process(
    folder: SweepFolder, config: SweepConfig, load: Callable[[], SearchData], make_run: Callable[[Share], R]
) -> R:
    """One job after another."""
    run = make_run(share_of_this_machine(config))
    run_here(run, load())
    return run
