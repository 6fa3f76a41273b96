"""Small sets of images that can be learnt, and pretrainings on them."""

from collections.abc import Callable
from typing import Any

import pytest

from medtune.config.pretrain import PretrainConfig
from medtune.data.batches import DeviceSplit
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


@pytest.fixture
def make_pretraining(make_split: Callable[..., DeviceSplit]) -> Callable[..., Pretraining]:
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
        images = images or make_split(task)
        labelled = labelled or make_split(task)
        return Pretraining(config, task, CLASSES[task], images, labelled, seed, config.precision)

    return make
