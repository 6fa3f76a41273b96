"""What the MLflow run of a trial holds: the files from which the trial can be trained again."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from medtune.config.write import without_password
from medtune.search.record import Record, RecordError, read_record
from medtune.tracking.spool import TRIAL_FILES

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

import mlflow
from mlflow.exceptions import MlflowException

RUN = re.compile(r"runs:/+([0-9a-zA-Z]+)/?")
PAGE = re.compile(r"(https?://[^#]*?)/*#/.*runs/([0-9a-zA-Z]+)(?:[/?].*)?")  # as a browser shows it
DATABASES = ("runs/mlflow.db", "mlflow.db")  # where a sweep that was started here has put its runs


def record_of_run(address: str, server: str | None = None) -> Record:
    """The record that the run of a trial holds.

    address: `runs:/ID`, or that of the run's page in a browser. server: its address, or a folder with `mlflow.db`;
    unless given that of the page, what MLFLOW_TRACKING_URI says, or the database of the sweeps that are here. Raises
    RecordError where there is no such run or server, or where it is not that of a trial that has ended.
    """
    uri, run_id = _located(address, server)
    where, client = f"run {run_id} on {without_password(uri)}", mlflow.MlflowClient(uri)
    try:
        trial = _trial_of(client.get_run(run_id), where)
        with tempfile.TemporaryDirectory(prefix="medtune-") as scratch:
            _download(client, run_id, Path(scratch), where)
            return read_record(Path(scratch), f"trial {trial}, {where}", trial)
    except (MlflowException, OSError) as error:
        said = without_password(str(error).splitlines()[0])
        raise RecordError(f"{where} cannot be read: {said}") from error


def _located(address: str, server: str | None) -> tuple[str, str]:
    """The server's address, and the id of the run."""
    page, run = PAGE.fullmatch(address), RUN.fullmatch(address)
    if page is not None:
        return server or page[1], page[2]
    if run is None:
        raise RecordError(f"{without_password(address)}: write runs:/ID, or the address of the run's page in a browser")
    return known_server(server), run[1]


def known_server(given: str | None) -> str:
    """The address of a server; a database is never made by looking for a run in it."""
    known = given or os.environ.get("MLFLOW_TRACKING_URI")
    if known is None:
        database = next((Path(name) for name in DATABASES if Path(name).exists()), None)
        if database is None:
            raise RecordError(f"there is no {DATABASES[0]} here: say with --tracking on which server the run is")
    elif "://" in known and not known.startswith("sqlite:///"):
        return known
    else:
        path = Path(known.removeprefix("sqlite:///"))
        database = path / "mlflow.db" if path.is_dir() else path
        if not database.exists():
            raise RecordError(
                f"{known}: there is no such database; give a server's address, or a folder with mlflow.db"
            )
    return f"sqlite:///{database.absolute()}"


def _trial_of(run: Any, where: str) -> int:
    tags = run.data.tags
    key = tags.get("medtune.run", "")
    if not key.startswith("trial-"):
        told = f"is {key}, and no trial" if key else "is none of medtune"
        raise RecordError(f"{where} {told}: give a run that the UI lists as trial-0000 and so on")
    return int(tags["medtune.trial"])


def _download(client: mlflow.MlflowClient, run_id: str, into: Path, where: str) -> None:
    there = {file.path for file in client.list_artifacts(run_id)}
    if "config.yaml" not in there:
        raise RecordError(
            f"{where} has no files yet: they come when the trial ends, and `medtune tracking sync FOLDER` brings what "
            "a server has missed"
        )
    for name in TRIAL_FILES:
        if name in there:
            client.download_artifacts(run_id, name, str(into))
