"""Models in their folders without any sweep: a network of drawn weights, shown a phantom."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtune.config.trial import TrialConfig
from medtune.data import Split
from medtune.data.batches import to_device
from medtune.data.phantoms import CLASSES, make_phantom
from medtune.evaluation.appraisal import Decided
from medtune.evaluation.calibrators import Temperature
from medtune.evaluation.thresholds import choose_thresholds
from medtune.models.build import build_model
from medtune.task import Task
from medtune.trained.model import FORMAT, TrainedModel, write_description, write_weights
from medtune.trained.outliers import fit_outliers, write_outliers

MakeModel = Callable[..., Path]


def cases(task: Task, split: str, count: int, channels: int = 1) -> Split:
    """Of a phantom; in colour, the same grey three times."""
    made = make_phantom(task, split, 0.3, 28)  # type: ignore[arg-type]
    images = made.images[:count] if channels == 1 else np.repeat(made.images[:count, ..., None], 3, axis=3)
    return Split(images, made.labels[:count])


def write_model(folder: Path, task: Task = "binary", names: tuple[str, ...] = ("smallcnn",), channels: int = 1) -> Path:
    """A model whose members have drawn weights, with what is decided and what is far learned from a phantom."""
    configs = [TrialConfig.model_validate({"model": {"name": name}, "precision": "float32"}) for name in names]
    classes = CLASSES[task]
    networks = [
        build_model(config.model, channels, len(classes), 28, torch.Generator().manual_seed(seed))
        for seed, config in enumerate(configs)
    ]
    weights = [{name: t.numpy() for name, t in network.state_dict().items()} for network in networks]
    written = write_weights(folder, weights)
    members = [
        {
            "weights": name,
            "weight": (index + 1) / sum(range(1, len(names) + 1)),
            "trial": 3 + index,
            "seed": 11 + index,
            "epochs_trained": 4,
            "precision": "float32",
            "normalise": {"mean": [0.5], "std": [0.5]},
            "metrics": {"val/auroc": 0.9, "val/loss": None},
            "config": config.model_dump(mode="json"),
        }
        for index, (name, config) in enumerate(zip(written, configs, strict=True))
    ]
    description: dict[str, Any] = {
        "format": FORMAT,
        "dataset": f"phantom-{task}",
        "title": f"Phantom, {task}",
        "licence": "made, free of rights",
        "traps": ["Made by a program."],
        "cases": {"train": 600, "val": 120, "test": 240},
        "data_md5": "0" * 32,
        "task": task,
        "classes": list(classes),
        "channels": channels,
        "data_channels": channels,
        "size": 28,
        "sweep": "tiny",
        "chosen": f"trial {3} up to epoch 4",
        "train_on": "train",
        "versions": {"medtune": "0.1.0"},
        "git_commit": "",
        "members": members,
    }
    model = TrainedModel(folder, description)
    train, val = cases(task, "train", 150, channels), cases(task, "val", 120, channels)
    logits = model.logits(to_device(val, model.device))
    calibrator = Temperature(1.5)
    decided = Decided(calibrator, choose_thresholds(calibrator.apply(logits, task), val.labels, task))
    outliers = fit_outliers(model, to_device(train, model.device), to_device(val, model.device))
    assert outliers is not None
    write_outliers(model, outliers)
    write_description(folder, {**description, "decided": decided.as_json(), "outliers": outliers.as_json()})
    return folder


@pytest.fixture(scope="session")
def model_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two classes, to be looked at and not touched."""
    return write_model(tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """`make_model(task, names, channels)`: see `write_model`."""
    return lambda *given, **named: write_model(tmp_path / "model", *given, **named)
