"""A trained model or an ensemble of them: `model.json` and the weights beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from medtune.config.trial import TrialConfig
from medtune.data import DataError, Split
from medtune.data.batches import DeviceSplit, to_device
from medtune.evaluation.appraisal import Decided, decided_from_json
from medtune.evaluation.calibrators import Uncalibrated
from medtune.evaluation.ensembles import mean_logits
from medtune.files import whole_file, write_whole
from medtune.inspection.rebuilt import rebuilt
from medtune.models.classifier import Classifier
from medtune.task import Task
from medtune.training.device import autocast, detect_device
from medtune.training.loop import predict_logits

FORMAT = 2
DESCRIPTION = "model.json"
OF_A_MEMBER = ("config", "epochs_trained", "metrics", "normalise", "precision", "seed", "trial")


@dataclass(frozen=True)
class Member:
    """One network, the trial that it is of, and its share of the mean."""

    trial: int
    network: Classifier
    weight: float
    precision: str


class TrainedModel:
    """The model of a description and its folder, on the device that there is and in evaluation mode.

    description: what `model.json` holds. decided: the calibrator and the thresholds that were chosen on validation.
    """

    def __init__(self, folder: Path, description: Mapping[str, Any]) -> None:
        self.folder, self.description = folder, description
        self.task: Task = description["task"]
        self.classes: Sequence[str] = description["classes"]
        self.size, self.channels = int(description["size"]), int(description["channels"])
        self.device = detect_device()
        self.members = [self._member(member) for member in description["members"]]
        self.decided = decided_of(description)

    @classmethod
    def load(cls, folder: Path) -> "TrainedModel":
        """Raises DataError where the folder holds no model, or one that this version cannot read."""
        return cls(folder, read_description(folder))

    def _member(self, member: Mapping[str, Any]) -> Member:
        config = TrialConfig.model_validate(member["config"])
        network = rebuilt(self.folder / member["weights"], config, self.channels, len(self.classes), self.size)
        return Member(member["trial"], network.to(self.device), float(member["weight"]), member["precision"])

    @property
    def chosen(self) -> str:
        """What was trained, in words."""
        return str(self.description.get("chosen", f"trial {self.first.trial}"))

    @property
    def first(self) -> Member:
        """The member of the greatest weight."""
        return max(self.members, key=lambda member: member.weight)

    def logits(self, split: DeviceSplit) -> np.ndarray:
        """float32 (cases, classes); of an ensemble, those of the weighted mean of its members' probabilities."""
        of_members = [
            predict_logits(member.network, split, autocast(self.device, member.precision)) for member in self.members
        ]
        return mean_logits(np.stack(of_members), self.task, np.array([member.weight for member in self.members]))

    def on_device(self, images: np.ndarray) -> DeviceSplit:
        """Images as the model was trained on, uint8 (cases, side, side) or (cases, side, side, 3), without labels."""
        rgb = self.channels == 3 and images.ndim == 3
        return to_device(Split(images, np.zeros(len(images), np.int64)), self.device, rgb)

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities float64 (cases, classes) after the calibrator that was chosen on validation."""
        return np.asarray(self.decided.calibrator.apply(logits, self.task))


def decided_of(description: Mapping[str, Any]) -> Decided:
    """Of a model that an earlier version has made, nothing."""
    saved = description.get("decided")
    return Decided(Uncalibrated(), []) if saved is None else decided_from_json(saved)


def read_description(folder: Path) -> dict[str, Any]:
    """What `model.json` holds, in today's format. Raises DataError where there is none, or one of a later version."""
    path = folder / DESCRIPTION
    if not path.exists():
        raise DataError(f"{folder} holds no model: give a folder with a model.json, such as retrain/model of a sweep")
    description = json.loads(path.read_text())
    if description["format"] > FORMAT:
        raise DataError(
            f"{path} is of format {description['format']}, and this medtune reads up to {FORMAT}: install a newer one"
        )
    return description if "members" in description else _of_one_member(description)


def _of_one_member(description: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knew no ensembles."""
    member = {name: description.pop(name) for name in OF_A_MEMBER}
    return {**description, "members": [{"weights": "model.safetensors", "weight": 1.0, **member}]}


def write_weights(folder: Path, weights: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    """The weights of the members into their files, whose names are returned."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["model.safetensors"] if len(weights) == 1 else [f"member-{i}.safetensors" for i in range(len(weights))]
    for name, of_member in zip(names, weights, strict=True):
        with whole_file(folder / name) as temporary:
            save_file(dict(of_member), temporary)
    return names


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Written last: where it is, the model is whole."""
    write_whole(folder / DESCRIPTION, (json.dumps(description, indent=2, allow_nan=False) + "\n").encode())
