import io
import math
import sys
import time
from typing import Any

import pytest
from rich.console import Console

from medtune.cli.progress import Lines, LiveTable, Progress, in_words, watch
from medtune.search.entries import Entry
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted

PAST = [
    Entry(0, "complete", {1: 0.7, 2: 0.8}, 0.8, 2),
    Entry(1, "failed", note="training diverged"),
    Entry(2, "unfinished", {1: 0.9}, 0.9, 1),
]


def opened(shown: Any, wanted: int, past: list[Entry]) -> Any:
    shown.opened(wanted, past)
    return shown


def started(number: int, **swept: Any) -> TrialStarted:
    return TrialStarted(number, 1, swept, {})


def tell(shown: Progress, number: int, *values: float, state: Any = "complete", **swept: Any) -> None:
    """A whole trial."""
    shown.trial_started(started(number, **swept))
    for epoch, value in enumerate(values, start=1):
        shown.epoch_ended(EpochEnded(number, epoch, 0.0, {"val/auroc": value, "train/loss": 0.1}))
    known = [value for value in values if not math.isnan(value)]
    best = {"val/auroc": max(known)} if known else {}
    shown.trial_ended(TrialEnded(number, state, values.index(max(known)) + 1 if known else None, best, "why"))


def test_a_line_for_each_trial_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with opened(Lines("val/auroc", "max"), 4, []) as shown:
        tell(shown, 0, 0.7, 0.8, 0.75)
        tell(shown, 1, 0.6, state="pruned")
        tell(shown, 2, state="failed")
    out, err = capsys.readouterr()
    first, second, third = err.splitlines()
    assert out == ""
    assert first.startswith("[1/4] trial 0 complete after 3 epochs: val/auroc 0.8, best 0.8 (trial 0), ")
    assert second.startswith("[2/4] trial 1 pruned after 1 epoch: val/auroc 0.6, best 0.8 (trial 0), ")
    assert third.startswith("[3/4] trial 2 failed after 0 epochs: why, best 0.8 (trial 0), ")
    assert [line.endswith(", ... left") for line in err.splitlines()] == [True, True, False]


def test_less_may_be_better(capsys: pytest.CaptureFixture[str]) -> None:
    shown = opened(Lines("val/auroc", "min"), 2, [])
    tell(shown, 0, 0.7)
    tell(shown, 1, 0.6)
    assert shown.best is shown.rows[1]


def test_the_past_counts_and_an_unfinished_trial_does_not() -> None:
    shown = opened(Lines("val/auroc", "max"), 5, PAST)
    assert shown.ended == 2 and shown.best is shown.rows[0] and shown.time_left() == "..."
    tell(shown, 2, 0.9)
    assert shown.ended == 3 and shown.best is shown.rows[2]


def test_a_resumed_trial_is_shown_with_its_best_epoch_though_that_lies_before_the_kill() -> None:
    shown = opened(Lines("val/auroc", "max"), 5, PAST)
    shown.trial_started(started(2))
    shown.epoch_ended(EpochEnded(2, 2, 0.0, {"val/auroc": 0.5}))
    shown.trial_ended(TrialEnded(2, "complete", 1, {"val/auroc": 0.9}))
    assert shown.best is shown.rows[2] and shown.rows[2].value == 0.9


def test_nan_is_never_the_best() -> None:
    shown = opened(Progress("val/auroc", "max"), 2, [])
    tell(shown, 0, math.nan, 0.4)
    tell(shown, 1, math.nan)
    assert shown.best is shown.rows[0] and shown.rows[0].value == 0.4


def test_the_time_left_is_from_the_pace_of_this_start(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = opened(Progress("val/auroc", "max"), 12, PAST)  # two have ended before
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in range(3, 8):
        assert (shown.time_left() == "...") is (number < 6)  # the first few tell little
        tell(shown, number, 0.5)
        now += 2
    assert shown.time_left() == "10 s"


def test_nobody_knows_the_time_left_where_all_have_failed() -> None:
    shown = opened(Progress("val/auroc", "max"), 20, [])
    for number in range(10):
        tell(shown, number, state="failed")
    assert shown.time_left() == "..."


def test_the_live_table() -> None:
    table = opened(LiveTable("val/auroc", "max"), 30, PAST[:2])
    for number in range(2, 20):
        tell(table, number, number / 100, state="pruned" if number % 2 else "complete", lr=number / 1000)
    table.trial_started(started(20, **{"optimizer.name": "adam", "optimizer.lr": 0.00123456, "flip": True}))
    console = Console(file=io.StringIO(), width=120)
    console.print(table.render())
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["trial", "state", "epoch", "val/auroc", "configuration"]
    assert lines[1].split() == ["20", "running", "0", "nan", "name=adam", "lr=0.00123", "flip=true"]
    assert lines[2].split()[:4] == ["0", "complete", "2", "0.8"]  # then the best of the others
    assert len(lines) == 1 + 12 + 1 and "20 of 30 trials, 9 pruned, " in lines[-1]


def test_lines_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(watch("val/auroc", "max"), Lines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(watch("val/auroc", "max"), LiveTable)


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.4, "4 s"), (99, "99 s"), (150, "2 min"), (5400, "90 min"), (9000, "2.5 h")]
)
def test_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
