"""A real MLflow server, and a proxy before it that does what servers do on bad days."""

import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START = 100  # seconds that a server may take to start

# good; hanging: never answers; 500; cut: does it, and cuts the answer in half; or seconds by which it is late to begin
Mode = str | float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mlflow_server(where: Path) -> Iterator[str]:
    """The address of a server with a sqlite database in a folder."""
    where.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{where}/server.db", "--artifacts-destination", str(where / "files")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (where / "log").open("wb") as log:
        options: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log, "cwd": where}
        server = subprocess.Popen(command, start_new_session=True, **options)
    try:
        until = time.monotonic() + START
        while not _healthy(port):
            assert time.monotonic() < until and server.poll() is None, (where / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        shutil.rmtree(where, ignore_errors=True)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Proxy:
    """Before a server, at an address of its own. `mode`: how it does its next request, or a function of the method and
    path that says so. `seen`: how often each mode was had."""

    def __init__(self, server: str) -> None:
        self.server = server.removeprefix("http://")
        self.mode: Mode | Callable[[str, str], Mode] = "good"
        self.seen: dict[str, int] = {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._ended = threading.Event()
        self._http: ThreadingHTTPServer | None = None
        self.open()

    def open(self) -> None:
        if self._http is None:
            self._http = _Server(("127.0.0.1", self.port), _handler_of(self))
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """From now on connections are refused."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def end(self) -> None:
        self._ended.set()
        self.close()

    def pause(self, seconds: float) -> None:
        self._ended.wait(seconds)


def at_random(seed: int, share: float, modes: tuple[Mode, ...]) -> Callable[[str, str], Mode]:
    """A mode of a proxy: a share of the requests goes wrong, each in one of these ways."""
    generator = random.Random(seed)
    return lambda method, path: generator.choice(modes) if generator.random() < share else "good"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # a client that went away


def _handler_of(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            mode = proxy.mode if isinstance(proxy.mode, str | float) else proxy.mode(self.command, self.path)
            proxy.seen[str(mode)] = proxy.seen.get(str(mode), 0) + 1
            self.close_connection = True
            if mode == "hanging":
                return proxy.pause(3600)
            if mode == "500":
                return self.send_error(500, "Internal Server Error")
            if isinstance(mode, float):
                proxy.pause(mode)
            self._relay(body, mode == "cut")

        def _relay(self, body: bytes, cut: bool) -> None:
            server = http.client.HTTPConnection(proxy.server, timeout=60)
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            content = answer.read()
            server.close()
            if cut:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                return
            self.send_response_only(answer.status, answer.reason)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle

        def log_message(self, *_: Any) -> None: ...

    return Handler
