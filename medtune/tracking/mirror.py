"""Carries the spool of a sweep over to MLflow: `python -m medtune.tracking.mirror FOLDER`.

The driver starts it as a process of its own, so that neither a slow server nor a picture takes time from the driver's
event loop, and closes its standard input when there is nothing more to come. All of it may be done again after a kill,
or after an answer that was lost: a run is found by its tags, and a point has the time at which it was measured.
"""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medtune.config.sweep import SweepConfig
from medtune.config.write import without_password
from medtune.data.catalogue import describe
from medtune.data.splits import data_md5
from medtune.files import write_whole
from medtune.search.folder import SweepFolder
from medtune.tracking.registry import promote, register
from medtune.tracking.server import content, default_artifacts, made_once, runs_of, tracking_uri
from medtune.tracking.spool import SWEEP, Line, read_from
from medtune.tracking.staged import staged
from medtune.tracking.state import NOT_REACHED, REFUSED, State

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # a run whose answer was lost would be made a second time, unseen
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a line for each run that ends

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from medtune.tracking.refusals import Refused, is_wrong, refusal

POINTS_A_CALL = 1000  # MLflow takes no more in a log_batch
LINES_A_ROUND = 2000
PARAM_LENGTH = 6000
TRAINING = "custom_model_development"  # otherwise the UI opens as one for language models
PAUSE = 0.5  # seconds between looks at the spool
LONGEST_PAUSE = 30.0  # seconds between tries to reach a server
PATIENCE = 20.0  # seconds that a server which is away is waited for when the sweep has ended
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
        with made_once(self.uri):
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
        """Points, in as few calls as MLflow lets us. One that it refuses takes the others of its call with it: in ever
        smaller halves, all others are carried over."""
        by_run: dict[str, list[Metric]] = {}
        for line in lines:
            by_run.setdefault(line.event["run"], []).extend(_points(line.event))
        try:
            for run in [run for run in by_run if self._there(run)]:
                self._log_points(run, by_run[run])
        except Exception as error:
            if not is_wrong(error):
                raise
            if len(lines) > 1:
                self._take(lines[: len(lines) // 2])
                self._take(lines[len(lines) // 2 :])
                return
            self._leave_out(lines[0], error)
        self.state.save(lines[-1].end)

    def _log_points(self, run: str, points: list[Metric]) -> None:
        for start in range(0, len(points), POINTS_A_CALL):
            self._client.log_batch(self.runs[run], metrics=points[start : start + POINTS_A_CALL])

    def _leave_out(self, line: Line, error: Exception) -> None:
        """What a server refuses now and always must not hold up all that comes after it."""
        first_line = (str(error).splitlines() or [""])[0]
        _say(f"{self.uri} refuses {line.event['do']} of {line.event['run']}: left out: {first_line}")

    def _there(self, run: str) -> bool:
        """Whether the server has a run. One that was begun on another server, or deleted there, is left out with a
        line: it would hold up all that comes after it."""
        if run in self.runs:
            return True
        _say(f"{self.uri} has no run {run} of this sweep: left out")
        return False

    def _do(self, line: Line) -> None:
        try:
            if line.event["do"] == "start" or self._there(line.event["run"]):
                self._doers[line.event["do"]](line.event)
        except Exception as error:
            if not is_wrong(error):
                raise
            self._leave_out(line, error)
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
        with staged(self.folder.path, event, self.config.data) as staging:
            self._client.log_artifacts(self.runs[event["run"]], str(staging), event["into"] or None)

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

    def _dataset(self) -> DatasetInput:
        data = self.config.data
        dataset = Dataset(data.title, data_md5(data)[:36], "medtune", describe(data).title)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "train, validation")])

    @property
    def _client(self) -> mlflow.MlflowClient:
        assert self.client is not None  # _connect comes first
        return self.client


def _points(event: dict[str, Any]) -> list[Metric]:
    at, step = _milliseconds(event["at"]), int(event["step"])
    values = {key: value for key, value in event.items() if key not in ("do", "run", "at", "step")}
    return [Metric(key, float(value), at, step) for key, value in values.items()]


def _text(value: Any) -> str:
    return f"{value:.6g}"[:PARAM_LENGTH] if isinstance(value, float) else str(value)[:PARAM_LENGTH]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _experiment(client: mlflow.MlflowClient, name: str, artifacts: str | None) -> str:
    """The id of the experiment, made if it is not there: somebody else may make it at the same moment. Raises Refused
    where it has been deleted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifacts, {"mlflow.experimentKind": TRAINING}))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise Refused(
            f"the experiment {name} is deleted on the server: restore it, or give tracking.experiment another"
        )
    return str(found.experiment_id)


def drain(folder: SweepFolder, more_to_come: threading.Event | None = None, patience: float = PATIENCE) -> bool:
    """Carries over until nothing is left and nothing more comes. False when the server stayed away for too long.

    patience: seconds to wait for the server once nothing more is to come. Raises AtWork while another process does it,
    unless more is to come: then that one is waited for; and Refused.
    """
    try:
        alone = FileLock(folder.tracking / "mirror.lock").acquire(timeout=-1 if more_to_come else 0)
    except Timeout:
        raise AtWork(f"the mirror of {folder.path} is at work, as it is while a sweep runs: nothing to do") from None
    with alone:
        return _drain(folder, more_to_come, patience)


def _drain(folder: SweepFolder, more_to_come: threading.Event | None, patience: float) -> bool:
    mirror, doubtful, pause, give_up_at, refused = None, False, PAUSE, math.inf, False
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
            pause, give_up_at, refused = PAUSE, math.inf, False
        except Refused:
            raise
        except Exception as error:  # whatever a server or a full disk does: the spool keeps it, and it is tried again
            _say(f"{time.strftime('%F %T')} {type(error).__name__}: {error}")
            told = refusal(error, without_password(mirror.uri)) if mirror else None
            if told and refused:
                raise told from error
            mirror, doubtful, busy, refused = None, True, False, told is not None
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
        while os.read(sys.stdin.fileno(), 4096):  # a reader of Python's own would not let this process end before
            pass
        more_to_come.clear()

    threading.Thread(target=wait_for_the_driver, daemon=True).start()
    try:
        return 0 if drain(SweepFolder.open(Path(folder)), more_to_come) else NOT_REACHED
    except Refused as error:
        _say(str(error))  # last, where the driver looks for it
        return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
