"""The MLflow UI on this machine."""

import subprocess
import sys
from pathlib import Path

from medtune.search.folder import FolderError, SweepFolder
from medtune.tracking.server import tracking_uri, without_password


def serve(folder: Path, port: int) -> int:
    """Runs the server until it is stopped. folder: of one sweep, or the one that holds `mlflow.db`.

    Raises FolderError where there is no database, or where the sweep went to a server, which has a page of its own.
    """
    uri = _database(folder.absolute())
    print(f"http://127.0.0.1:{port} shows {folder}; Ctrl-C ends it", file=sys.stderr, flush=True)
    command = ["server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    try:
        return subprocess.run([sys.executable, "-m", "mlflow", *command], check=False).returncode
    except KeyboardInterrupt:
        return 0


def _database(folder: Path) -> str:
    if (folder / "mlflow.db").exists():
        return f"sqlite:///{folder / 'mlflow.db'}"
    opened = SweepFolder.open(folder)
    config = opened.config().tracking
    if config.uri and not config.uri.startswith("sqlite:"):
        raise FolderError(f"{folder} went to a server: open {without_password(config.uri)} in a browser")
    return tracking_uri(config, folder)
