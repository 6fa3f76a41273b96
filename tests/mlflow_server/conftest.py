"""The scripts of mlflow_server as people run them, and a server that a module shares: to start takes half a minute."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest

from mlflow_server.settings import HERE, PASSWORDS, read_env

START = 180  # seconds that a server may take
SERVER = ("PG", "MLFLOW_", "AWS_")  # what its environment begins with


def clean_environment(**more: str) -> dict[str, str]:
    """Ours without what would say something to a server."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(SERVER)}
    return {**ours, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}", **more}


def run_script(name: str, *arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, HERE / name, *map(str, arguments)]
    return subprocess.run(command, env=clean_environment(**environment), capture_output=True, text=True, timeout=START)


class LocalServer:
    """`serve --local` in a folder of its own, at an address that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [sys.executable, HERE / "serve", "--local", self.folder, "--port", str(self.port), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--workers", "1"], env=clean_environment(), stdout=log, stderr=log
            )
        while "is ready" not in self.said:
            assert self.process.poll() is None, self.said
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code; nothing of it is left."""
        assert self.process is not None
        of_it = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        self.process.send_signal(how)
        code = self.process.wait(60)
        self.process = None
        assert [one for one in of_it[1:] if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
        return code

    @property
    def said(self) -> str:
        return self.log.read_text()

    def password(self, user: str) -> str:
        return read_env(self.folder)[PASSWORDS[user]]

    def be(self, user: str, patch: pytest.MonkeyPatch, password: str | None = None) -> mlflow.MlflowClient:
        """From here on the environment is that of a user, as it is for `medtune sweep`."""
        patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", password or self.password(user))
        return mlflow.MlflowClient(self.url)


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """Where another user may go: root runs PostgreSQL as one."""
    folder = Path(tempfile.mkdtemp(prefix="mt-server-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(open_folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(open_folder)
    server.start()
    yield server
    if server.process is not None:
        server.stop()


@pytest.fixture(scope="session")
def postgres_is_here() -> None:
    from mlflow_server.postgresql import program
    from mlflow_server.settings import ServerError

    try:
        program("initdb")
    except ServerError:
        pytest.skip("there is no PostgreSQL on this machine")


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run("backup", folder, target, PGHOST=...)`: a script, with nothing of ours in its environment but that."""
    return run_script
