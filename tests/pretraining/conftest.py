"""Small sets of images that can be learnt, and pretrainings on them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medtune.config.pretrain import PretrainConfig
from medtune.data import Split
from medtune.data.batches import DeviceSplit, to_device
from medtune.pretraining.loop import Pretraining
from medtune.task import Task

CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 3, "multilabel": 4, "ordinal": 3}
QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 20,
    "model": {"name": "smallcnn"},
    "projector": {"hidden": 16, "features": 8},
    "schedule": {"name": "constant"},
    "neighbours": 5,
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
def make_pretraining() -> Callable[..., Pretraining]:
    """`make_pretraining(task, seed=…, images=…, labelled=…, **keys of the configuration)`, all with defaults."""

    def make(
        task: Task = "binary",
        *,
        seed: int = 0,
        images: DeviceSplit | None = None,
        labelled: DeviceSplit | None = None,
        **keys: Any,
    ) -> Pretraining:
        config = PretrainConfig.model_validate(QUICK | keys)
        images = images or _make_split(task)
        labelled = labelled or _make_split(task)
        return Pretraining(config, task, CLASSES[task], images, labelled, seed, config.precision)

    return make
