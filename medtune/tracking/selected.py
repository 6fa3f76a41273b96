"""The choice, as an artifact and tags of the sweep's run, and the finalists, as runs beside the trials."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.finalists import Bout, run_finalists
from medtune.search.folder import SweepFolder
from medtune.select import select, write_selection
from medtune.tracking.spool import SWEEP
from medtune.tracking.tracker import Tracker


def select_tracked(
    folder: SweepFolder, config: SweepConfig, finalists: int, seeds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Chooses, between so many finalists on so many fresh seeds where there are any. What `selection.json` holds."""
    chosen = select(folder, config, say)
    with Tracker(folder, config) as tracker:
        if finalists:
            chosen = replace(chosen, finalists=_finalists(tracker, chosen.best[:finalists], seeds, say))
            write_selection(folder, chosen)
        found = chosen.as_json()
        tracker.spool.files(SWEEP, "", ("selection.json",))
        tracker.spool.tags(SWEEP, {name: found[name] for name in ("winner", "raw", "corrected")})
    return found


def _finalists(tracker: Tracker, best: list[tuple[int, int]], seeds: int, say: Callable[[str], None]) -> Any:
    begun: set[str] = set()

    def on_epoch(bout: Bout, record: Mapping[str, Any]) -> None:
        run = f"finalist-{bout.trial:04d}-{bout.index}"
        if run not in begun:
            begun.add(run)
            tags = {**tracker.tags, "trial": bout.trial, "finalist": bout.index, "state": "running"}
            tracker.spool.start(run, tags, parent=SWEEP)
        values = {name: value for name, value in record.items() if name != "epoch"}
        tracker.spool.metrics(run, record["epoch"], time.time(), values)
        metric = tracker.config.search.metric
        where = f"finalist {bout.trial}, seed {bout.index + 1}, epoch {record['epoch']} of {bout.epoch}"
        say(f"{where}: {metric} {values[metric]:.3f}")

    try:
        return run_finalists(tracker.folder, tracker.config, best, seeds, on_epoch)
    finally:
        for run in sorted(begun):
            tracker.spool.end(run, "FINISHED", {"state": "finalist"})
