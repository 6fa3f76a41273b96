"""A trained model, rebuilt from its weights: of a trial that kept them, or of a retraining."""

from pathlib import Path

import torch
from safetensors import safe_open

from medtune.config.trial import TrialConfig
from medtune.models.build import empty_model
from medtune.models.classifier import Classifier
from medtune.training.checkpoint import load_weights


def rebuilt(path: Path, config: TrialConfig, channels: int, classes: int, size: int) -> Classifier:
    """The model of a `model.safetensors`, on the CPU and in evaluation mode.

    channels: of a batch, so 3 where the sweep says `as_rgb`. size: pixels a side. Raises FileNotFoundError where the
    weights were not kept, and ValueError for a cross-validated trial, which has a model for each fold and none for all.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: keep.weights says how many of the best trials keep their weights"
        )
    with safe_open(path, framework="pt") as file:
        if "head.weight" not in file.keys():  # noqa: SIM118
            raise ValueError(f"{path} holds a model for each fold, and none of all the cases")
    model = empty_model(config.model, channels, classes, size)
    load_weights(str(path), model)
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
