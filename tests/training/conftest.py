"""Small sets of images that can be learnt, and trainings on them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medtune.config.trial import TrialConfig
from medtune.data import Split
from medtune.data.batches import DeviceSplit, to_device
from medtune.task import Task
from medtune.training.loop import Training
from medtune.training.progress import Objective

CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 3, "multilabel": 4, "ordinal": 3}
QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "model": {"name": "smallcnn"},
    "schedule": {"name": "constant"},
    "precision": "float32",
}


def _make_split(
    task: Task = "binary", cases: int = 40, size: int = 16, channels: int = 1, seed: int = 0
) -> DeviceSplit:
    """Noise that is brighter the higher the label, or the more labels, so that there is something to learn."""
    generator = np.random.default_rng(seed)
    if task == "multilabel":
        labels = generator.integers(0, 2, (cases, CLASSES[task]))
    else:
        labels = np.arange(cases) % CLASSES[task]
    brightness = 20 * labels.reshape(cases, -1).sum(axis=1)
    images = generator.integers(0, 170, (cases, size, size, channels)) + brightness[:, None, None, None]
    return to_device(Split(images.astype(np.uint8), labels), "cpu")


@pytest.fixture
def make_split() -> Callable[..., DeviceSplit]:
    """`make_split(task, cases, size, channels, seed)`, all with defaults."""
    return _make_split


@pytest.fixture
def make_training() -> Callable[..., Training]:
    """`make_training(task, seed=…, train=…, metric=…, direction=…, **keys of the configuration)`, all with defaults."""

    def make(
        task: Task = "binary",
        *,
        seed: int = 0,
        train: DeviceSplit | None = None,
        metric: str = "val/auroc",
        direction: str = "max",
        **keys: Any,
    ) -> Training:
        config = TrialConfig.model_validate(QUICK | keys)
        train = train or _make_split(task)
        objective = Objective(metric, direction)
        return Training(config, task, CLASSES[task], train, seed, config.precision, objective)

    return make
