"""From checkpoints to models, with the calibrator and the thresholds that validation decides on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtune.config.sweep import SweepConfig
from medtune.data.batches import DeviceSplit, join, to_device
from medtune.data.catalogue import describe
from medtune.data.splits import Split, data_md5
from medtune.evaluation.appraisal import Decided, decide
from medtune.evaluation.calibrators import Uncalibrated
from medtune.evaluation.ensembles import mean_logits
from medtune.provenance import git_commit, versions
from medtune.retraining.plan import DEFAULT, Part, Plan, plan_of
from medtune.search.attempts import Attempts
from medtune.search.entries import best_epoch_of
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.worker import Job
from medtune.trained.card import write_card
from medtune.trained.model import DESCRIPTION, FORMAT, TrainedModel, write_description, write_weights
from medtune.trained.outliers import fit_outliers, write_outliers

UNTUNED = "the untuned default"
DECIDED_BY = 0  # the seed of the folds in which calibrators are compared


@dataclass(frozen=True)
class Trained:
    """A training that has come to its end. records: the numbers of its epochs. Its checkpoints lie where `job` says."""

    part: Part
    job: Job
    records: Mapping[int, dict[str, Any]]


def write_model(
    path: Path,
    folder: SweepFolder,
    config: SweepConfig,
    plan: Plan,
    trainings: Sequence[Trained],
    splits: tuple[Split, Split],
) -> None:
    """The model of some trainings into its folder, and what is decided with it. The checkpoints go last. splits: all of
    train, and validation."""
    members = [member for training in trainings for member in _members(plan, training)]
    names = write_weights(path, [weights for weights, _ in members])
    described = [{"weights": name, **member} for name, (_, member) in zip(names, members, strict=True)]
    chosen = plan.chosen if path.name != DEFAULT else UNTUNED
    description = {**_description(config, plan), "chosen": chosen, "members": described}
    model = TrainedModel(path, description)
    train, val = (to_device(split, model.device, config.data.as_rgb) for split in splits)
    description["decided"] = _decided(folder, plan, model, val).as_json()
    outliers = (
        fit_outliers(model, train, val) if plan.train_on == "train" else fit_outliers(model, join(train, val), None)
    )
    if outliers is not None:
        write_outliers(model, outliers)
        description["outliers"] = outliers.as_json()
    write_card(path, model=description)
    write_description(path, description)
    for training in trainings:
        Attempts(training.job.storage).clear()


def _members(plan: Plan, training: Trained) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """The weights of each epoch that is taken of a training, and what `model.json` says of them."""
    part, job, records = training.part, training.job, training.records
    takes, attempts = part.takes, Attempts(job.storage)
    if plan.select == "best":
        values = {epoch: record[job.metric] for epoch, record in records.items()}
        takes = {best_epoch_of(values, job.direction) or max(records): 1.0}
    for epoch, weight in takes.items():
        saved = attempts.of_epoch(epoch)
        assert saved is not None, f"{job.storage} has no checkpoint of epoch {epoch}"
        weights = attempts.weights(saved)
        yield (
            weights,
            {
                "weight": weight,
                "trial": part.trial,
                "seed": job.seed,
                "epochs_trained": saved.epoch,
                "precision": job.precision,
                "normalise": {name: weights[name].flatten().tolist() for name in ("mean", "std")},
                "metrics": _metrics(records[saved.epoch]),
                "config": part.config.model_dump(mode="json"),
            },
        )


def _metrics(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Of an epoch; null where one is not a number."""
    return {name: value if value == value else None for name, value in record.items() if name != "epoch"}


def _description(config: SweepConfig, plan: Plan) -> dict[str, Any]:
    """What is known of a model beside its members: where it is from, and what it takes and gives."""
    info = describe(config.data)
    return {
        "format": FORMAT,
        "dataset": config.data.title,
        "title": info.title,
        "licence": info.licence,
        "traps": list(info.traps),
        "cases": dict(info.cases),
        "data_md5": data_md5(config.data),
        "task": info.task,
        "classes": list(info.classes),
        "channels": 3 if config.data.as_rgb else info.channels,
        "data_channels": info.channels,
        "size": config.data.side,
        "sweep": config.sweep,
        "train_on": plan.train_on,
        "versions": versions(),
        "git_commit": git_commit(),
    }


def _decided(folder: SweepFolder, plan: Plan, model: TrainedModel, val: DeviceSplit) -> Decided:
    """Calibrator and thresholds for other cases: from what the model says of validation or, where it was trained on
    that, from what its trials said."""
    if plan.train_on == "train":
        logits, labels = model.logits(val), val.labels.cpu().numpy()
    else:
        found = _said_by_the_trials(folder, model)
        if found is None:
            return Decided(Uncalibrated(), [])
        logits, labels = found
    return decide(logits, labels.astype(np.int64), model.task, np.random.default_rng(DECIDED_BY))[0]


def _said_by_the_trials(folder: SweepFolder, model: TrainedModel) -> tuple[np.ndarray, np.ndarray] | None:
    """Validation logits (cases, classes) of the trials at the epochs that the members are of, and the labels; None
    where one of the trials has left none."""
    members = model.description["members"]
    found = [folder.predictions_of(member["trial"], member["epochs_trained"]) for member in members]
    if any(one is None for one in found):
        return None
    logits = np.stack([one[0] for one in found if one is not None])
    return mean_logits(logits, model.task, np.array([member["weight"] for member in members])), found[0][1]  # type: ignore[index]


def default_model(folder: SweepFolder) -> Path | None:
    """The folder of the untuned default, trained the same way; None where there is none."""
    path = folder.retrained / DEFAULT
    return path if (path / DESCRIPTION).exists() else None


def retrained_models(folder: SweepFolder) -> list[Path]:
    """The folders of the retrained models, in the order of their seeds. Raises FolderError where there are none, or
    where the retraining has not come to its end."""
    plan = plan_of(folder)
    lacking = [name for name in plan.everything if not (folder.retrained / name / DESCRIPTION).exists()]
    if lacking:
        raise FolderError(
            f"{folder.path} has no whole retraining, {', '.join(lacking)} is missing: "
            f"`medtune retrain {folder.path}`, as it was said before, goes on with it"
        )
    return [folder.retrained / name for name in plan.models]
