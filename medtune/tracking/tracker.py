"""The tracking of a sweep, from the driver's side: a spool, and the process that empties it."""

import contextlib
import subprocess
import sys
import time
from functools import cached_property
from types import TracebackType
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.config.write import without_password
from medtune.provenance import git_commit
from medtune.search.events import EpochEnded
from medtune.search.folder import SweepFolder
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool, TrialSpool
from medtune.tracking.state import REFUSED

SILENCE = 2.0  # seconds of waiting for the server that need no explanation
STILL = 3.0  # seconds that a mirror may stand still when the driver is to end at once,
AT_ONCE = 7.0  # and that it may take in all


class Tracker:
    """Runs the mirror beside the driver, from `with` to its end. `reached`: whether the server has everything."""

    def __init__(self, folder: SweepFolder, config: SweepConfig) -> None:
        self.folder, self.config = folder, config
        self.spool = Spool(folder.tracking / "spool.jsonl")
        self.reached = False
        self._trials: TrialSpool | None = None
        self._told = False

    def __enter__(self) -> "Tracker":
        with (self.folder.tracking / "mirror.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "medtune.tracking.mirror", str(self.folder.path)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the driver, which then tells it
            )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        interrupted = kind is KeyboardInterrupt or (self._trials is not None and self._trials.interrupted)
        try:
            self.reached = self._while_it_moves() if interrupted else self._to_its_end()
        except KeyboardInterrupt:  # the work is done: only the waiting ends
            self._stop()
        self.look()

    def look(self) -> None:
        """Says once why the server refuses everything, where it does: the mirror has ended then, and the work goes
        on without it."""
        if self._told or self.process.poll() != REFUSED:
            return
        self._told = True
        said = (self.folder.tracking / "mirror.log").read_text(errors="replace").splitlines()
        later = f"`medtune tracking sync {self.folder.path}` carries everything over later"
        print(f"tracking {said[-1] if said else self.uri}; {later}", file=sys.stderr, flush=True)

    def _to_its_end(self) -> bool:
        """Waits for the mirror. Whether the server has everything."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(SILENCE) == 0
        later = f"`medtune tracking sync {self.folder.path}`"
        print(f"waiting until {self.uri} has everything; Ctrl-C leaves it to {later}", file=sys.stderr, flush=True)
        return self.process.wait() == 0

    def _while_it_moves(self) -> bool:
        """The same, as long as it gets on, and no longer than an interrupted driver may take."""
        started = moved = time.monotonic()
        before = self._carried
        while self.process.poll() is None:
            now = time.monotonic()
            if self._carried != before:
                before, moved = self._carried, now
            if now - moved > STILL or now - started > AT_ONCE:
                self._stop()
                return False
            time.sleep(0.05)
        return self.process.returncode == 0

    @property
    def _carried(self) -> bytes:
        path = self.folder.tracking / "state"
        return path.read_bytes() if path.exists() else b""

    def _stop(self) -> None:
        """Ends the mirror where it is: all that it does may be done again."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):  # `uv run` passes on each signal again
            self.process.wait(1)
            return
        self.process.kill()
        self.process.wait()

    def watcher(self) -> TrialSpool:
        self._trials = _Looking(self)
        return self._trials

    @cached_property
    def tags(self) -> dict[str, Any]:
        """What all runs of the sweep have in common."""
        data = self.config.data
        return {"sweep": self.config.sweep, "dataset": data.title, "size": data.side, "git_commit": git_commit()}

    @property
    def parent_run_id(self) -> str | None:
        path = self.folder.tracking / "parent_run_id"
        return path.read_text() if path.exists() else None

    @property
    def uri(self) -> str:
        """As it may be shown."""
        return without_password(tracking_uri(self.config.tracking, self.folder.path))


class _Looking(TrialSpool):
    """Looks at the mirror whenever an epoch has ended."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__(tracker.spool, tracker.tags)
        self.tracker = tracker

    def epoch_ended(self, event: EpochEnded) -> None:
        super().epoch_ended(event)
        self.tracker.look()
