"""The MLflow UI on this machine."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

from medtune.config.write import without_password
from medtune.search.folder import FolderError, SweepFolder
from medtune.tracking.server import experiment_id, tracking_uri


def serve(folder: Path, port: int) -> int:
    """Runs the server until it is stopped. folder: of one sweep, or the one that holds `mlflow.db`.

    Raises FolderError where there is no database, or where the sweep went to a server, which has a page of its own.
    """
    uri = _database(folder.absolute())
    print(f"http://127.0.0.1:{port}{_page(uri, folder)} shows {folder}; Ctrl-C ends it", file=sys.stderr, flush=True)
    command = ["server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return _run([sys.executable, "-m", "mlflow", *command])


def _run(command: list[str]) -> int:
    """Until it ends, or Ctrl-C or SIGTERM says so: then with all the processes that it has started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, env=_environment(), start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _environment() -> dict[str, str]:
    """Without the server's job workers, which serve language models and take half a minute of processor time."""
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}


def _page(uri: str, folder: Path) -> str:
    """Where in the UI the trials of a sweep stand, best first; the front page for the folder of all sweeps."""
    if not (folder / "sweep.id").exists():
        return ""
    opened = SweepFolder.open(folder)
    config = opened.config()
    experiment = experiment_id(uri, config.tracking.experiment)
    if experiment is None:
        return ""
    name = config.search.metric.removeprefix("val/")
    trials = f"tags.`medtune.sweep_id` = '{opened.sweep_id}' and tags.`medtune.run` LIKE 'trial%'"
    order = {"orderByKey": f"metrics.`best/{name}`", "orderByAsc": str(config.direction == "min").lower()}
    return f"/#/experiments/{experiment}/runs?{urlencode({'searchFilter': trials, **order}, quote_via=quote)}"


def _database(folder: Path) -> str:
    if (folder / "mlflow.db").exists():
        return f"sqlite:///{folder / 'mlflow.db'}"
    opened = SweepFolder.open(folder)
    config = opened.config().tracking
    if config.uri and not config.uri.startswith("sqlite:"):
        raise FolderError(f"{folder} went to a server: open {without_password(config.uri)} in a browser")
    return tracking_uri(config, folder)
