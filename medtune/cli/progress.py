"""What is seen of a running sweep: a live table on a terminal, plain lines elsewhere. Both go to stderr."""

import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from medtune.search.entries import Entry
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted, Watcher

ROWS = 12
FIRST_TRIALS = 3  # tell little about the time: they are seldom pruned
COLOURS = {"complete": "green", "pruned": "yellow", "failed": "red", "unfinished": "magenta", "running": "cyan"}


class Row:
    """A trial as the table shows it."""

    def __init__(
        self, number: int, state: str = "running", epoch: int = 0, value: float = math.nan, violation: float = 0.0
    ) -> None:
        self.number, self.state, self.epoch, self.value, self.violation = number, state, epoch, value, violation
        self.swept = ""


class Progress(Watcher):
    """Counts, ranks, and tells how long it will take."""

    def __init__(self, metric: str, direction: str) -> None:
        self.wanted, self.metric = 0, metric
        self.sign = 1 if direction == "max" else -1
        self.rows: dict[int, Row] = {}
        self.ended_before = 0
        self.first_epoch = math.nan

    def opened(self, wanted: int, past: Sequence[Entry]) -> None:
        self.wanted = wanted
        ended = [entry for entry in past if entry.state != "unfinished"]
        self.rows = {e.number: Row(e.number, e.state, e.best_epoch or 0, e.value, e.violation) for e in ended}
        self.ended_before = len(ended)

    @property
    def ended(self) -> int:
        return sum(row.state not in ("running", "unfinished") for row in self.rows.values())

    @property
    def best(self) -> Row | None:
        ranked = [row for row in self.rows.values() if row.state == "complete" and not math.isnan(row.value)]
        return min(ranked, key=self._rank, default=None)

    def _rank(self, row: Row) -> tuple[float, float]:
        """Smaller is better: first what keeps the constraints, then the value."""
        return row.violation, math.inf if math.isnan(row.value) else -self.sign * row.value

    def time_left(self) -> str:
        """From the pace so far, in words; nothing before some trials have ended."""
        done = self.ended - self.ended_before
        if done < min(FIRST_TRIALS, self.wanted) or math.isnan(self.first_epoch):
            return "..."
        return in_words((time.monotonic() - self.first_epoch) / done * (self.wanted - self.ended))

    def trial_started(self, event: TrialStarted) -> None:
        row = self.rows[event.number] = Row(event.number)
        row.swept = " ".join(f"{name.rsplit('.', 1)[-1]}={_short(value)}" for name, value in event.swept.items())

    def epoch_ended(self, event: EpochEnded) -> None:
        self.first_epoch = time.monotonic() if math.isnan(self.first_epoch) else self.first_epoch
        row, value = self.rows[event.number], event.values[self.metric]
        row.epoch = event.epoch
        if math.isnan(row.value) or self.sign * value > self.sign * row.value:
            row.value = value

    def trial_ended(self, event: TrialEnded) -> None:
        row = self.rows[event.number]
        row.state, row.violation = event.state, event.violation
        row.value = event.best.get(self.metric, row.value)  # the best epoch may lie before a restart


class Lines(Progress):
    """A line for each trial that ends."""

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def trial_halved(self, number: int, epoch: int) -> None:
        print(f"trial {number} ran out of memory: each batch in two halves from epoch {epoch} on", file=sys.stderr)

    def trial_ended(self, event: TrialEnded) -> None:
        super().trial_ended(event)
        row, best = self.rows[event.number], self.best
        result = event.note if event.state == "failed" else f"{self.metric} {_short(row.value)}"
        leader = f", best {_short(best.value)} (trial {best.number})" if best else ""
        trained = f"{row.epoch} epoch{'' if row.epoch == 1 else 's'}"
        line = f"[{self.ended}/{self.wanted}] trial {row.number} {row.state} after {trained}: {result}{leader}"
        print(f"{line}, {self.time_left()} left", file=sys.stderr, flush=True)


class LiveTable(Progress):
    """The best and the running trials, a bar, and the time left."""

    def __enter__(self) -> "LiveTable":
        self.live = Live(console=Console(stderr=True), refresh_per_second=2, get_renderable=self.render)
        self.live.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.__exit__(kind, error, trace)  # type: ignore[arg-type]

    def render(self) -> RenderableType:
        table = Table("trial", "state", "epoch", self.metric, "configuration", box=None, header_style="bold")
        for row in self._shown():
            state = Text(row.state, COLOURS[row.state])
            table.add_row(
                str(row.number), state, str(row.epoch), _short(row.value), Text(row.swept, overflow="ellipsis")
            )
        bar = Table.grid(padding=(0, 1))
        pruned = sum(row.state == "pruned" for row in self.rows.values())
        words = f"{self.ended} of {self.wanted} trials, {pruned} pruned, {self.time_left()} left"
        words = words if self.rows else "starting"
        bar.add_row(ProgressBar(self.wanted, self.ended, width=40), words)
        return Group(table, bar)

    def _shown(self) -> list[Row]:
        """The running ones, then the best of the others, as many as there is room for."""
        rows = list(self.rows.values())
        running = [row for row in rows if row.state == "running"][:ROWS]
        others = [row for row in rows if row.state != "running"]
        others.sort(key=self._rank)
        return running + others[: ROWS - len(running)]


def watch(metric: str, direction: str) -> LiveTable | Lines:
    """The right one for where stderr goes; to be used in a `with`."""
    return (LiveTable if sys.stderr.isatty() else Lines)(metric, direction)


def in_words(seconds: float) -> str:
    """Seconds as people say them: 40 s, 3 min, 1.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _short(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)
