"""The best trial's configuration on all of train: models with their weights, and enough beside them to rebuild them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtune.config.default import trial_config
from medtune.config.sweep import SweepConfig
from medtune.config.trial import METRICS, MultiStep, Plateau, TrialConfig
from medtune.data.batches import DeviceSplit, to_device
from medtune.data.catalogue import describe
from medtune.data.splits import Split, data_md5, load_search_splits
from medtune.evaluation.appraisal import Decided, decide, decided_from_json
from medtune.evaluation.calibrators import Uncalibrated
from medtune.files import write_whole
from medtune.inspection.rebuilt import rebuilt
from medtune.models.classifier import Classifier
from medtune.search.attempts import Attempts
from medtune.search.entries import best_entry
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.record import versions
from medtune.search.sweep import check_data
from medtune.training.checkpoint import decode, encode, encode_weights
from medtune.training.device import detect_device, resolve_precision
from medtune.training.loop import Training, predict_logits
from medtune.training.progress import EpochRecord, Objective
from medtune.training.schedules import plateaus
from medtune.training.seeds import RETRAINED, trial_seed

DECIDED_BY = 0  # the seed of the folds in which calibrators are compared

OnEpoch = Callable[[int, EpochRecord], None]  # which of the models, and its epoch


@dataclass(frozen=True)
class Plan:
    """What is trained. `best_epoch`: of the trial. `stop`: the epoch after which it ends; the schedule is that of
    `config.epochs`. `select`: last or best, the epoch whose weights are taken."""

    trial: int
    best_epoch: int
    config: TrialConfig
    stop: int
    seeds: int
    train_on: str
    select: str


def plan_retrain(folder: SweepFolder, config: SweepConfig, seeds: int | None, epochs: int | None) -> Plan:
    """The winner so far, for as many epochs as its best one, or as asked. Raises FolderError where there is none."""
    check_data(folder, config)
    ledger = Ledger(folder.ledger, folder.sweep_id, config)
    best = best_entry(ledger.entries(), config.direction)
    if best is None or best.best_epoch is None:
        raise FolderError(
            f"{folder.path} has no trial with a value yet: `medtune resume {folder.path}` goes on with it"
        )
    winner = _alone(trial_config(config.trial, ledger.point(best.number)), folder.epochs(best.number), config)
    wanted = epochs or config.retrain.epochs
    if wanted is not None:
        winner = winner.model_copy(update={"epochs": wanted})
    stop = wanted or (winner.epochs if config.retrain.select == "best" else best.best_epoch)
    how = config.retrain
    return Plan(best.number, best.best_epoch, winner, stop, seeds or how.seeds, how.train_on, how.select)


def _alone(winner: TrialConfig, records: list[dict[str, Any]], config: SweepConfig) -> TrialConfig:
    """The configuration for a single model; a plateau that has no validation to look at falls where the trial's did."""
    winner = winner.model_copy(update={"folds": None})
    if not isinstance(winner.schedule, Plateau) or config.retrain.train_on == "train":
        return winner
    falls = plateaus(winner.schedule, [record[winner.schedule.metric] for record in records])
    milestones = tuple(epoch / winner.epochs for epoch in falls)
    schedule = MultiStep(milestones=milestones, gamma=winner.schedule.gamma, warmup=winner.schedule.warmup)
    return winner.model_copy(update={"schedule": schedule})


def retrain(folder: SweepFolder, config: SweepConfig, plan: Plan, on_epoch: OnEpoch) -> list[Path]:
    """Trains the models of a plan, each from its last checkpoint if it has one. Their folders, in order."""
    _forget_another(folder, plan)
    train, val = _splits(config, plan.train_on)
    paths = []
    for index in range(plan.seeds):
        path = folder.retrained / ("model" if index == 0 else f"model-{index}")
        paths.append(path)
        if (path / "model.json").exists():  # written last: a kill came after this one
            continue
        training = new_training(config, plan, trial_seed(config.seed, RETRAINED + index), train)
        _train(training, plan, val, Attempts(str(folder.retrained / f"seed-{index}")), index, on_epoch)
        decided = _decided(folder, plan, training, val)
        _write_model(path, training, {**model_description(config, plan, training, index), "decided": decided.as_json()})
        Attempts(str(folder.retrained / f"seed-{index}")).clear()
    return paths


def _forget_another(folder: SweepFolder, plan: Plan) -> None:
    """Removes what another plan left: nothing goes on from its checkpoints, and its models are not tested as these."""
    path = folder.retrained / "plan.json"
    text = json.dumps({**asdict(plan), "config": plan.config.model_dump(mode="json")}, indent=2) + "\n"
    if not path.exists() or path.read_text() != text:
        shutil.rmtree(folder.retrained, ignore_errors=True)
        shutil.rmtree(folder.path / "tensorboard" / "retrain", ignore_errors=True)
        (folder.path / "test.json").unlink(missing_ok=True)
        folder.retrained.mkdir()
        write_whole(path, text.encode())


