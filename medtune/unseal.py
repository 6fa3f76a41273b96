"""The sealed test: opened here, for retrained models, and each opening is written into the ledger."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from medtune.config.sweep import Data, SweepConfig
from medtune.data import SplitName
from medtune.data.batches import to_device
from medtune.data.splits import Split, load_sealed_test, load_search_splits
from medtune.evaluation.appraisal import Decided, operating_points, recalibrated
from medtune.evaluation.calibration import usual_kind
from medtune.evaluation.calibration_error import calibration_estimate
from medtune.evaluation.intervals import accuracy_interval, auroc_interval
from medtune.evaluation.metrics import evaluate, probabilities
from medtune.evaluation.official import official_name, write_official
from medtune.files import write_whole
from medtune.retrain import decided_of, load_model, retrained_models
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.sweep import check_data
from medtune.task import Task
from medtune.training.device import autocast, detect_device
from medtune.training.loop import predict_logits

BOOTSTRAP_SEED = 0


def unseal(folder: SweepFolder, config: SweepConfig) -> dict[str, Any]:
    """Opens the sealed test for all retrained models, and writes `test.json` and each model's `test.npz`; beside it
    the predictions for train, val and test as `medmnist.Evaluator` writes them.

    The numbers with intervals are those of the first model; `seeds` has every model's, and their mean.
    """
    models = retrained_models(folder)
    looks, splits = open_sealed(folder, config)
    measured = [_measure(path, splits, config.data) for path in models]
    result = {**measured[0], "looks": looks, "cases": len(splits["test"]), "seeds": _over_seeds(measured)}
    write_whole(folder.path / "test.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def open_sealed(folder: SweepFolder, config: SweepConfig) -> tuple[int, dict[SplitName, Split]]:
    """How many looks at the test this one makes, and all three splits. Raises FolderError, DataError."""
    check_data(folder, config)
    train, val = load_search_splits(config.data)
    looks = Ledger(folder.ledger, folder.sweep_id, config).look()  # before it is opened: a crash is a look too
    return looks, {"train": train, "val": val, "test": load_sealed_test(config.data)}


def _measure(path: Path, splits: Mapping[SplitName, Split], data: Data) -> dict[str, Any]:
    model, description = load_model(path)
    device, task = detect_device(), description["task"]
    precision = autocast(device, description["precision"])
    model, logits = model.to(device), {}
    for name, split in splits.items():
        logits[name] = predict_logits(model, to_device(split, device, data.as_rgb), precision)
        shown = probabilities(logits[name], task)
        write_official(path, official_name(data.title, data.size), name, shown, split.labels, task, path.name)
    labels = splits["test"].labels
    np.savez(path / "test.npz", logits=logits["test"], labels=labels)
    measured = measure_logits(logits["test"], labels, task, decided_of(description))
    return {"model": path.name, "trial": description["trial"], **measured}


def measure_logits(logits: np.ndarray, labels: np.ndarray, task: Task, decided: Decided) -> dict[str, Any]:
    """AUROC, accuracy and ECE with 95 % intervals; Brier and NLL; and what the calibrator and the thresholds that were
    chosen on validation do here."""
    shown, generator = probabilities(logits, task), np.random.default_rng(BOOTSTRAP_SEED)
    plain, calibrated = evaluate(logits, labels, task), decided.calibrator.apply(logits, task)
    return {
        "auroc": auroc_interval(shown, labels, task).as_json(),
        "accuracy": accuracy_interval(shown, labels, task).as_json(),
        "ece": calibration_estimate(shown, labels, task, usual_kind(task), generator).as_json(),
        "brier": plain["brier"],
        "nll": plain["loss"],
        "calibrator": decided.calibrator.as_json(),
        "calibrated": recalibrated(calibrated, labels, task, generator).as_json(),
        "operating_points": [point.as_json() for point in operating_points(decided, calibrated, labels, task)],
    }


def _over_seeds(measured: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("auroc", "accuracy", "ece")
    values = {name: [one[name]["value"] for one in measured] for name in names}
    return {name: {"mean": _mean(each), "each": each} for name, each in values.items()}


def _mean(each: list[float | None]) -> float | None:
    """None where one of them is undefined."""
    return None if None in each else mean(value for value in each if value is not None)
