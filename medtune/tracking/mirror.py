"""Carries the spool of a sweep over to MLflow: `python -m medtune.tracking.mirror FOLDER`.

The driver starts it as a process of its own, so that neither a slow server nor a picture takes time from the driver's
event loop, and closes its standard input when there is nothing more to come. All of it may be done again after a kill,
or after an answer that was lost: a run is found by its tags, and a point has the time at which it was measured.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medtune.config.sweep import SweepConfig
from medtune.config.write import without_password
from medtune.data.catalogue import describe
from medtune.data.splits import data_md5
from medtune.figures.trial import draw_predictions
from medtune.files import to_json, whole_file, write_whole
from medtune.search.folder import SweepFolder
from medtune.tracking.registry import promote, register
from medtune.tracking.server import database_file, default_artifacts, runs_in, tracking_uri
from medtune.tracking.spool import SWEEP, Line, read_from

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # a run whose answer was lost would be made a second time, unseen
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a line for each run that ends

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

POINTS_A_CALL = 1000  # MLflow takes no more in a log_batch
LINES_A_ROUND = 2000
PARAM_LENGTH = 6000
TRAINING = "custom_model_development"  # otherwise the UI opens as one for language models
PAUSE = 0.5  # seconds between looks at the spool
LONGEST_PAUSE = 30.0  # seconds between tries to reach a server
PATIENCE = 20.0  # seconds that a server which is away is waited for when the sweep has ended
NOT_REACHED = 3  # the exit code
NICENESS = 19  # training goes first: Ray gives its workers 15


class AtWork(Exception):
    """Another process carries over this spool."""


class Mirror:
    """One sweep's runs on a tracking server. doubtful: whether an answer of the server was lost before."""

    def __init__(self, folder: SweepFolder, doubtful: bool = False) -> None:
        self.folder, self.doubtful = folder, doubtful
        self.config: SweepConfig = folder.config()
        self.uri = tracking_uri(self.config.tracking, folder.path)
        server = {"server": without_password(self.uri), "experiment": self.config.tracking.experiment}
        self.state = State(folder.tracking / "state", server)
        self.client: mlflow.MlflowClient | None = None
        self.experiment = ""
        self.runs: dict[str, str] = {}  # run ids by our keys

    def carry_over(self) -> bool:
        """Carries over what is new, up to `LINES_A_ROUND` lines. Whether there was any. Raises MlflowException."""
        spool = self.folder.tracking / "spool.jsonl"
        if not spool.exists() or (self.state.sure and self.state.offset >= spool.stat().st_size):
            return False
        self._connect()
        lines = list(islice(read_from(spool, self.state.offset), LINES_A_ROUND))
        if not lines:
            return False
        for metrics, group in groupby(lines, key=lambda line: line.event["do"] == "metrics"):
            if metrics:
                self._take(list(group))
            else:
                for line in group:
                    self._do(line)
        return True

    def _connect(self) -> None:
        if self.client is not None:
            return
        with _first_time(self.uri):
            client = mlflow.MlflowClient(self.uri)
            self.experiment = _experiment(client, self.config.tracking.experiment, self._artifacts())
        self.runs = self._find_runs(client)
        if SWEEP not in self.runs:  # another server than before, or an empty one
            self.state.offset = 0
        self.state.sure, self.client = True, client

    def settle(self) -> None:
        """Once all is carried over: what a server has made twice, because its answers were lost, stands there once."""
        if self.doubtful:
            self._connect()
            self._find_runs(self._client)
            self.doubtful = False

    def _find_runs(self, client: mlflow.MlflowClient) -> dict[str, str]:
        """The ids of the sweep's runs by our keys. Of two of one key, the one that nothing was ever written to goes."""
        found = runs_of(client, self.experiment, self.folder)
        for twins in found.values():
            for twin in twins[1:]:
                if not content(twin):
                    client.delete_run(twin.info.run_id)
        return {key: twins[0].info.run_id for key, twins in found.items()}

    def _artifacts(self) -> str | None:
        return default_artifacts(self.config.tracking, self.folder.path)

    def _take(self, lines: list[Line]) -> None:
        """Points, in as few calls as MLflow lets us."""
        by_run: dict[str, list[Metric]] = {}
        for line in lines:
            by_run.setdefault(line.event["run"], []).extend(_points(line.event))
        for run, points in by_run.items():
            if not self._there(run):
                continue
            for start in range(0, len(points), POINTS_A_CALL):
                self._client.log_batch(self.runs[run], metrics=points[start : start + POINTS_A_CALL])
        self.state.save(lines[-1].end)

    def _there(self, run: str) -> bool:
        """Whether the server has a run. One that was begun on another server, or deleted there, is left out with a
        line: it would hold up all that comes after it."""
        if run in self.runs:
            return True
        _say(f"{self.uri} has no run {run} of this sweep: left out")
        return False

    def _do(self, line: Line) -> None:
        if line.event["do"] == "start" or self._there(line.event["run"]):
            self._doers[line.event["do"]](line.event)
        self.state.save(line.end)

    @property
    def _doers(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        doers = {"start": self._start, "files": self._log_files, "tags": self._tag, "end": self._end}
        return {**doers, "register": self._register, "promote": self._promote}

    def _start(self, event: dict[str, Any]) -> None:
        key = event["run"]
        tags = {f"medtune.{name}": str(value) for name, value in event["tags"].items()}
        if key in self.runs:
            self._client.update_run(self.runs[key], status="RUNNING")
            self._client.log_batch(self.runs[key], tags=[RunTag(name, value) for name, value in tags.items()])
        else:
            self.runs[key] = self._create(event, tags)
        # of a run that was there too: a kill may have come between making it and this
        params = [Param(name, _text(value)) for name, value in event["params"].items()]
        if params:
            self._client.log_batch(self.runs[key], params=params)
        self._client.log_inputs(self.runs[key], [self._dataset()])
        if key == SWEEP:
            write_whole(self.folder.tracking / "parent_run_id", self.runs[key].encode())

    def _create(self, event: dict[str, Any], tags: dict[str, str]) -> str:
        key = event["run"]
        tags |= {"medtune.run": key, "medtune.sweep_id": self.folder.sweep_id, "mlflow.source.name": "medtune"}
        if event["parent"] in self.runs:
            tags["mlflow.parentRunId"] = self.runs[event["parent"]]
        name = self.config.sweep if key == SWEEP else key
        return str(self._client.create_run(self.experiment, _milliseconds(event["at"]), tags, name).info.run_id)

    def _log_files(self, event: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="medtune-") as staging:
            self._stage(self.folder.path / event["folder"], event["files"], Path(staging))
            if "epoch" in event:
                self._draw(Path(staging), event["epoch"])
            self._client.log_artifacts(self.runs[event["run"]], staging, event["into"] or None)

    def _tag(self, event: dict[str, Any]) -> None:
        tags = [RunTag(f"medtune.{name}", str(value)) for name, value in event["tags"].items()]
        if tags:
            self._client.log_batch(self.runs[event["run"]], tags=tags)

    def _end(self, event: dict[str, Any]) -> None:
        self._tag(event)
        self._client.set_terminated(self.runs[event["run"]], event["status"], _milliseconds(event["at"]))

    def _register(self, event: dict[str, Any]) -> None:
        register(self._client, self.folder, self.runs[event["run"]], event)

    def _promote(self, event: dict[str, Any]) -> None:
        promote(self._client, self.folder, event)

    def _stage(self, folder: Path, files: Iterable[str], staging: Path) -> None:
        """Puts together what becomes the artifacts of a run."""
        for name in files:
            if (folder / name).exists():
                shutil.copyfile(folder / name, staging / Path(name).name)
        if (staging / "sweep.yaml").exists():
            text = (staging / "sweep.yaml").read_text()
            (staging / "sweep.yaml").write_text(without_password(text))

    def _draw(self, staging: Path, epoch: int) -> None:
        info, path = describe(self.config.data), staging / "validation.npz"
        if not path.exists():
            return
        try:
            with np.load(path, allow_pickle=False) as predictions:
                draw_predictions(predictions, epoch, info.task, info.classes, staging)
        except Exception as error:  # a trial without its pictures is better than a mirror that stands still
            _say(f"no pictures of {path.name} at epoch {epoch}: {error}")

    def _dataset(self) -> DatasetInput:
        data = self.config.data
        dataset = Dataset(data.title, data_md5(data)[:36], "medtune", describe(data).title)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "train, validation")])

    @property
    def _client(self) -> mlflow.MlflowClient:
        assert self.client is not None  # _connect comes first
        return self.client


