"""The sealed test: opened here, for retrained models, and each opening is written into the ledger."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from medtune.config.sweep import SweepConfig
from medtune.data.batches import to_device
from medtune.data.splits import Split, load_sealed_test
from medtune.evaluation.intervals import Interval, accuracy_interval, auroc_interval, ece_interval, ece_of_perfect
from medtune.evaluation.metrics import evaluate, probabilities
from medtune.retrain import load_model, retrained_models
from medtune.search.folder import SweepFolder, write_whole
from medtune.search.ledger import Ledger
from medtune.task import Task
from medtune.training.device import detect_device
from medtune.training.loop import predict_logits

BOOTSTRAP_SEED = 0


def unseal(folder: SweepFolder, config: SweepConfig) -> dict[str, Any]:
    """Opens the sealed test for all retrained models, and writes `test.json` and each model's `test.npz`.

    The numbers with intervals are those of the first model; `seeds` has every model's, and their mean.
    """
    models = retrained_models(folder)
    looks = Ledger(folder.ledger, folder.sweep_id, config).look()  # before it is opened: a crash is a look too
    test = load_sealed_test(config.data)
    measured = [_measure(path, test) for path in models]
    result = {**measured[0], "looks": looks, "cases": len(test), "seeds": _over_seeds(measured)}
    write_whole(folder.path / "test.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def _measure(path: Path, test: Split) -> dict[str, Any]:
    model, description = load_model(path)
    device = detect_device()
    autocast = torch.autocast(device, torch.bfloat16, enabled=description["precision"] == "bfloat16")
    logits = predict_logits(model.to(device), to_device(test.images, test.labels, device), autocast)
    np.savez(path / "test.npz", logits=logits, labels=test.labels)
    return {
        "model": path.name,
        "trial": description["trial"],
        **measure_logits(logits, test.labels, description["task"]),
    }


def measure_logits(logits: np.ndarray, labels: np.ndarray, task: Task) -> dict[str, Any]:
    """AUROC, accuracy and ECE with 95 % intervals; Brier and NLL; the ECE of a perfectly calibrated model."""
    shown, generator = probabilities(logits, task), np.random.default_rng(BOOTSTRAP_SEED)
    plain = evaluate(logits, labels, task)
    return {
        "auroc": _interval(auroc_interval(shown, labels, task)),
        "accuracy": _interval(accuracy_interval(shown, labels, task)),
        "ece": _interval(ece_interval(shown, labels, task, generator)),
        "ece_if_perfect": ece_of_perfect(shown, task, generator),
        "brier": plain["brier"],
        "nll": plain["loss"],
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _over_seeds(measured: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("auroc", "accuracy", "ece")
    values = {name: [one[name]["value"] for one in measured] for name in names}
    return {name: {"mean": mean(each), "each": each} for name, each in values.items()}
