"""The choice, as an artifact and tags of the sweep's run, and the finalists, as runs beside the trials."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.finalists import Bout, run_finalists
from medtune.search.folder import SweepFolder
from medtune.select import select, write_selection
from medtune.tracking.spool import SWEEP
from medtune.tracking.tracker import Tracker
from medtune.tracking.trainings import Trainings


def select_tracked(
    folder: SweepFolder, config: SweepConfig, finalists: int, seeds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Chooses, between so many finalists on so many fresh seeds where there are any. What `selection.json` holds."""
    chosen, metric = select(folder, config, say), config.search.metric
    with Tracker(folder, config) as tracker, Trainings(tracker.spool, tracker.tags) as runs:

        def on_epoch(bout: Bout, record: Mapping[str, Any]) -> None:
            run = f"finalist-{bout.trial:04d}-{bout.index}"
            runs.begin(run, {"trial": bout.trial, "finalist": bout.index})
            runs.epoch(run, record)
            where = f"finalist {bout.trial}, seed {bout.index + 1}, epoch {record['epoch']} of {bout.epoch}"
            say(f"{where}: {metric} {record[metric]:.3f}")

        if finalists:
            found = run_finalists(folder, config, chosen.best[:finalists], seeds, on_epoch)
            runs.end("finalist")
            chosen = replace(chosen, finalists=found)
            write_selection(folder, chosen)
        told = chosen.as_json()
        tracker.spool.files(SWEEP, "", ("selection.json",))
        tracker.spool.tags(SWEEP, {name: told[name] for name in ("winner", "raw", "corrected")})
    return told
