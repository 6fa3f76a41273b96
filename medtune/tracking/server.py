"""Where the runs go: addresses, and the default database beside the sweep folders."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from medtune.config.sweep import Tracking
from medtune.file_system import MOUNTS, network_file_system
from medtune.files import whole_file
from medtune.search.folder import FolderError, SweepFolder

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")


def tracking_uri(config: Tracking, sweep_folder: Path) -> str:
    """The address that the file gives, or that of `mlflow.db` beside the sweep's folder."""
    return config.uri or f"sqlite:///{sweep_folder.parent / 'mlflow.db'}"


def default_artifacts(config: Tracking, sweep_folder: Path) -> str | None:
    """Where files go without a server: beside the database. A server decides for itself."""
    database = database_file(tracking_uri(config, sweep_folder))
    return (database.absolute().parent / "mlartifacts").as_uri() if database else None


def database_file(uri: str) -> Path | None:
    """The file of a sqlite database; None where an address is of something else."""
    found = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    return Path(found[1]) if found else None


def refuse_network_file_system(config: Tracking, sweep_folder: Path, mounts: Path = MOUNTS) -> None:
    """Raises FolderError where the database of the runs would be on a network file system: sqlite needs locks that
    hold, and most of them have none that do; the file is damaged some day (sqlite.org/faq.html, 5)."""
    database = database_file(tracking_uri(config, sweep_folder))
    kind = network_file_system(database, mounts) if database else None
    if database and kind:
        raise FolderError(
            f"{database.absolute()}: sqlite is not safe on a network file system, and this is on one ({kind}); "
            f"put it on a disk of this machine with --set tracking.uri=sqlite:////tmp/{database.name}, or give the "
            "address of a server; the folder of the sweep may stay where it is"
        )


def count_experiments(uri: str) -> int:
    """How many experiments a server has. Raises MlflowException when it cannot be reached."""
    return len(_client(uri).search_experiments())


def experiment_id(uri: str, name: str) -> str | None:
    """The id of an experiment; None where there is none of this name. Raises MlflowException likewise."""
    found = _client(uri).get_experiment_by_name(name)
    return None if found is None else str(found.experiment_id)


def runs_in(client: Any, experiment: str, only: str = "") -> Iterator[Any]:
    """The runs of an experiment, page by page. only: a filter as MLflow has them."""
    token = None
    while True:
        page = client.search_runs([experiment], only, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def runs_of(client: Any, experiment: str, folder: SweepFolder) -> dict[str, list[Any]]:
    """All runs of a sweep by our keys. Of several of one key, as a server makes whose answers are lost, the one with
    the most in it comes first."""
    found: dict[str, list[Any]] = {}
    for run in runs_in(client, experiment, f"tags.`medtune.sweep_id` = '{folder.sweep_id}'"):
        found.setdefault(run.data.tags["medtune.run"], []).append(run)
    return {key: sorted(runs, key=content, reverse=True) for key, runs in found.items()}


def content(run: Any) -> int:
    """How much was written to a run after it was made."""
    return len(run.data.params) + len(run.data.metrics) + len(run.inputs.dataset_inputs if run.inputs else ())


@contextlib.contextmanager
def made_once(uri: str) -> Iterator[None]:
    """A sqlite file is made whole or not at all, and once: a kill while MLflow makes its schema would leave one that
    nothing opens, and so would two processes that make it at once."""
    database = database_file(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        if not database.exists():
            with whole_file(database) as new:
                new.unlink(missing_ok=True)  # of one that was killed
                _client(f"sqlite:///{new}").search_experiments(max_results=1)
        yield


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow

    return mlflow.MlflowClient(uri)
