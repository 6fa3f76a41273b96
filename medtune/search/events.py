"""What others may watch of a sweep: its tracker, its live table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medtune.search.entries import Entry, State


@dataclass(frozen=True)
class TrialStarted:
    """`swept`: what the sweep varied, by dotted name. `config`: as written to the trial's config.yaml."""

    number: int
    attempt: int
    swept: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True)
class EpochEnded:
    """`at`: seconds since 1970. `values` by metric name."""

    number: int
    epoch: int
    at: float
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialEnded:
    """`best`: the metrics at the best epoch, empty where there is none. `note`: why it failed. `violation`: by how much
    it breaks the constraints. `at`: when the best epoch ended, in seconds since 1970."""

    number: int
    state: State
    best_epoch: int | None
    best: dict[str, float]
    note: str = ""
    violation: float = 0.0
    at: float = 0.0


class Watcher:
    """Sees everything and does nothing."""

    def opened(self, wanted: int, past: Sequence[Entry]) -> None: ...

    def trial_started(self, event: TrialStarted) -> None: ...

    def epoch_ended(self, event: EpochEnded) -> None: ...

    def trial_halved(self, number: int, epoch: int) -> None:
        """From an epoch on a trial takes half of the memory for each batch: it ran out of it."""

    def trial_ended(self, event: TrialEnded) -> None: ...

    def closed(self, interrupted: bool) -> None: ...
