"""Learning curves with the test in them, for a report: drawn once the sealed test is open, and never for a choice."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from medtune.config.sweep import SweepConfig
from medtune.config.trial import METRICS
from medtune.data import SPLITS
from medtune.data.batches import DeviceSplit, DeviceSplits, to_device
from medtune.data.catalogue import describe
from medtune.evaluation.metrics import evaluate
from medtune.figures.curves import CURVES, curves_figure
from medtune.files import to_json
from medtune.pretraining.probe import Probe
from medtune.retraining.plan import MODEL, Plan, plan_of
from medtune.retraining.result import retrained_models
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.worker import build_training
from medtune.trained.model import read_description
from medtune.training.device import detect_device, resolve_precision
from medtune.training.loop import Training, predict_logits
from medtune.training.progress import Objective
from medtune.training.seeds import RETRAINED, trial_seed
from medtune.unseal import open_sealed

OnCurves = Callable[[int, Mapping[str, float]], None]  # an epoch, and its nine numbers


def trained_plan(folder: SweepFolder, config: SweepConfig) -> Plan:
    """The plan of the retrained models. Raises FolderError where there are none, or where the test is still sealed."""
    retrained_models(folder)
    if not Ledger(folder, config).looks:
        raise FolderError(
            f"{folder.path} has its test still sealed, and these curves are for a report, never for a choice: "
            f"`medtune test {folder.path}` comes first"
        )
    return plan_of(folder)


def learning_curves(
    folder: SweepFolder, config: SweepConfig, plan: Plan, on_epoch: OnCurves, again: bool
) -> dict[str, Any]:
    """Trains the first retrained model once more, or the first member of an ensemble, for every epoch of its schedule,
    and evaluates it after each. again: see `open_sealed`.

    Writes `retrain/curves.jsonl` as it goes, a line an epoch with loss, AUROC and accuracy of train, val and test, and
    then `retrain/curves.png`. It is a look at the test. Where the two files are, and how many looks there were.
    """
    looks, arrays = open_sealed(folder, config, again)
    splits = {name: to_device(split, detect_device(), config.data.as_rgb) for name, split in arrays.items()}
    lines, records = folder.retrained / "curves.jsonl", []
    with lines.open("w", buffering=1) as file:
        for epoch, record in enumerate(_epochs(config, plan, splits), start=1):
            file.write(to_json({"epoch": epoch, **record}) + "\n")
            records.append(record)
            on_epoch(epoch, record)
    picture = folder.retrained / "curves.png"
    curves_figure(records, _kept(folder), picture)
    return {"trial": plan.trial, "epochs": len(records), "looks": looks, "curves": str(lines), "picture": str(picture)}


def _epochs(config: SweepConfig, plan: Plan, splits: Mapping[Any, DeviceSplit]) -> Iterator[dict[str, float]]:
    """The nine numbers of each epoch. Nothing that is measured draws a random number: the training is the model's."""
    alone = plan.train_on == "train"
    training = _training(config, plan, DeviceSplits(splits["train"], splits["val"]))
    while training.epoch < training.epochs:
        training.run_epoch(splits["val"] if alone else None)  # a schedule may look at val
        yield {name: value for split in SPLITS for name, value in _measure(training, split, splits[split]).items()}


def _training(config: SweepConfig, plan: Plan, splits: DeviceSplits) -> Training | Probe:
    info, metric, trial = describe(config.data), config.epoch_metric, plan.parts[0].config
    precision = resolve_precision(trial.precision, splits.train.device.type)
    seed, objective = trial_seed(config.seed, RETRAINED), Objective(metric, METRICS[metric])
    classes = len(info.classes)
    training = build_training(trial, info.task, classes, splits, seed, precision, objective, plan.train_on)
    assert isinstance(training, Training | Probe)
    return training


def _measure(training: Training | Probe, name: str, split: DeviceSplit) -> dict[str, float]:
    """From the last epoch's record, where val is in it."""
    known = training.records[-1].values
    if f"{name}/auroc" not in known:
        logits = predict_logits(training.evaluated, split, training.autocast)
        labels = split.labels.cpu().numpy().astype(np.int64)
        known = {f"{name}/{metric}": value for metric, value in evaluate(logits, labels, training.task).items()}
    return {f"{name}/{metric}": known[f"{name}/{metric}"] for metric in CURVES}


def _kept(folder: SweepFolder) -> int:
    """The epoch whose weights the first model has."""
    return int(read_description(folder.retrained / MODEL)["members"][0]["epochs_trained"])
