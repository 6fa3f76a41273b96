"""Retraining and the sealed test, as runs of their own beside the trials."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.curves import OnCurves, learning_curves, trained_plan
from medtune.retraining.plan import DEFAULT, MODEL, Plan
from medtune.retraining.result import default_model, retrained_models
from medtune.retraining.train import Piece, retrain
from medtune.search.folder import SweepFolder
from medtune.search.launch import Launch
from medtune.search.run import DEFAULT_TRIAL
from medtune.tracking.packaged import version_tags
from medtune.tracking.registry import forget_told, in_words, told_of
from medtune.tracking.spool import SWEEP
from medtune.tracking.tracker import Tracker
from medtune.tracking.trainings import Trainings
from medtune.trained.card import registered_name
from medtune.unseal import unseal

FILES = ("model.json", "MODEL_CARD.md", "outliers.safetensors")


def retrain_tracked(
    folder: SweepFolder, config: SweepConfig, plan: Plan, say: Callable[[str], None], launch: Launch | None = None
) -> list[Path]:
    """Retrains, with a run for each model; each training of an ensemble has one of its own below it."""
    with Tracker(folder, config) as tracker, Trainings(tracker.spool, tracker.tags) as runs:

        def begin(model: str) -> None:
            trial = DEFAULT_TRIAL if model == DEFAULT else plan.trial
            runs.begin(run_of(model), {"trial": trial, "train_on": plan.train_on, "chosen": plan.chosen})

        def on_epoch(piece: Piece, record: dict[str, Any]) -> None:
            begin(piece.model)
            run = run_of(piece.model)
            if len(plan.parts) > 1 and piece.model != DEFAULT:
                run, model = f"{run}.trial-{piece.part.trial:04d}", run
                runs.begin(run, {"trial": piece.part.trial, "train_on": plan.train_on}, parent=model)
            runs.epoch(run, record)
            numbers = ", ".join(f"{name} {record[name]:.3f}" for name in _SAID if name in record)
            say(f"{piece.model}, trial {piece.part.trial}, epoch {record['epoch']} of {piece.last}: {numbers}")

        paths = retrain(folder, config, plan, on_epoch, launch)
        default = default_model(folder)
        for path in [*paths, *([default] if default else [])]:
            begin(path.name)  # one that an earlier start has trained
            files = (*FILES, *sorted(file.name for file in path.glob("*.safetensors")))
            tracker.spool.files(run_of(path.name), str(path.relative_to(folder.path)), tuple(dict.fromkeys(files)))
        runs.end("retrained")
        _register(tracker, folder, paths[0])
    say(in_words(told_of(folder, tracker.reached)))
    return paths


def _register(tracker: Tracker, folder: SweepFolder, path: Path) -> tuple[str, dict[str, Any]]:
    """The model in a folder goes to the registry, if it is not there yet. Its name there, and its tags."""
    forget_told(folder)
    tags = version_tags(path, folder.sweep_id)
    name = registered_name(tags["dataset"])
    tracker.spool.register(run_of(path.name), str(path.relative_to(folder.path)), name, tags)
    return name, tags


_SAID = ("train/loss", "val/auroc", "val/ece")


def test_tracked(folder: SweepFolder, config: SweepConfig, again: bool, promote: bool = False) -> dict[str, Any]:
    """Opens the sealed test, and gives the retrained runs their test numbers and the sweep its number of looks.

    The first model becomes the champion of the registry unless it is worse; what became of it is in `registry`.
    promote: it becomes that in any case, and a test that has been opened already is not opened again for it.
    """
    known = folder.path / "test.json"
    opened = promote and not again and known.exists()
    result: dict[str, Any] = json.loads(known.read_text()) if opened else unseal(folder, config, again)
    with Tracker(folder, config) as tracker:
        _tested(tracker, result)  # again where it has been opened before: a kill may have come between
        path = retrained_models(folder)[0]
        name, tags = _register(tracker, folder, path)
        numbers = {"auroc": result["auroc"], "looks": result["looks"]}
        where = str(path.relative_to(folder.path))
        tracker.spool.promote(run_of(path.name), where, name, tags, numbers, promote)
    return {**result, "registry": told_of(folder, tracker.reached)}


def _tested(tracker: Tracker, result: Mapping[str, Any]) -> None:
    """What a look at the test has brought, to the runs of the models and of the sweep."""
    for index in range(len(result["seeds"]["auroc"]["each"])):
        each = {name: result["seeds"][name]["each"][index] for name in ("auroc", "accuracy", "ece")}
        _test_numbers(tracker, f"retrain-{index}", each, result["looks"])
    if result["default"] is not None:
        each = {name: result["default"][name]["value"] for name in ("auroc", "accuracy", "ece")}
        _test_numbers(tracker, run_of(DEFAULT), each, result["looks"])
    tracker.spool.tags(SWEEP, {"looks": result["looks"]})


def _test_numbers(tracker: Tracker, run: str, each: Mapping[str, float | None], looks: int) -> None:
    numbers = {f"test/{name}": value for name, value in each.items() if value is not None}
    tracker.spool.metrics(run, 0, time.time(), numbers)
    tracker.spool.files(run, "", ("test.json",))
    tracker.spool.end(run, "FINISHED", {"looks": looks})


def curves_tracked(folder: SweepFolder, config: SweepConfig, say: Callable[[str], None], again: bool) -> dict[str, Any]:
    """Draws the learning curves of the first retrained model, and adds them to its run."""
    plan = trained_plan(folder, config)
    write_event = _event_writer(folder, config)
    with Tracker(folder, config) as tracker:

        def on_epoch(epoch: int, values: Mapping[str, float]) -> None:
            curves = {f"curves/{name.replace('/', '_')}": value for name, value in values.items()}
            tracker.spool.metrics(run_of(MODEL), epoch, time.time(), curves)
            write_event(epoch, values)
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if name.endswith("auroc"))
            say(f"epoch {epoch} of {plan.parts[0].config.epochs}: {numbers}")

        result = learning_curves(folder, config, plan, on_epoch, again)
        tracker.spool.tags(SWEEP, {"looks": result["looks"]})
        tracker.spool.files(run_of(MODEL), folder.retrained.name, ("curves.jsonl", "curves.png"))
        tracker.spool.end(run_of(MODEL), "FINISHED", {"looks": result["looks"]})
    return result


def _event_writer(folder: SweepFolder, config: SweepConfig) -> OnCurves:
    """Writes the curves for TensorBoard too, where that is wanted."""
    if not config.tracking.tensorboard:
        return lambda epoch, values: None
    from medtune.tracking.tensorboard import RETRAINED, append_events, scalars, write_events

    path = folder.path / RETRAINED
    write_events(path, [])
    return lambda epoch, values: append_events(path, [scalars(epoch, time.time(), values)])


def run_of(model: str) -> str:
    """The key of the run of a retrained model, by the name of its folder: model, model-1 or default."""
    return f"retrain-{model.partition('-')[2] or 0}" if model.startswith(MODEL) else f"retrain-{model}"
