"""Evaluations and reports in the spool, and so in MLflow."""

from pathlib import Path
from typing import Any

import pytest

from medtune.search.folder import SweepFolder
from medtune.tracking import evaluated
from medtune.tracking.evaluated import evaluate_tracked, report_tracked
from medtune.tracking.spool import Spool, read_from


class Untracked:
    """A tracker that only spools."""

    def __init__(self, folder: SweepFolder, config: Any) -> None:
        self.spool = Spool(folder.tracking / "spool.jsonl")

    def __enter__(self) -> "Untracked":
        return self

    def __exit__(self, *_: Any) -> None: ...


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluated, "Tracker", Untracked)


def events(folder: SweepFolder) -> list[dict[str, Any]]:
    return [line.event for line in read_from(folder.tracking / "spool.jsonl", 0)]


def test_numbers_and_figures_go_to_the_trials_run(finished: SweepFolder) -> None:
    found = evaluate_tracked(finished, finished.config(), None, None, False, False, lambda _: None)
    numbers, files = events(finished)
    run = f"trial-{found['trial']:04d}"
    assert (numbers["do"], numbers["run"], numbers["step"]) == ("metrics", run, found["epoch"])
    assert numbers["evaluation/val_auroc_low"] == found["discrimination"]["auroc"]["low"]
    assert numbers["evaluation/val_degradation"] == found["robustness"]["mean_degradation"]
    assert len([name for name in numbers if name.startswith("evaluation/")]) <= 10  # of the 40 that a run may have
    assert (files["do"], files["run"], files["into"]) == ("files", run, "evaluation")
    there = {path.name for path in Path(found["folder"]).iterdir()}
    assert {"evaluation.json", "roc.png", "grad-cam.png"} <= set(files["files"]) == there


def test_a_report_goes_to_the_sweeps_run_with_its_overview(finished: SweepFolder) -> None:
    report_tracked(finished, finished.config(), lambda _: None)
    *_, report, overview = events(finished)
    assert (report["run"], report["files"], report["into"]) == ("sweep", ["report.html"], "")
    assert overview["into"] == "overview" and "history.png" in overview["files"]
    assert all((finished.path / overview["folder"] / name).exists() for name in overview["files"])
