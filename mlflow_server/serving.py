"""`serve`: the server without containers."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from mlflow_server.postgresql import LocalPostgres
from mlflow_server.settings import (
    EVERYWHERE,
    HERE,
    WRITER,
    ServerError,
    env_file,
    read_env,
    take_names,
    take_settings,
    write_env,
)

START = 180.0  # seconds that MLflow may take; a worker imports for 10 to 20
STOP = 10.0  # seconds that requests which are under way have left when it ends


def main() -> int:
    """Until Ctrl-C or SIGTERM. The exit code."""
    options = _options()
    folder: Path = options.local or options.folder
    if options.local and write_env(folder):
        print(f"{env_file(folder)} is made: it has the passwords of {folder}", file=sys.stderr)
    take_settings(folder)
    _refuse_two_databases(folder, options.local is not None)
    take_names(options.host, options.port, options.allowed_hosts)
    with LocalPostgres(folder).running() if options.local else contextlib.nullcontext():
        # as a process of its own, which gives back the memory that MLflow takes
        if options.migrate and subprocess.run([sys.executable, HERE / "migrate", folder], stdout=sys.stderr).returncode:
            return 1  # it has said why
        with _mlflow(options.host, options.port, options.workers) as server:
            _wait_until_it_answers(server, options.host, options.port)
            _tell(folder, options.host, options.port)
            code = server.wait()
    raise ServerError(f"the server has ended by itself, with {code}: what it said above is why")


def _refuse_two_databases(folder: Path, local: bool) -> None:
    where = f"{env_file(folder)}: PGHOST says on which machine PostgreSQL is"
    if local and "PGHOST" in read_env(folder):
        raise ServerError(f"{where}: leave --local out, or the line")
    if not local and "PGHOST" not in os.environ:
        raise ServerError(f"{where}, and is missing; with --local one is started")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mlflow_server/serve",
        description="An MLflow server with users, on a PostgreSQL that is there, or with --local on one in a folder.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", type=Path, metavar="FOLDER", help="starts PostgreSQL too; all is in this folder")
    where.add_argument("--folder", type=Path, default=HERE, help="where `.env` is, and the files (default: here)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2, help="processes that answer (default: 2)")
    parser.add_argument(
        "--allowed-hosts", default="", metavar="NAMES", help="names by which it may be called, by comma"
    )
    parser.add_argument("--no-migrate", dest="migrate", action="store_false", help="somebody else has made the tables")
    return parser.parse_args()


@contextlib.contextmanager
def _mlflow(host: str, port: int, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server and all that it has started, from `with` to its end."""
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", host, "--port", str(port), "--workers", str(workers), "--uvicorn-opts", "--no-access-log"]
    server = subprocess.Popen(command, start_new_session=True)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP)
        with contextlib.suppress(ProcessLookupError):  # what is left of them
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_until_it_answers(server: subprocess.Popen[bytes], host: str, port: int) -> None:
    address = f"http://{'127.0.0.1' if host in EVERYWHERE else host}:{port}/health"
    until = time.monotonic() + START
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = server.wait(0.2)
            raise ServerError(f"the server does not start (it ended with {code}): what it said above is why")
    raise ServerError(f"the server does not answer at {address} after {START:.0f} s")


def _tell(folder: Path, host: str, port: int) -> None:
    address = f"http://{host}:{port}"
    lines = [
        f"{address} is ready; Ctrl-C ends it",
        f"sweeps   --set tracking.uri={address}, after",
        f"         export MLFLOW_TRACKING_USERNAME={WRITER}",
        f"         export MLFLOW_TRACKING_PASSWORD=$(sed -n s/^SWEEPS_PASSWORD=//p {env_file(folder)})",
        f"browser  as the user reader, with READER_PASSWORD of {env_file(folder)}",
    ]
    if host not in ("127.0.0.1", "localhost", "::1"):
        lines.append("note     passwords go over the network in the clear: put a proxy with TLS in front, see the docs")
    print("\n".join(lines), flush=True)
