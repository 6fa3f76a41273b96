"""What few labels are worth: the trials of a sweep over `data.labels`, by how they were trained and on how many labels.

Nothing is chosen by what is reported: a training counts with its last epoch, and all trials of a kind, a fraction and a
seed stand for themselves. The linear probe alone has looked at validation, for its regularisation.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtune.config.default import trial_config
from medtune.config.sweep import SweepConfig
from medtune.config.trial import Labels, ModelConfig, TrialConfig
from medtune.data import Split
from medtune.data.batches import to_device
from medtune.data.catalogue import describe
from medtune.data.labelled import labelled_subset
from medtune.data.splits import load_search_splits
from medtune.evaluation.calibration import usual_kind
from medtune.evaluation.calibration_error import Estimate, calibration_estimate
from medtune.evaluation.calibrators import Temperature
from medtune.evaluation.metrics import Floats, Integers, probabilities
from medtune.evaluation.over_seeds import (
    difference_over_seeds,
    mean_calibration_error,
    mean_over_seeds,
    measured_accuracy,
    measured_auroc,
)
from medtune.evaluation.recalibration import cross_fitted
from medtune.files import write_whole
from medtune.inspection.rebuilt import rebuilt
from medtune.models import IMAGENET
from medtune.models.pretrained import described
from medtune.report.label_efficiency import Pooled, page_name
from medtune.search.entries import Entry
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.reading import read_ledger
from medtune.search.sweep import check_data
from medtune.task import Task
from medtune.training.device import autocast, detect_device
from medtune.training.loop import predict_logits

SEED = 0  # of cross-fitting, and of what a perfectly calibrated model would read
PROBE, FINE_TUNED, SUPERVISED = "linear probe", "fine-tuned", "supervised"
DRAWN = 0.1  # of the labels: where reliability is drawn
UNTRAINED = "probe of an untrained encoder"
BESIDE = {PROBE: UNTRAINED, FINE_TUNED: SUPERVISED}  # what the same does without what the encoder has learned


@dataclass(frozen=True)
class Told:
    """What a trial says. fraction, draw: of the labels. arm: how it was trained, in words; plain: the same without what
    tells it from others of its kind. network: its name. logits: (cases, classes) of validation; shown: of the cases
    that are reported, the same unless that is the test."""

    trial: int
    arm: str
    plain: str
    network: str
    fraction: float
    draw: int
    logits: Floats
    shown: Floats


def label_efficiency(
    folder: SweepFolder, config: SweepConfig, test: bool = False, again: bool = False
) -> tuple[dict[str, Any], list[Pooled]]:
    """Accuracy, AUROC and ECE by arm and fraction, means over the trials with intervals; the ECE before and after a
    temperature; and what an encoder adds. And what is drawn of it. On validation nothing in the folder changes.

    test: on the test, for which this opens it, all trials in one look; see `open_sealed` for `again`. The temperature
    is then validation's; on validation it is cross-fitted. Raises FolderError where labels were not swept, or where
    no trial has ended.
    """
    check_data(folder, config)
    (trials, looks, others), task = _ended(folder, config), describe(config.data).task
    train, val = (split.labels for split in load_search_splits(config.data))
    label, reported = "", val
    if test:
        from medtune.unseal import label_of, open_sealed  # with all that a retraining needs

        _check_weights(folder, trials)
        looks, splits = open_sealed(folder, config, again)
        told, reported = _on_test(folder, config, trials, splits["test"]), splits["test"].labels
        label = label_of(looks)
    else:
        told = [_told(one, one.logits) for one in trials]
    cells: dict[tuple[str, float], list[Told]] = defaultdict(list)
    for one in sorted(told, key=lambda one: (one.fraction, one.draw, one.trial)):
        cells[one.arm, one.fraction].append(one)
    arms, fractions = _arms(told), sorted({one.fraction for one in told})
    calibrated = {one.trial: _after_temperature(one, val, task) for one in told}
    pooled = _pooled(arms, fractions, cells, calibrated, reported, task)
    found = {
        "sweep": config.sweep,
        "split": "test" if test else "val",
        "looks": looks,
        "label": label,
        "cases": len(reported),
        "arms": arms,
        "fractions": fractions,
        "trials": len(trials),
        "others": others,
        "at_best_epoch": sum(not one.last for one in trials),
        "labelled": {str(fraction): len(labelled_subset(train, fraction, SEED)) for fraction in fractions},
        "cells": [
            {"arm": arm, "fraction": fraction, **_cell(each, calibrated, val, reported, task)}
            for (arm, fraction), each in cells.items()
        ],
        "differences": list(_differences(cells, reported, task)),
        "pooled": [{"arm": one.arm, "fraction": one.fraction} for one in pooled],
    }
    return found, pooled


def write_found(folder: SweepFolder, found: Mapping[str, Any]) -> Path:
    """What `label_efficiency` found, as `label-efficiency.json`, whose path this gives."""
    path = folder.path / f"{page_name(found)}.json"
    write_whole(path, (json.dumps(found, indent=2, allow_nan=False) + "\n").encode())
    return path


@dataclass(frozen=True)
class _Ended:
    """A trial that ran to its end. logits: of validation, after its last epoch where that was kept, as `last` says,
    else after its best. weights: where those of the same epoch are, if they are."""

    number: int
    settings: TrialConfig
    arm: str
    logits: Floats
    weights: Path
    last: bool


def _ended(folder: SweepFolder, config: SweepConfig) -> tuple[list[_Ended], int, int]:
    """And how often the test was looked at, and how many trials there are that did not run to their end."""
    if config.trial["labels"] is None:
        raise FolderError(
            f"{folder.path} is of a sweep with all labels: write data.labels: {{fraction: {{choice: [0.1, 1.0]}}}}"
        )
    entries, points, looks = read_ledger(folder, config)
    complete = [entry for entry in entries if entry.state == "complete"]
    if not complete:
        raise FolderError(f"no trial of {folder.path} has ended yet: `medtune resume {folder.path}` goes on with it")
    settings = [trial_config(config.trial, points[entry.number]) for entry in complete]
    names = arm_names([one.model for one in settings])
    ended = [
        _Ended(entry.number, one, name, *_last_logits(folder, entry))
        for entry, one, name in zip(complete, settings, names, strict=True)
    ]
    return ended, looks, len(entries) - len(complete)


def _last_logits(folder: SweepFolder, entry: Entry) -> tuple[Floats, Path, bool]:
    """The logits, the weights of the same epoch, and whether it is the last."""
    kept, number = folder.predictions(entry.number), entry.number
    if kept is None:
        raise FolderError(f"{folder.path} has no predictions of trial {number}: `medtune resume` brings them back")
    epoch = int(kept["epochs"][-1])
    which = "best" if epoch == entry.best_epoch else "last"
    last = epoch == max(record["epoch"] for record in folder.epochs(number))
    return kept["logits"][-1], folder.trial(number) / which / "model.safetensors", last


def arm_names(models: Sequence[ModelConfig]) -> list[str]:
    """How each was trained, in words; with the network, or the encoder, where there are several of them."""
    plain = [_arm(model) for model in models]
    further: dict[str, tuple[set[str], set[str]]] = {name: (set(), set()) for name in plain}
    for name, model in zip(plain, models, strict=True):
        for seen, word in zip(further[name], (model.name, _origin(model)), strict=True):
            seen.add(word)
    return [
        ", ".join([name, *(word for seen, word in zip(further[name], words, strict=True) if len(seen) > 1)])
        for name, words in ((name, (model.name, _origin(model))) for name, model in zip(plain, models, strict=True))
    ]


def _arm(model: ModelConfig) -> str:
    part = "" if model.finetune in ("all", "probe") else ", the head alone" if model.finetune == "head" else ", in part"
    if model.weights is None:
        return UNTRAINED if model.finetune == "probe" else SUPERVISED + part
    how = PROBE if model.finetune == "probe" else FINE_TUNED + part
    return f"{how} from ImageNet" if model.weights == IMAGENET else how


def _origin(model: ModelConfig) -> str:
    """The sweep that made its encoder, and which one of its encoders it is."""
    if model.weights in (None, IMAGENET):
        return str(model.weights)
    path = Path(str(model.weights))
    told = described(path)
    return path.stem if told is None else f"{told['sweep']} {told['sha256'][:6]}"


def _arms(told: Sequence[Told]) -> list[str]:
    """In the order of a table: what uses an encoder first, each before what does without."""
    order = [PROBE, UNTRAINED, FINE_TUNED, SUPERVISED]
    names = {one.arm for one in told}
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _told(one: _Ended, shown: Floats) -> Told:
    labels = one.settings.labels or Labels()
    model = one.settings.model
    return Told(one.number, one.arm, _arm(model), model.name, labels.fraction, labels.seed, one.logits, shown)


def _check_weights(folder: SweepFolder, trials: Sequence[_Ended]) -> None:
    """Before the test is opened: what is wrong costs no look."""
    without = [one.number for one in trials if not one.weights.exists()]
    if without:
        raise FolderError(
            f"{folder.path} has not kept the weights of {len(without)} trials, such as {without[0]}: the test needs "
            "those of all, so write keep: {weights: N, last: true} with N trials or more, and sweep again"
        )


def _on_test(folder: SweepFolder, config: SweepConfig, trials: Sequence[_Ended], test: Split) -> list[Told]:
    device, classes = detect_device(), len(describe(config.data).classes)
    split = to_device(test, device, config.data.as_rgb)
    told = []
    for one in trials:
        model = rebuilt(one.weights, one.settings, split.channels, classes, split.size).to(device)
        precision = folder.used(one.number)["precision"]
        told.append(_told(one, predict_logits(model, split, autocast(device, precision))))
    return told


def _cell(
    each: Sequence[Told], calibrated: Mapping[int, Floats], val: Integers, reported: Integers, task: Task
) -> dict[str, Any]:
    """What the trainings of an arm on a fraction come to. calibrated: probabilities after the temperature, by trial."""
    before = [probabilities(one.shown, task) for one in each]
    after = [calibrated[one.trial] for one in each]
    return {
        "trials": [one.trial for one in each],
        "auroc": mean_over_seeds([measured_auroc(shown, reported, task) for shown in before]).as_json(),
        "accuracy": mean_over_seeds([measured_accuracy(shown, reported, task) for shown in before]).as_json(),
        "ece": mean_calibration_error([_ece(shown, reported, task) for shown in before]),
        "ece_after": mean_calibration_error([_ece(shown, reported, task) for shown in after]),
        "temperatures": [Temperature.fit(one.logits, val, task).temperature for one in each],
    }


def _pooled(
    arms: Sequence[str],
    fractions: Sequence[float],
    cells: Mapping[tuple[str, float], Sequence[Told]],
    calibrated: Mapping[int, Floats],
    reported: Integers,
    task: Task,
) -> list[Pooled]:
    """Of every arm, on the fraction that is nearest to a tenth of the labels."""
    fraction = min(fractions, key=lambda one: abs(np.log(one / DRAWN)))
    return [
        Pooled(
            arm,
            fraction,
            np.concatenate([probabilities(one.shown, task) for one in cells[arm, fraction]]),
            np.concatenate([calibrated[one.trial] for one in cells[arm, fraction]]),
            np.concatenate([reported for _ in cells[arm, fraction]]),
        )
        for arm in arms
        if (arm, fraction) in cells
    ]


def _ece(shown: Floats, labels: Integers, task: Task) -> Estimate:
    return calibration_estimate(shown, labels, task, usual_kind(task), np.random.default_rng(SEED), draws=200)


def _after_temperature(one: Told, labels: Integers, task: Task) -> Floats:
    """Of the cases that are reported: cross-fitted where they are those of validation."""
    if one.shown is one.logits:
        return cross_fitted(Temperature.kind, one.logits, labels, task, np.random.default_rng(SEED)).probabilities
    return Temperature.fit(one.logits, labels, task).apply(one.shown, task)


def _differences(
    cells: Mapping[tuple[str, float], Sequence[Told]], labels: Integers, task: Task
) -> Iterator[dict[str, Any]]:
    """What an encoder adds to the AUROC of a network, paired by the draw of the labels."""
    for (arm, fraction), each in cells.items():
        without = next((without for name, without in BESIDE.items() if each[0].plain.startswith(name)), None)
        beside = [
            one
            for (_, of), others in cells.items()
            for one in others
            if of == fraction and one.plain == without and one.network == each[0].network
        ]
        pairs = _paired(each, beside)
        if not pairs:
            continue
        one, other = (
            [measured_auroc(probabilities(told.shown, task), labels, task) for told in side]
            for side in zip(*pairs, strict=True)
        )
        found = difference_over_seeds(one, other)
        yield {"fraction": fraction, "arm": arm, "against": beside[0].arm, "auroc": found.as_json()}


def _paired(each: Sequence[Told], others: Sequence[Told]) -> list[tuple[Told, Told]]:
    """Trainings of the same draw, each of them once."""
    left = defaultdict(list)
    for other in others:
        left[other.draw].append(other)
    return [(one, left[one.draw].pop(0)) for one in each if left[one.draw]]
