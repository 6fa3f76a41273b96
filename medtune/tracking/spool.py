"""The spool: every point on disk first, one JSON line each, so that no server can slow or fail a trial.

A line says what happens to a run, which has a key of ours: `sweep`, `trial-0007`, `retrain-0`. Each carries the time at
which it happened, so that a line that is carried over twice is the same point to MLflow.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.files import append_line, cut_torn_line, to_json
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted, Watcher

SWEEP = "sweep"
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "unfinished": "KILLED"}
TRIAL_FILES = ("config.yaml", "epochs.jsonl", "validation.npz")


class Spool:
    """Writes the lines. `path`: spool.jsonl in the tracking folder of a sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(path)

    def start(self, run: str, tags: dict[str, Any], params: dict[str, Any] | None = None, parent: str = "") -> None:
        """A run begins, or goes on."""
        self._write(
            {"do": "start", "run": run, "at": time.time(), "tags": tags, "params": params or {}, "parent": parent}
        )

    def metrics(self, run: str, step: int, at: float, values: dict[str, float]) -> None:
        self._write({"do": "metrics", "run": run, "at": at, "step": step, **values})

    def files(self, run: str, folder: str, names: Sequence[str], into: str = "", epoch: int | None = None) -> None:
        """Files of a folder of the sweep become artifacts of a run, in a folder of its own when asked; with an epoch,
        also pictures of what was predicted after it."""
        event = {"do": "files", "run": run, "folder": folder, "files": list(names), "into": into}
        self._write({**event, **({"epoch": epoch} if epoch else {})})

    def tags(self, run: str, tags: dict[str, Any]) -> None:
        """What has become known of a run, whether it is still going or not."""
        self._write({"do": "tags", "run": run, "at": time.time(), "tags": tags})

    def register(self, run: str, folder: str, name: str, tags: dict[str, Any], alias: str | None = None) -> None:
        """The model in a folder of the sweep becomes a version in the registry, with its tags; see `version_tags`."""
        event = {"do": "register", "run": run, "folder": folder, "name": name, "tags": tags}
        self._write({**event, **({"alias": alias} if alias else {})})

    def promote(
        self, run: str, folder: str, name: str, tags: dict[str, Any], tested: dict[str, Any], force: bool
    ) -> None:
        """A registered model was tested. tested: its `auroc` on the test, with both ends of the interval, and `looks`.
        force: it becomes the champion whatever the other one's numbers are."""
        event = {"do": "promote", "run": run, "folder": folder, "name": name, "tags": tags}
        self._write({**event, **tested, "force": force})

    def end(self, run: str, status: str, tags: dict[str, Any]) -> None:
        """A run ends."""
        self._write({"do": "end", "run": run, "at": time.time(), "status": status, "tags": tags})

    def _write(self, event: dict[str, Any]) -> None:
        append_line(self.path, to_json(event))


class TrialSpool(Watcher):
    """Spools what happens in a sweep. `tags`: what all its runs have in common."""

    def __init__(self, spool: Spool, tags: dict[str, Any]) -> None:
        self.spool, self.tags = spool, tags
        self.interrupted = False
        spool.start(SWEEP, tags)

    def trial_started(self, event: TrialStarted) -> None:
        tags = {"trial": event.number, "attempt": event.attempt, "seed": event.config["seed"], "state": "running"}
        self.spool.start(trial_run(event.number), {**self.tags, **tags}, event.swept, parent=SWEEP)

    def epoch_ended(self, event: EpochEnded) -> None:
        self.spool.metrics(trial_run(event.number), event.epoch, event.at, event.values)

    def trial_halved(self, number: int, epoch: int) -> None:
        self.spool.tags(trial_run(number), {"halved_from": epoch})

    def trial_ended(self, event: TrialEnded) -> None:
        run = trial_run(event.number)
        if event.best and event.best_epoch is not None:
            best = {f"best/{name.removeprefix('val/')}": event.best[name] for name in event.best if "val/" in name}
            at = event.at or time.time()
            self.spool.metrics(run, event.best_epoch, at, {**best, "best/epoch": event.best_epoch})
        self.spool.files(run, f"trials/{event.number:04d}", TRIAL_FILES, epoch=event.best_epoch)
        tags = {"state": event.state, **({"note": event.note} if event.note else {})}
        self.spool.end(run, STATUS[event.state], tags)

    def closed(self, interrupted: bool) -> None:
        self.interrupted = interrupted
        self.spool.files(SWEEP, "", ("sweep.yaml",))
        self.spool.end(SWEEP, "KILLED" if interrupted else "FINISHED", {})


def trial_run(number: int) -> str:
    """The key of a trial's run."""
    return f"trial-{number:04d}"


@dataclass(frozen=True)
class Line:
    """An event, and the offset in bytes that lies behind it."""

    event: dict[str, Any]
    end: int


def read_from(path: Path, offset: int) -> Iterator[Line]:
    """The whole lines from an offset on; one that is still being written is not whole, and garbage is left out."""
    with path.open("rb") as file:
        file.seek(offset)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            event = _event(raw)
            if event is not None:
                yield Line(event, offset)


def _event(raw: bytes) -> dict[str, Any] | None:
    """The event of a line; where it is glued to one that was cut short, it alone. None where there is none."""
    for start in (0, raw.rfind(b'{"do": ')):
        with contextlib.suppress(ValueError):
            event = json.loads(raw[max(start, 0) :])
            if isinstance(event, dict) and {"do", "run"} <= event.keys():
                return {key: math.nan if value is None else value for key, value in event.items()}
    return None
