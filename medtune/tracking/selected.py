"""The choice, as an artifact and tags of the sweep's run, and the finalists, as runs beside the trials."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.finalists import Bout, run_finalists
from medtune.search.folder import SweepFolder
from medtune.select import select, write_selection
from medtune.tracking.spool import SWEEP, Spool
from medtune.tracking.tracker import Tracker


def select_tracked(
    folder: SweepFolder, config: SweepConfig, finalists: int, seeds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Chooses, between so many finalists on so many fresh seeds where there are any. What `selection.json` holds."""
    chosen = select(folder, config, say)
    with Tracker(folder, config) as tracker:
        if finalists:
            on_epoch = _Finalists(tracker.spool, tracker.tags, config.search.metric, say)
            try:
                found = run_finalists(folder, config, chosen.best[:finalists], seeds, on_epoch)
            finally:
                on_epoch.end()
            chosen = replace(chosen, finalists=found)
            write_selection(folder, chosen)
        told = chosen.as_json()
        tracker.spool.files(SWEEP, "", ("selection.json",))
        tracker.spool.tags(SWEEP, {name: told[name] for name in ("winner", "raw", "corrected")})
    return told


class _Finalists:
    """Each training of a finalist as a run of its own, and a line an epoch for people."""

    def __init__(self, spool: Spool, tags: Mapping[str, Any], metric: str, say: Callable[[str], None]) -> None:
        self.spool, self.tags, self.metric, self.say = spool, tags, metric, say
        self.begun: set[str] = set()

    def __call__(self, bout: Bout, record: Mapping[str, Any]) -> None:
        run = f"finalist-{bout.trial:04d}-{bout.index}"
        if run not in self.begun:
            self.begun.add(run)
            tags = {**self.tags, "trial": bout.trial, "finalist": bout.index, "state": "running"}
            self.spool.start(run, tags, parent=SWEEP)
        values = {name: value for name, value in record.items() if name != "epoch"}
        self.spool.metrics(run, record["epoch"], time.time(), values)
        where = f"finalist {bout.trial}, seed {bout.index + 1}, epoch {record['epoch']} of {bout.epoch}"
        self.say(f"{where}: {self.metric} {values[self.metric]:.3f}")

    def end(self) -> None:
        for run in sorted(self.begun):
            self.spool.end(run, "FINISHED", {"state": "finalist"})
