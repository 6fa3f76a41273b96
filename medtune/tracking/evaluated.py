"""Evaluations and reports, as artifacts of the runs that they are of."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.evaluate import evaluate
from medtune.label_efficiency import label_efficiency, write_found
from medtune.report.label_efficiency import write_label_efficiency
from medtune.report.write import OVERVIEW, write_report
from medtune.search.folder import SweepFolder
from medtune.select import current_selection
from medtune.subjects import Subject, subject_of_test, subject_of_trial
from medtune.tracking.spool import SWEEP
from medtune.tracking.tracker import Tracker

INTO = "evaluation"  # the folder of the run's artifacts


def evaluate_tracked(
    folder: SweepFolder,
    config: SweepConfig,
    trial: int | None,
    against: int | None,
    test: bool,
    again: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Evaluates a trial, the winner of the selection unless a number is given, or the retrained model on the open test.
    What `evaluation.json` holds, and the `folder` in which it lies. against: see `subject_of_trial`. again: see
    `open_sealed`."""
    if test:
        subject = subject_of_test(folder, config, again)
    else:
        chosen = current_selection(folder, config, say) if trial is None else {"winner": trial}
        subject = subject_of_trial(folder, config, chosen["winner"], against, chosen.get("epoch"))
    found = evaluate(subject, say)
    with Tracker(folder, config) as tracker:
        _track(tracker, folder, subject, found)
    return {**found, "folder": str(subject.folder)}


def _track(tracker: Tracker, folder: SweepFolder, subject: Subject, found: Mapping[str, Any]) -> None:
    files = sorted(path.name for path in subject.folder.iterdir() if path.suffix in (".png", ".json"))
    tracker.spool.metrics(subject.run, subject.epoch or 0, time.time(), dict(_numbers(subject.split, found)))
    tracker.spool.files(subject.run, str(subject.folder.relative_to(folder.path)), files, into=INTO)
    if subject.looks:
        tracker.spool.end(subject.run, "FINISHED", {"looks": subject.looks})
        tracker.spool.tags(SWEEP, {"looks": subject.looks})


def _numbers(split: str, found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The few that a table of runs is sorted by; what is undefined is none."""
    calibrated = found["recalibration"]["after"].get(found["recalibration"]["decided"]["kind"])
    told = {
        "auroc_low": found["discrimination"]["auroc"]["low"],
        "auroc_high": found["discrimination"]["auroc"]["high"],
        "ece_calibrated": calibrated["ece"]["value"] if calibrated else None,
        "degradation": found["robustness"].get("mean_degradation"),
    }
    yield from ((f"{INTO}/{split}_{name}", value) for name, value in told.items() if value is not None)


def report_tracked(folder: SweepFolder, config: SweepConfig, say: Callable[[str], None]) -> tuple[Path, Path]:
    """Evaluates the winner of the selection, and writes `report.html` and `report.md` about the sweep."""
    selection = current_selection(folder, config, say)
    subject = subject_of_trial(folder, config, selection["winner"], epoch=selection["epoch"])
    found = evaluate(subject, say)
    paths = write_report(folder, selection, found, subject.folder)
    with Tracker(folder, config) as tracker:
        _track(tracker, folder, subject, found)
        tracker.spool.files(SWEEP, "", ("report.html",))
        tracker.spool.files(SWEEP, OVERVIEW, sorted(path.name for path in (folder.path / OVERVIEW).iterdir()), OVERVIEW)
    return paths


def label_efficiency_tracked(folder: SweepFolder, config: SweepConfig, test: bool, again: bool) -> tuple[Path, Path]:
    """Writes what few labels are worth, and adds it to the run of the sweep. test, again: see `label_efficiency`."""
    found, pooled = label_efficiency(folder, config, test, again)
    numbers = write_found(folder, found)  # before the pictures: a look at the test is not had again
    html, markdown = write_label_efficiency(folder, config, found, pooled)
    with Tracker(folder, config) as tracker:
        tracker.spool.files(SWEEP, "", (html.name, numbers.name))
        if test:
            tracker.spool.tags(SWEEP, {"looks": found["looks"]})
    return html, markdown
