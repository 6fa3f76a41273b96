"""Small sets of images that can be learnt, and trainings on them."""

from collections.abc import Callable
from typing import Any

import pytest

from medtune.config.trial import TrialConfig
from medtune.data.batches import DeviceSplit
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


@pytest.fixture
def make_training(make_split: Callable[..., DeviceSplit]) -> Callable[..., Training]:
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
        train = train or make_split(task)
        objective = Objective(metric, direction)
        return Training(config, task, CLASSES[task], train, seed, config.precision, objective)

    return make
