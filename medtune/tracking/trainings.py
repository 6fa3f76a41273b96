"""Trainings beside the trials, finalists and retrained models, as runs of their own."""

from collections.abc import Container, Mapping
from types import TracebackType
from typing import Any

from medtune.tracking.spool import SWEEP, Spool


class Trainings:
    """Their runs, from `with` to its end: what is open there then was interrupted. tags: what all have in common."""

    def __init__(self, spool: Spool, tags: Mapping[str, Any]) -> None:
        self.spool, self.tags = spool, tags
        self.open: dict[str, None] = {}  # in the order in which they began

    def begin(self, run: str, tags: Mapping[str, Any], parent: str = SWEEP) -> None:
        """Unless it has begun."""
        if run not in self.open:
            self.open[run] = None
            self.spool.start(run, {**self.tags, **tags, "state": "running"}, parent=parent)

    def epoch(self, run: str, record: Mapping[str, Any]) -> None:
        values = {name: value for name, value in record.items() if name not in ("epoch", "at")}
        self.spool.metrics(run, record["epoch"], record["at"], values)

    def end(self, state: str, failed: Container[str] = ()) -> None:
        """Of all that are open."""
        for run in self.open:
            if run in failed:
                self.spool.end(run, "FAILED", {"state": "failed"})
            else:
                self.spool.end(run, "FINISHED", {"state": state})
        self.open.clear()

    def __enter__(self) -> "Trainings":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for run in self.open:
            self.spool.end(run, "KILLED", {"state": "interrupted"})
