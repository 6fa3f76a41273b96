import json
import math
import resource
from pathlib import Path
from typing import Any

import pytest

from medtune.search.events import EpochEnded, TrialEnded, TrialStarted
from medtune.tracking.spool import Spool, TrialSpool, read_from


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tracking" / "spool.jsonl"


def events(path: Path, offset: int = 0) -> list[dict[str, Any]]:
    return [line.event for line in read_from(path, offset)]


def test_lines_come_back_in_order_from_any_offset(path: Path) -> None:
    spool = Spool(path)
    spool.start("sweep", {"a": 1})
    spool.metrics("trial-0000", 1, 12.5, {"val/auroc": 0.5})
    spool.end("sweep", "FINISHED", {})
    lines = list(read_from(path, 0))
    assert [line.event["do"] for line in lines] == ["start", "metrics", "end"]
    assert lines[1].event == {"do": "metrics", "run": "trial-0000", "at": 12.5, "step": 1, "val/auroc": 0.5}
    for index, line in enumerate(lines):
        assert events(path, line.end) == [later.event for later in lines[index + 1 :]]
    assert lines[-1].end == path.stat().st_size


def test_nan_is_kept(path: Path) -> None:
    Spool(path).metrics("trial-0000", 1, 1.0, {"val/auroc": math.nan})
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert math.isnan(events(path)[0]["val/auroc"])


def test_a_line_that_is_being_written_waits(path: Path) -> None:
    spool = Spool(path)
    spool.metrics("trial-0000", 1, 1.0, {})
    whole = path.stat().st_size
    with path.open("a") as file:
        file.write('{"do": "metr')
    assert [line.end for line in read_from(path, 0)] == [whole]
    assert events(path, whole) == []


def test_a_line_that_was_cut_short_does_not_spoil_the_next(path: Path) -> None:
    Spool(path).metrics("trial-0000", 1, 1.0, {})
    with path.open("a") as file:
        file.write('{"do": "metr')
    Spool(path).metrics("trial-0000", 2, 1.0, {})
    assert [event["step"] for event in events(path)] == [1, 2]
    before = path.read_bytes()
    Spool(path)
    assert path.read_bytes() == before


def test_what_does_not_fit_leaves_the_spool_as_it_was(path: Path) -> None:
    """The kernel takes a part of the line, and then no more."""
    spool = Spool(path)
    spool.metrics("trial-0000", 1, 1.0, {})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large: .*spool.jsonl"):
            spool.metrics("trial-0000", 2, 2.0, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    spool.metrics("trial-0000", 2, 2.0, {})
    assert [event["step"] for event in events(path)] == [1, 2]


def test_what_happens_in_a_sweep(path: Path) -> None:
    watcher = TrialSpool(Spool(path), {"sweep": "tiny"})
    watcher.trial_started(TrialStarted(7, 2, {"optimizer.lr": 0.1}, {"seed": 11, "epochs": 3}))
    watcher.epoch_ended(EpochEnded(7, 1, 5.0, {"val/auroc": 0.8, "train/loss": 0.3}))
    watcher.trial_ended(TrialEnded(7, "pruned", 1, {"val/auroc": 0.8, "train/loss": 0.3}))
    watcher.closed(interrupted=False)
    sweep, start, epoch, best, files, end, _, closed = events(path)
    assert (sweep["do"], sweep["run"], sweep["tags"]) == ("start", "sweep", {"sweep": "tiny"})
    assert (start["run"], start["parent"], start["params"]) == ("trial-0007", "sweep", {"optimizer.lr": 0.1})
    assert start["tags"] == {"sweep": "tiny", "trial": 7, "attempt": 2, "seed": 11, "state": "running"}
    assert (epoch["step"], epoch["at"], epoch["val/auroc"], epoch["train/loss"]) == (1, 5.0, 0.8, 0.3)
    assert (best["step"], best["best/auroc"], best["best/epoch"]) == (1, 0.8, 1) and "best/train/loss" not in best
    assert files["files"] == ["config.yaml", "epochs.jsonl", "validation.npz"] and files["epoch"] == 1
    assert (files["run"], files["folder"], files["into"]) == ("trial-0007", "trials/0007", "")
    assert (end["run"], end["status"], end["tags"]) == ("trial-0007", "FINISHED", {"state": "pruned"})
    assert (closed["run"], closed["status"]) == ("sweep", "FINISHED")


@pytest.mark.parametrize(
    ("state", "status"),
    [("complete", "FINISHED"), ("pruned", "FINISHED"), ("failed", "FAILED"), ("unfinished", "KILLED")],
)
def test_statuses(state: Any, status: str, path: Path) -> None:
    watcher = TrialSpool(Spool(path), {})
    watcher.trial_ended(TrialEnded(0, state, None, {}, "why"))
    files, end = events(path)[-2:]
    assert end["status"] == status and end["tags"] == {"state": state, "note": "why"} and "epoch" not in files


def test_an_interrupted_sweep_is_killed(path: Path) -> None:
    TrialSpool(Spool(path), {}).closed(interrupted=True)
    assert events(path)[-1]["status"] == "KILLED"