def _splits(config: SweepConfig, train_on: str) -> tuple[DeviceSplit, DeviceSplit | None]:
    """What is trained on and, unless it is in there, what it is validated on."""
    device, rgb = detect_device(), config.data.as_rgb
    train, val = load_search_splits(config.data)
    if train_on == "train":
        return to_device(train, device, rgb), to_device(val, device, rgb)
    both = Split(np.concatenate([train.images, val.images]), np.concatenate([train.labels, val.labels]))
    return to_device(both, device, rgb), None


def new_training(config: SweepConfig, plan: Plan, seed: int, train: DeviceSplit) -> Training:
    info = describe(config.data)
    precision = resolve_precision(plan.config.precision, train.images.device.type)
    objective = Objective(config.epoch_metric, METRICS[config.epoch_metric])
    return Training(plan.config, info.task, len(info.classes), train, seed, precision, objective)


def _train(
    training: Training, plan: Plan, val: DeviceSplit | None, attempts: Attempts, index: int, on_epoch: OnEpoch
) -> None:
    last = attempts.last()
    if last is not None:
        decode(attempts.read(last), training)
    attempt = attempts.begin()
    while training.epoch < plan.stop:
        on_epoch(index, training.run_epoch(val))
        best_epoch = training.best.epoch if training.best and plan.select == "best" else None
        attempt.save(training.epoch, best_epoch, encode(training))
    best = attempts.of_epoch(training.best.epoch) if training.best and plan.select == "best" else None
    if best is not None:
        decode(attempts.read(best), training)


def _decided(folder: SweepFolder, plan: Plan, training: Training, val: DeviceSplit | None) -> Decided:
    """Calibrator and thresholds for other cases: from what the model says of validation or, where it was trained on
    that, from what its trial said."""
    generator = np.random.default_rng(DECIDED_BY)
    if val is not None:
        logits, labels = predict_logits(training.evaluated, val, training.autocast), val.labels.cpu().numpy()
    else:
        predictions = folder.predictions_of(plan.trial, plan.best_epoch)
        if predictions is None:  # a trial that did not end
            return Decided(Uncalibrated(), [])
        logits, labels = predictions
    return decide(logits, labels.astype(np.int64), training.task, generator)[0]


def decided_of(description: dict[str, Any]) -> Decided:
    """Of a retrained model; of one that an earlier version has made, nothing."""
    saved = description.get("decided")
    return Decided(Uncalibrated(), []) if saved is None else decided_from_json(saved)


def model_description(config: SweepConfig, plan: Plan, training: Training, index: int) -> dict[str, Any]:
    """All that is needed beside the weights to rebuild a model and to know where it is from."""
    info = describe(config.data)
    return {
        "format": 1,
        "dataset": config.data.title,
        "data_md5": data_md5(config.data),
        "task": info.task,
        "classes": list(info.classes),
        "channels": training.train.channels,
        "data_channels": info.channels,
        "size": training.train.size,
        "normalise": {"mean": training.model.mean.flatten().tolist(), "std": training.model.std.flatten().tolist()},
        "precision": resolve_precision(plan.config.precision, training.device.type),
        "config": plan.config.model_dump(mode="json"),
        "sweep": config.sweep,
        "trial": plan.trial,
        "seed": trial_seed(config.seed, RETRAINED + index),
        "train_on": plan.train_on,
        "epochs_trained": training.epoch,
        "metrics": {name: _number(value) for name, value in training.records[-1].values.items()},
        "versions": versions(),
    }


def _number(value: float) -> float | None:
    return None if value != value else value


def _write_model(path: Path, training: Training, description: dict[str, Any]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    write_whole(path / "model.safetensors", encode_weights(training.evaluated))
    write_whole(path / "model.json", (json.dumps(description, indent=2) + "\n").encode())


def load_model(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """A retrained model from its folder, on the CPU and in evaluation mode, and its description."""
    description = json.loads((path / "model.json").read_text())
    config, classes = TrialConfig.model_validate(description["config"]), len(description["classes"])
    model = rebuilt(path / "model.safetensors", config, description["channels"], classes, description["size"])
    return model, description


def retrained_models(folder: SweepFolder) -> list[Path]:
    """The folders of the retrained models, in the order of their seeds. Raises FolderError where there are none."""
    found = (path.parent for path in folder.retrained.glob("model*/model.json"))
    paths = sorted(found, key=lambda path: int(path.name.partition("-")[2] or 0))
    if not paths:
        raise FolderError(
            f"{folder.path} has no retrained model: `medtune retrain {folder.path}` comes before the test"
        )
    return paths
