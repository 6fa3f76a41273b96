"""PostgreSQL: its programs, a connection, and one that runs in a folder."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from mlflow_server.settings import ServerError

DEBIAN = Path("/usr/lib/postgresql")
CONNECTIONS = 200  # each worker of MLflow may open some dozens
PATIENCE = 60.0  # seconds for a start, which after a crash reads the log first, or for a stop


def program(name: str) -> str:
    """The path of one of its programs, of the newest version that is there. Raises ServerError."""
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        raise ServerError(f"there is no {name} here: install PostgreSQL (on Debian: apt install postgresql)")
    return found


def connect(database: str | None = None) -> psycopg.Connection[Any]:
    """To the database that the environment says, unless another one is named. Raises ServerError."""
    try:
        return psycopg.connect(dbname=database or os.environ["PGDATABASE"], autocommit=True)
    except psycopg.Error as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ServerError(f"PostgreSQL cannot be used as PGHOST, PGPORT, PGUSER and PGDATABASE say: {said}") from None


class LocalPostgres:
    """PostgreSQL in the folder of a server, on the loopback of this machine and with a password. It refuses to be run
    by root, who runs it as the user `postgres` or `nobody`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.data, self.log = self.folder / "postgresql", self.folder / "postgresql.log"
        self.somebody = _somebody() if os.geteuid() == 0 else {}
        self.process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Runs it from `with` to its end, unless it runs already; makes it when it is not there. The environment of
        this process says where it is. Raises ServerError."""
        if not self.data.exists():
            self._make()
        try:
            os.environ["PGHOST"] = "127.0.0.1"
            os.environ["PGPORT"] = str(self.port() or self._start())
            yield
        finally:
            self._stop()

    def port(self) -> int | None:
        """Where it listens; None when it does not run."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid, _, _, port = (self.data / "postmaster.pid").read_text().splitlines()[:4]
            if b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(port)
        return None

    def _make(self) -> None:
        """Under another name first: a kill leaves nothing that looks whole."""
        new = self.folder / "postgresql.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        with tempfile.TemporaryDirectory(prefix="medtune-") as scratch:
            password = Path(scratch) / "password"
            password.touch(mode=0o600)
            password.write_text(os.environ["PGPASSWORD"])
            for path in (new, Path(scratch), password):
                self._give_away(path)
            command = [program("initdb"), "-D", str(new), "-U", os.environ["PGUSER"], "-A", "scram-sha-256"]
            command += [f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8"]
            made = subprocess.run(command, cwd="/", capture_output=True, text=True, **self.somebody)
        if made.returncode:
            lines = made.stderr.splitlines()
            said = [line for line in lines if "error" in line or "FATAL" in line] or [f"initdb: {made.returncode}"]
            raise ServerError(f"{self.folder}: {said[0]}{self._hint()}")
        new.rename(self.data)

    def _start(self) -> int:
        """The port at which it takes connections; its database is made when it is not there."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        os.environ["PGPORT"] = str(port)
        options = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories="]
        options += [f"max_connections={CONNECTIONS}"]
        command = [program("postgres"), "-D", str(self.data), *(word for one in options for word in ("-c", one))]
        with self.log.open("ab") as log:
            how: dict[str, Any] = {"stdout": log, "stderr": log, "start_new_session": True, **self.somebody}
            self.process = subprocess.Popen(command, cwd="/", **how)
        self._make_database()
        return port

    def _make_database(self) -> None:
        name = os.environ["PGDATABASE"]
        with self._first_connection() as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _first_connection(self) -> psycopg.Connection[Any]:
        assert self.process is not None
        for _ in range(int(PATIENCE * 10)):
            with contextlib.suppress(ServerError):
                return connect("postgres")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
                break
        raise ServerError(
            f"{self.folder}: PostgreSQL does not start, or not with this password: see {self.log}{self._hint()}"
        )

    def _stop(self) -> None:
        """As its service does: those who are connected are thrown out, and nothing is lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)
            self.process = None

    def _give_away(self, path: Path) -> None:
        if self.somebody:
            shutil.chown(path, self.somebody["user"], self.somebody["group"])

    def _hint(self) -> str:
        """Whether the other user cannot get at the folder."""
        enters = subprocess.run(["test", "-x", self.folder], **self.somebody).returncode == 0
        return "" if enters else f"; {self.somebody['user']} must be allowed to enter it: chmod a+x it and those above"


def _somebody() -> dict[str, Any]:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": name, "group": found.pw_gid, "extra_groups": []}
    raise ServerError("root cannot run PostgreSQL, and there is neither a user postgres nor nobody: be another user")
