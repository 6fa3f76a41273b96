"""The choice, as an artifact and tags of the sweep's run, and the finalists, as runs beside the trials."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.finalists import Bout, run_finalists
from medtune.search.folder import SweepFolder
from medtune.select import saved_finalists, select, write_selection
from medtune.tracking.spool import SWEEP
from medtune.tracking.tracker import Tracker
from medtune.tracking.trainings import Trainings


def select_tracked(
    folder: SweepFolder, config: SweepConfig, finalists: int | None, seeds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Chooses, and lets so many finalists decide on so many fresh seeds. What `selection.json` holds.

    finalists: None leaves it to those that have decided already, if any. It is written when they have all ended.
    """
    chosen, metric = select(folder, config, say), config.search.metric
    with Tracker(folder, config) as tracker, Trainings(tracker.spool, tracker.tags) as runs:

        def on_epoch(bout: Bout, record: Mapping[str, Any]) -> None:
            runs.begin(_run_of(bout), {"trial": bout.trial, "finalist": bout.index})
            runs.epoch(_run_of(bout), record)
            where = f"finalist {bout.trial}, seed {bout.index + 1}, epoch {record['epoch']} of {bout.epoch}"
            say(f"{where}: {metric} {record[metric]:.3f}")

        if finalists is None:
            chosen = replace(chosen, finalists=saved_finalists(folder, config))
        elif finalists:
            found = run_finalists(folder, config, chosen.best[:finalists], seeds, on_epoch)
            failed = (Bout(one.trial, one.epoch, index) for one in found for index in one.failed)
            runs.end("finalist", failed=set(map(_run_of, failed)))
            chosen = replace(chosen, finalists=found)
        write_selection(folder, chosen)
        told = chosen.as_json()
        tracker.spool.files(SWEEP, "", ("selection.json",))
        names = ("winner", "raw_winner", "raw", "corrected")
        tracker.spool.tags(SWEEP, {name: told[name] for name in names})
    return told


def _run_of(bout: Bout) -> str:
    return f"finalist-{bout.trial:04d}-{bout.epoch}-{bout.index}"
