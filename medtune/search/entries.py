"""What is known of the trials of a sweep, and which of them is best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["complete", "pruned", "failed", "unfinished"]


@dataclass(frozen=True)
class Entry:
    """A trial as the ledger knows it. `values`: the metric by epoch; `value`: at the best epoch; nan where there is
    none. `note`: why it failed."""

    number: int
    state: State
    values: Mapping[int, float] = field(default_factory=dict)
    value: float = math.nan
    best_epoch: int | None = None
    note: str = ""


def best_epoch_of(values: Mapping[int, float], direction: str) -> int | None:
    """The first epoch with the best value."""
    if not values:
        return None
    sign = 1 if direction == "max" else -1
    return max(sorted(values), key=lambda epoch: sign * values[epoch])


def best_entry(entries: Sequence[Entry], direction: str) -> Entry | None:
    """The complete trial with the best value, the first of equals; of those with any value where none is complete."""
    known = [entry for entry in entries if not math.isnan(entry.value) and entry.state != "failed"]
    candidates = [entry for entry in known if entry.state == "complete"] or known
    sign = 1 if direction == "max" else -1
    return max(candidates, key=lambda entry: sign * entry.value, default=None)
