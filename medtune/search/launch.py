"""Brings jobs to where they run: onto Ray, or into this process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from medtune.config.sweep import SweepConfig
from medtune.search.jobs import Run, run_here
from medtune.search.resources import Share, plan_shares, share_of_this_machine
from medtune.search.worker import SearchData

R = TypeVar("R", bound=Run)


class Launch(Protocol):
    """Loads the data, makes the run once it is known what each job gets, and runs it to its end."""

    def __call__(self, config: SweepConfig, load: Callable[[], SearchData], make_run: Callable[[Share], R]) -> R: ...


def on_ray(config: SweepConfig, load: Callable[[], SearchData], make_run: Callable[[Share], R]) -> R:
    """As many jobs at once as this machine or the cluster has room for."""
    from medtune.search import cluster

    with ThreadPoolExecutor(max_workers=2) as beside:  # Ray takes seconds to start, and mostly waits
        starting = beside.submit(cluster.start, config.cluster)
        loading = beside.submit(load)
        from medtune.search.engine import run_jobs

        try:
            share = plan_shares(config.resources, *starting.result(), config.data.side)
            data = loading.result()
            run = make_run(share)
            run_jobs(run, data, share)
        finally:
            cluster.stop()
    return run


def in_this_process(config: SweepConfig, load: Callable[[], SearchData], make_run: Callable[[Share], R]) -> R:
    """One job after another."""
    run = make_run(share_of_this_machine(config))
    run_here(run, load())
    return run
