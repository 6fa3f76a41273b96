"""Carries the spool of a sweep over to MLflow: `python -m medtune.tracking.mirror FOLDER`.

The driver starts it as a process of its own, so that neither a slow server nor a picture takes time from the driver's
event loop, and closes its standard input when there is nothing more to come. All of it may be done again after a kill:
a run is found by its tags, and a point has the time at which it was measured.
"""

import contextlib
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from filelock import FileLock

from medtune.config.sweep import SweepConfig
from medtune.config.write import without_password
from medtune.data.catalogue import describe
from medtune.data.splits import data_md5
from medtune.figures.trial import draw_predictions
from medtune.files import write_whole
from medtune.search.folder import SweepFolder
from medtune.tracking.registry import promote, register
from medtune.tracking.server import default_artifacts, runs_in, tracking_uri
from medtune.tracking.spool import SWEEP, Line, read_from

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

POINTS_A_CALL = 1000  # MLflow takes no more in a log_batch
LINES_A_ROUND = 2000
PARAM_LENGTH = 6000
TRAINING = "custom_model_development"  # otherwise the UI opens as one for language models
PAUSE = 0.5  # seconds between looks at the spool
LONGEST_PAUSE = 30.0  # seconds between tries to reach a server
PATIENCE = 20.0  # seconds that a server which is away is waited for when the sweep has ended
NICENESS = 19  # training goes first: Ray gives its workers 15


class Mirror:
    """One sweep's runs on a tracking server."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self.config: SweepConfig = folder.config()
        self.state = State(folder.tracking / "state")
        self.uri = tracking_uri(self.config.tracking, folder.path)
        self.client: mlflow.MlflowClient | None = None
        self.experiment = ""
        self.runs: dict[str, str] = {}  # run ids by our keys

    def carry_over(self) -> bool:
        """Carries over what is new, up to `LINES_A_ROUND` lines. Whether there was any. Raises MlflowException."""
        spool = self.folder.tracking / "spool.jsonl"
        lines = list(islice(read_from(spool, self.state.offset), LINES_A_ROUND)) if spool.exists() else []
        if not lines:
            return False
        self._connect()
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
        found = runs_in(client, self.experiment, f"tags.`medtune.sweep_id` = '{self.folder.sweep_id}'")
        self.runs = {run.data.tags["medtune.run"]: run.info.run_id for run in found}
        self.client = client

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
        print(f"{without_password(self.uri)} has no run {run} of this sweep: left out", file=sys.stderr, flush=True)
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
        if event["parent"]:
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
        if (staging / "sweep.yaml").exists() and self.config.tracking.uri:
            text = (staging / "sweep.yaml").read_text()
            (staging / "sweep.yaml").write_text(text.replace(self.uri, without_password(self.uri)))

    def _draw(self, staging: Path, epoch: int) -> None:
        info, path = describe(self.config.data), staging / "validation.npz"
        if not path.exists():
            return
        try:
            with np.load(path, allow_pickle=False) as predictions:
                draw_predictions(predictions, epoch, info.task, info.classes, staging)
        except Exception as error:  # a trial without its pictures is better than a mirror that stands still
            print(f"no pictures of {path.name} at epoch {epoch}: {error}", file=sys.stderr, flush=True)

    def _dataset(self) -> DatasetInput:
        data = self.config.data
        dataset = Dataset(data.title, data_md5(data)[:36], "medtune", describe(data).title)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "train, validation")])

    @property
    def _client(self) -> mlflow.MlflowClient:
        assert self.client is not None  # _connect comes first
        return self.client


class State:
    """How far the spool has been carried over, in bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = int(path.read_text()) if path.exists() else 0

    def save(self, offset: int) -> None:
        write_whole(self.path, str(offset).encode())
        self.offset = offset


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
    """Two processes that make the schema of one sqlite file at once would both fail."""
    file = re.match(r"sqlite:///(.*)", uri)
    if file is None:
        yield
        return
    Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file[1]}.lock"):
        yield


def drain(folder: SweepFolder, more_to_come: threading.Event | None = None, patience: float = PATIENCE) -> bool:
    """Carries over until nothing is left and nothing more comes. False when the server stayed away for too long.

    patience: seconds to wait for the server once nothing more is to come.
    """
    pause, given_up_at = PAUSE, None
    with FileLock(folder.tracking / "mirror.lock"):
        mirror = Mirror(folder)
        while True:
            ended = more_to_come is None or not more_to_come.is_set()
            try:
                busy = mirror.carry_over()
                pause, given_up_at = PAUSE, None
            except Exception as error:  # whatever a server does: the spool keeps it, and it is tried again
                text = without_password(f"{time.strftime('%F %T')} {type(error).__name__}: {error}")
                print(text, file=sys.stderr, flush=True)
                mirror = Mirror(folder)
                busy, pause = False, min(2 * pause, LONGEST_PAUSE if not ended else 2.0)
                if ended:
                    given_up_at = given_up_at or time.monotonic() + patience
                    if time.monotonic() > given_up_at:
                        return False
            if ended and not busy and given_up_at is None:
                return True
            if not busy:
                _sleep(pause, more_to_come)


def _sleep(seconds: float, more_to_come: threading.Event | None) -> None:
    """Wakes up early when the sweep ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and (more_to_come is None or more_to_come.is_set()):
        time.sleep(0.05)


def main(folder: str) -> int:
    os.nice(NICENESS)
    more_to_come = threading.Event()
    more_to_come.set()

    def wait_for_the_driver() -> None:
        sys.stdin.buffer.read()
        more_to_come.clear()

    threading.Thread(target=wait_for_the_driver, daemon=True).start()
    return 0 if drain(SweepFolder.open(Path(folder)), more_to_come) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