class State:
    """How far the spool has been carried over, in bytes, and to which server: another one gets it from the beginning.

    sure: whether the file is of this server. One of an earlier version has the offset alone: the server is to be asked.
    """

    def __init__(self, path: Path, server: dict[str, str]) -> None:
        self.path, self.server = path, server
        told = _read_state(path)
        if isinstance(told, int):
            told = {"offset": told}
        self.sure = told == {**server, "offset": told.get("offset")}
        self.offset = int(told["offset"]) if self.sure or told.keys() == {"offset"} else 0

    def save(self, offset: int) -> None:
        write_whole(self.path, to_json({**self.server, "offset": offset}).encode())
        self.offset = offset


def _read_state(path: Path) -> Any:
    """What the file holds; nothing where there is none, or none that can be read: then all is carried over again."""
    with contextlib.suppress(OSError, ValueError):
        told = json.loads(path.read_text())
        if isinstance(told, int | dict):
            return told
    return {}


def runs_of(client: mlflow.MlflowClient, experiment: str, folder: SweepFolder) -> dict[str, list[Run]]:
    """All runs of a sweep by our keys. Of several of one key, as a server makes whose answers are lost, the one with
    the most in it comes first."""
    found: dict[str, list[Run]] = {}
    for run in runs_in(client, experiment, f"tags.`medtune.sweep_id` = '{folder.sweep_id}'"):
        found.setdefault(run.data.tags["medtune.run"], []).append(run)
    return {key: sorted(runs, key=content, reverse=True) for key, runs in found.items()}


