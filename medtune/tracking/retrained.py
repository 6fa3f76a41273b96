"""Retraining and the sealed test, as runs of their own beside the trials."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.curves import OnCurves, learning_curves, trained_plan
from medtune.retrain import Plan, retrain
from medtune.search.folder import SweepFolder
from medtune.tracking.spool import SWEEP
from medtune.tracking.tracker import Tracker
from medtune.training.progress import EpochRecord
from medtune.unseal import unseal

FILES = ("model.safetensors", "model.json")


def retrain_tracked(folder: SweepFolder, config: SweepConfig, plan: Plan, say: Callable[[str], None]) -> list[Path]:
    """Retrains, with a run for each model."""
    with Tracker(folder, config) as tracker:
        for index in range(plan.seeds):
            tags = {**tracker.tags, "trial": plan.trial, "state": "running", "train_on": plan.train_on}
            tracker.spool.start(_key(index), tags, parent=SWEEP)

        def on_epoch(index: int, record: EpochRecord) -> None:
            tracker.spool.metrics(_key(index), record.epoch, time.time(), record.values)
            numbers = ", ".join(f"{name} {record.values[name]:.3f}" for name in _SAID if name in record.values)
            say(f"model {index}, epoch {record.epoch} of {plan.stop}: {numbers}")

        paths = retrain(folder, config, plan, on_epoch)
        for index, path in enumerate(paths):
            where = str(path.relative_to(folder.path))
            tracker.spool.files(_key(index), where, FILES)
            tracker.spool.end(_key(index), "FINISHED", {"state": "retrained"})
    return paths


_SAID = ("train/loss", "val/auroc", "val/ece")


def test_tracked(folder: SweepFolder, config: SweepConfig) -> dict[str, Any]:
    """Opens the sealed test, and gives the retrained runs their test numbers."""
    result = unseal(folder, config)
    with Tracker(folder, config) as tracker:
        for index in range(len(result["seeds"]["auroc"]["each"])):
            each = {name: result["seeds"][name]["each"][index] for name in ("auroc", "accuracy", "ece")}
            numbers = {f"test/{name}": value for name, value in each.items() if value is not None}
            tracker.spool.metrics(_key(index), 0, time.time(), numbers)
            tracker.spool.files(_key(index), "", ("test.json",))
            tracker.spool.end(_key(index), "FINISHED", {"looks": result["looks"]})
    return result


def curves_tracked(folder: SweepFolder, config: SweepConfig, say: Callable[[str], None]) -> dict[str, Any]:
    """Draws the learning curves of the first retrained model, and adds them to its run."""
    plan = trained_plan(folder, config)
    write_event = _event_writer(folder, config)
    with Tracker(folder, config) as tracker:

        def on_epoch(epoch: int, values: Mapping[str, float]) -> None:
            curves = {f"curves/{name.replace('/', '_')}": value for name, value in values.items()}
            tracker.spool.metrics(_key(0), epoch, time.time(), curves)
            write_event(epoch, values)
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if name.endswith("auroc"))
            say(f"epoch {epoch} of {plan.config.epochs}: {numbers}")

        result = learning_curves(folder, config, plan, on_epoch)
        tracker.spool.files(_key(0), folder.retrained.name, ("curves.jsonl", "curves.png"))
        tracker.spool.end(_key(0), "FINISHED", {"looks": result["looks"]})
    return result


def _event_writer(folder: SweepFolder, config: SweepConfig) -> OnCurves:
    """Writes the curves for TensorBoard too, where that is wanted."""
    if not config.tracking.tensorboard:
        return lambda epoch, values: None
    from medtune.tracking.tensorboard import RETRAINED, append_events, scalars, write_events

    path = folder.path / RETRAINED
    write_events(path, [])
    return lambda epoch, values: append_events(path, [scalars(epoch, time.time(), values)])


def _key(index: int) -> str:
    return f"retrain-{index}"
