"""The tracking of a sweep, from the driver's side: a spool, and the process that empties it."""

import subprocess
import sys
from functools import cached_property
from types import TracebackType
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.config.write import without_password
from medtune.provenance import git_commit
from medtune.search.folder import SweepFolder
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool, TrialSpool


class Tracker:
    """Runs the mirror beside the driver, from `with` to its end. `reached`: whether the server has everything."""

    def __init__(self, folder: SweepFolder, config: SweepConfig) -> None:
        self.folder, self.config = folder, config
        self.spool = Spool(folder.tracking / "spool.jsonl")
        self.reached = False

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
        self.reached = self.process.wait() == 0

    def watcher(self) -> TrialSpool:
        return TrialSpool(self.spool, self.tags)

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