def content(run: Run) -> int:
    """How much was written to a run after it was made."""
    return len(run.data.params) + len(run.data.metrics) + len(run.inputs.dataset_inputs if run.inputs else ())


def _points(event: dict[str, Any]) -> list[Metric]:
    at, step = _milliseconds(event["at"]), int(event["step"])
    values = {key: value for key, value in event.items() if key not in ("do", "run", "at", "step")}
    return [Metric(key, float(value), at, step) for key, value in values.items()]


def _text(value: Any) -> str:
    return f"{value:.6g}"[:PARAM_LENGTH] if isinstance(value, float) else str(value)[:PARAM_LENGTH]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _experiment(client: mlflow.MlflowClient, name: str, artifacts: str | None) -> str:
    """The id of the experiment, made if it is not there: somebody else may make it at the same moment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        with contextlib.suppress(MlflowException):
            return str(client.create_experiment(name, artifacts, {"mlflow.experimentKind": TRAINING}))
        found = client.get_experiment_by_name(name)
    if found is None:
        raise MlflowException(f"the experiment {name} can neither be found nor made")
    return str(found.experiment_id)


@contextlib.contextmanager
def _first_time(uri: str) -> Iterator[None]:
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
                mlflow.MlflowClient(f"sqlite:///{new}").search_experiments(max_results=1)
        yield


def drain(folder: SweepFolder, more_to_come: threading.Event | None = None, patience: float = PATIENCE) -> bool:
    """Carries over until nothing is left and nothing more comes. False when the server stayed away for too long.

    patience: seconds to wait for the server once nothing more is to come. Raises AtWork while another process does it,
    unless more is to come: then that one is waited for.
    """
    try:
        alone = FileLock(folder.tracking / "mirror.lock").acquire(timeout=-1 if more_to_come else 0)
    except Timeout:
        raise AtWork(f"the mirror of {folder.path} is at work, as it is while a sweep runs: nothing to do") from None
    with alone:
        return _drain(folder, more_to_come, patience)


def _drain(folder: SweepFolder, more_to_come: threading.Event | None, patience: float) -> bool:
    mirror, doubtful, pause, give_up_at = None, False, PAUSE, math.inf
    while True:
        ended = more_to_come is None or not more_to_come.is_set()
        if ended:
            give_up_at = min(give_up_at, time.monotonic() + patience)
        try:
            mirror = mirror or Mirror(folder, doubtful)
            busy = mirror.carry_over()
            if ended and not busy:
                mirror.settle()
                return True
            pause, give_up_at = PAUSE, math.inf
        except Exception as error:  # whatever a server or a full disk does: the spool keeps it, and it is tried again
            _say(f"{time.strftime('%F %T')} {type(error).__name__}: {error}")
            mirror, doubtful, busy = None, True, False
            pause = min(2 * pause, LONGEST_PAUSE if not ended else 2.0)
            if time.monotonic() > give_up_at:
                return False
        if not busy:
            _sleep(pause, None if ended else more_to_come)


def _say(text: str) -> None:
    """Into the log, where the disk has room for it."""
    with contextlib.suppress(OSError):
        print(without_password(text), file=sys.stderr, flush=True)


def _sleep(seconds: float, more_to_come: threading.Event | None) -> None:
    """Wakes up early when the sweep ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and (more_to_come is None or more_to_come.is_set()):
        time.sleep(0.05)


def main(folder: str) -> int:
    os.nice(NICENESS)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # no temporary folder is left
    more_to_come = threading.Event()
    more_to_come.set()

    def wait_for_the_driver() -> None:
        sys.stdin.buffer.read()
        more_to_come.clear()

    threading.Thread(target=wait_for_the_driver, daemon=True).start()
    return 0 if drain(SweepFolder.open(Path(folder)), more_to_come) else NOT_REACHED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
