"""A server that says no: to whoever asks, to what it was given, or not for long."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from medtune.config.sweep import Tracking
from medtune.search.events import EpochEnded
from medtune.search.folder import SweepFolder
from medtune.tracking import mirror
from medtune.tracking.mirror import drain
from medtune.tracking.refusals import Refused, is_wrong, refusal
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool
from medtune.tracking.tracker import Tracker

HOST = "Invalid Host header - possible DNS rebinding attack detected"


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mirror, "PAUSE", 0.02)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def says_no() -> Iterator[Callable[[int, str], str]]:
    """`says_no(403, text)`: the address of a server that answers everything so."""
    servers = []

    def start(status: int, text: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_PATCH = do_PUT = _answer

            def log_message(self, *_: Any) -> None: ...

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://me:secret@127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> SweepFolder:
    folder = tiny.create(tmp_path / "runs" / "tiny")
    Spool(folder.tracking / "spool.jsonl").start("sweep", {})
    return folder


def point_to(folder: SweepFolder, uri: str) -> None:
    folder.write_config(folder.config().model_copy(update={"tracking": Tracking(uri=uri)}))


@pytest.mark.parametrize(
    ("status", "text", "user", "told"),
    [
        (401, "You are not authenticated", None, "wants a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PA"),
        (401, "You are not authenticated", "ada", "does not know the user ada with this password: check MLFLOW_TRACK"),
        (403, "Permission denied", "ada", "lets the user ada write nothing: be one who may"),
        (403, HOST, "ada", "does not answer to this name: write another in tracking.uri"),
    ],
)
def test_whoever_may_not_is_told_so_and_loses_nothing(
    status: int,
    text: str,
    user: str | None,
    told: str,
    says_no: Any,
    folder: SweepFolder,
    monkeypatch: Any,
    capsys: Any,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    if user:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55word")
    point_to(folder, says_no(status, text))
    more_to_come = threading.Event()
    more_to_come.set()  # a sweep that goes on
    with pytest.raises(Refused) as refused:
        drain(folder, more_to_come)
    said = str(refused.value)
    assert told in said and said.startswith("http://me:***@127.0.0.1:") and "\n" not in said
    assert not (folder.tracking / "state").exists()
    err = capsys.readouterr().err
    assert not any(word in said + err for word in ("secret", "pa55word"))
    point_to(folder, f"sqlite:///{folder.path.parent}/mlflow.db")
    assert drain(folder)


@pytest.mark.slow
def test_the_driver_tells_it_while_the_sweep_goes_on(
    says_no: Any, folder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    point_to(folder, says_no(403, "Permission denied"))
    told, epoch = "", 0
    with Tracker(folder, folder.config()) as tracker:
        watcher = tracker.watcher()
        while not told:
            epoch += 1
            watcher.epoch_ended(EpochEnded(0, epoch, time.time(), {"val/auroc": 0.5}))
            time.sleep(0.1)
            told = capsys.readouterr().err
        watcher.epoch_ended(EpochEnded(0, epoch + 1, time.time(), {"val/auroc": 0.5}))
    later = f"`medtune tracking sync {folder.path}` carries everything over later"
    assert told.startswith("tracking http://me:***@127.0.0.1:") and told.endswith(f"; {later}\n")
    assert "write nothing: be one who may" in told and told.count("\n") == 1
    assert capsys.readouterr().err == ""  # once
    assert not tracker.reached and tracker.process.returncode == 4
    assert "Fatal" not in (folder.tracking / "mirror.log").read_text()


def test_one_no_alone_is_not_believed(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was deleted for good is denied to a user too, and then found missing."""
    real, calls = mlflow.MlflowClient.log_inputs, []

    def denied_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise MlflowException("Permission denied", error_code=7)  # as MLflow numbers it
        return real(*arguments)

    monkeypatch.setattr(mlflow.MlflowClient, "log_inputs", denied_once)
    assert drain(folder) and len(calls) == 2


def test_an_experiment_that_was_deleted_is_named(folder: SweepFolder) -> None:
    uri = tracking_uri(folder.config().tracking, folder.path)
    assert drain(folder)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("medtune").experiment_id
    client.delete_experiment(experiment)
    Spool(folder.tracking / "spool.jsonl").tags("sweep", {"looks": 1})
    with pytest.raises(Refused, match="the experiment medtune is deleted on the server: restore it, or give "):
        drain(folder)
    client.restore_experiment(experiment)
    assert drain(folder)
    (run,) = client.search_runs([experiment])
    assert run.data.tags["medtune.looks"] == "1"


def test_what_no_server_takes_is_left_out_alone(folder: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    spool = Spool(folder.tracking / "spool.jsonl")
    for epoch in range(1, 40):
        spool.metrics("sweep", epoch, float(epoch), {"good": epoch / 7, **({"no?name": 1.0} if epoch == 11 else {})})
    spool.tags("sweep", {"x" * 300: "too long a name"})
    spool.tags("sweep", {"after": "it"})
    assert drain(folder)
    client = mlflow.MlflowClient(tracking_uri(folder.config().tracking, folder.path))
    (run,) = client.search_runs([client.get_experiment_by_name("medtune").experiment_id])
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "good")]
    assert steps == [epoch for epoch in range(1, 40) if epoch != 11]
    assert run.data.tags["medtune.after"] == "it"
    lines = [line for line in capsys.readouterr().err.splitlines() if "refuses" in line]
    assert (
        len(lines) == 2 and "refuses metrics of sweep: left out: " in lines[0] and "refuses tags of sweep" in lines[1]
    )
    assert drain(folder) and capsys.readouterr().err == ""


def _answer(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("no", response=response)


def _json(code: str, message: str = "") -> RestException:
    return RestException(json.loads(json.dumps({"error_code": code, "message": message})))


@pytest.mark.parametrize(
    ("error", "wrong", "refused"),
    [
        (_json("INVALID_PARAMETER_VALUE"), True, False),
        (
            _json("BAD_REQUEST", "(psycopg.DataError) PostgreSQL text fields cannot contain NUL (0x00) bytes"),
            True,
            False,
        ),
        (_json("BAD_REQUEST", "QueuePool limit of size 5 overflow 10 reached, connection timed out"), False, False),
        (_json("TEMPORARILY_UNAVAILABLE"), False, False),
        (_json("INTERNAL_ERROR"), False, False),
        (_json("PERMISSION_DENIED"), False, True),
        (_answer(413), True, False),
        (_answer(401), False, True),
        (_answer(403), False, True),
        (_answer(404), False, False),
        (_answer(502), False, False),
        (requests.ConnectionError("away"), False, False),
        (OSError(28, "No space left on device"), False, False),
    ],
)
def test_what_is_tried_again(error: Exception, wrong: bool, refused: bool) -> None:
    assert is_wrong(error) == wrong
    assert (refusal(error, "http://server") is not None) == refused
