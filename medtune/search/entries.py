"""What is known of the trials of a sweep, and which of them is best."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["complete", "pruned", "failed", "unfinished"]


UNDEFINED = 1.0  # by how much a constraint is broken whose metric is not defined: the samplers can take no nan


@dataclass(frozen=True)
class Entry:
    """A trial as the ledger knows it. `values`: the metric by epoch; `value`: at the best epoch; nan where there is
    none. `note`: why it failed. `violation`: by how much a complete trial breaks the constraints, all together.
    `stopped`: the pruner has ended it, whether or not its state says so already."""

    number: int
    state: State
    values: Mapping[int, float] = field(default_factory=dict)
    value: float = math.nan
    best_epoch: int | None = None
    note: str = ""
    violation: float = 0.0
    stopped: bool = False


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


def broken_by(metrics: Mapping[str, float], constraints: Mapping[Any, Mapping[Any, float]]) -> dict[str, float]:
    """By how much the metrics of an epoch break each constraint, as `val/ece max`; kept where that is 0 or less."""
    broken = {}
    for metric, limits in constraints.items():
        for side, limit in limits.items():
            over = (metrics[metric] - limit) * (1 if side == "max" else -1)
            broken[f"{metric} {side}"] = UNDEFINED if math.isnan(over) else over
    return broken


def violation(broken: Mapping[str, float]) -> float:
    """By how much a trial breaks the constraints, all of them together; 0 where it has none."""
    return sum(max(over, 0.0) for over in broken.values())
