"""What is known of the trials of a sweep, and which of them is best."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["complete", "pruned", "failed", "unfinished"]


@dataclass(frozen=True)
class Entry:
    """A trial as the ledger knows it. `values`: the metric by epoch; `value`: at the best epoch; nan where there is
    none. `note`: why it failed. `violation`: by how much a complete trial breaks the constraints, all together."""

    number: int
    state: State
    values: Mapping[int, float] = field(default_factory=dict)
    value: float = math.nan
    best_epoch: int | None = None
    note: str = ""
    violation: float = 0.0


def best_epoch_of(values: Mapping[int, float], direction: str) -> int | None:
    """The first epoch with the best value; one that is nan is none."""
    known = {epoch: value for epoch, value in sorted(values.items()) if not math.isnan(value)}
    sign = 1 if direction == "max" else -1
    return max(known, key=lambda epoch: sign * known[epoch], default=None)


def ranked(entries: Iterable[Entry], direction: str) -> list[Entry]:
    """The trials with a value, the best first: the complete ones that keep the constraints, the complete ones that do
    not, by how much they break them, and then the others. Of equals the first; a failed one is none of them."""
    known = [entry for entry in entries if not math.isnan(entry.value) and entry.state != "failed"]
    sign = 1 if direction == "max" else -1
    return sorted(known, key=lambda e: (e.state != "complete", e.violation, -sign * e.value, e.number))


def best_entry(entries: Iterable[Entry], direction: str) -> Entry | None:
    """The first of the `ranked`; None where no trial has a value."""
    return next(iter(ranked(entries, direction)), None)
