"""The sealed test: opened here, for retrained models, and each opening is written into the ledger."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
from medtune.evaluation.comparison import accuracy_difference, auroc_difference
from medtune.evaluation.intervals import accuracy_interval, auroc_interval
from medtune.evaluation.metrics import evaluate, probabilities
from medtune.evaluation.official import official_name, write_official
from medtune.evaluation.resampling import auroc_bootstrap
from medtune.files import write_whole
from medtune.retraining.result import default_model, retrained_models
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.sweep import check_data
from medtune.task import Task
from medtune.trained.card import write_card
from medtune.trained.model import TrainedModel

BOOTSTRAP_SEED = 0


def unseal(folder: SweepFolder, config: SweepConfig, again: bool = False) -> dict[str, Any]:
    """Opens the sealed test for all retrained models and the untuned default, and writes `test.json` and each model's
    `test.npz`; beside it the predictions for train, val and test as `medmnist.Evaluator` writes them.

    The numbers with intervals are those of the first model; `seeds` has every model's, and their mean; `default` what
    the untuned default does, trained the same way, and the first model's numbers less its. again: see `open_sealed`.
    """
    models = [TrainedModel.load(path) for path in retrained_models(folder)]  # what is wrong with them costs no look
    default = [] if (path := default_model(folder)) is None else [TrainedModel.load(path)]
    looks, splits = open_sealed(folder, config, again)
    said = [_Said.of(model, splits, config.data) for model in [*models, *default]]
    measured = [one.measured() for one in said]
    result = {
        **measured[0],
        "looks": looks,
        "label": label_of(looks),
        "cases": len(splits["test"]),
        "seeds": _over_seeds(measured[: len(models)]),
        "default": _against(said[0], said[-1], measured[-1]) if default else None,
    }
    write_whole(folder.path / "test.json", (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    for one, numbers in zip(said, measured, strict=True):
        write_card(one.model.folder, {**result, **numbers})
    return result


def open_sealed(folder: SweepFolder, config: SweepConfig, again: bool) -> tuple[int, dict[SplitName, Split]]:
    """How many looks at the test this one makes, and all three splits. again: it may have been opened before.

    Raises FolderError where it has been and may not; DataError."""
    check_data(folder, config)
    ledger = Ledger(folder, config, write=True)
    if ledger.looks and not again:
        raise FolderError(
            f"the test of {folder.path} has been opened {_times(ledger.looks)} already: what is chosen after a look "
            "is no longer tested by it; --again looks once more, and that is written down"
        )
    train, val = load_search_splits(config.data)
    looks = ledger.look()  # before it is opened: a crash is a look too
    return looks, {"train": train, "val": val, "test": load_sealed_test(config.data)}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def label_of(looks: int) -> str:
    """What a number of this look is worth, in words."""
    if looks == 1:
        return "first look"
    return f"look {looks}: the test had been opened {_times(looks - 1)} before, so it was sealed no longer"


@dataclass(frozen=True)
class _Said:
    """What a retrained model says of the test. logits: (cases, classes)."""

    model: TrainedModel
    logits: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, model: TrainedModel, splits: Mapping[SplitName, Split], data: Data) -> "_Said":
        path, logits = model.folder, {}
        for name, split in splits.items():
            logits[name] = model.logits(to_device(split, model.device, data.as_rgb))
            shown = probabilities(logits[name], model.task)
            title = official_name(data.title, data.size)
            write_official(path, title, name, shown, split.labels, model.task, path.name)
        labels = splits["test"].labels
        np.savez(path / "test.npz", logits=logits["test"], labels=labels)
        return cls(model, logits["test"], labels)

    @property
    def probabilities(self) -> np.ndarray:
        return probabilities(self.logits, self.model.task)

    def measured(self) -> dict[str, Any]:
        of_model = {"model": self.model.folder.name, "trial": self.model.first.trial, "chosen": self.model.chosen}
        return {**of_model, **measure_logits(self.logits, self.labels, self.model.task, self.model.decided)}


def _against(chosen: _Said, default: _Said, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The untuned default, and what was chosen less it, on the same cases."""
    pair = chosen.probabilities, default.probabilities, chosen.labels, chosen.model.task
    return {
        **{name: measured[name] for name in ("trial", "auroc", "accuracy", "ece")},
        "difference": {"auroc": auroc_difference(*pair).as_json(), "accuracy": accuracy_difference(*pair).as_json()},
    }


def measure_logits(logits: np.ndarray, labels: np.ndarray, task: Task, decided: Decided) -> dict[str, Any]:
    """AUROC (by DeLong and by the bootstrap), accuracy and ECE with 95 % intervals; Brier and NLL; and what the
    calibrator and the thresholds that were chosen on validation do here."""
    shown, generator = probabilities(logits, task), np.random.default_rng(BOOTSTRAP_SEED)
    plain, calibrated = evaluate(logits, labels, task), decided.calibrator.apply(logits, task)
    return {
        "auroc": auroc_interval(shown, labels, task).as_json(),
        "auroc_bootstrap": auroc_bootstrap(shown, labels, task, generator).as_json(),
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
