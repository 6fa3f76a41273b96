"""Random cases of each task, in the awkward forms that validation sets take."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medtune.evaluation.metrics import probabilities
from medtune.task import Task

CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 7, "multilabel": 5, "ordinal": 4}


def _draw(
    task: Task, cases: int, seed: int, scale: float = 2.0, decimals: int = 6
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits and labels of a calibrated model, with every class there; few decimals make ties."""
    generator = np.random.default_rng(seed)
    classes = CLASSES[task]
    logits = generator.normal(0, scale, (cases, classes)).round(decimals).astype(np.float32)
    true = probabilities(logits, task)
    if task == "multilabel":
        labels = (generator.random(logits.shape) < true).astype(np.int64)
        labels[:2] = [[0] * classes, [1] * classes]
        return logits, labels
    labels = (generator.random((cases, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    labels[:classes] = np.arange(classes)
    return logits, labels


@pytest.fixture
def draw() -> Callable[..., tuple[NDArray[Any], NDArray[Any]]]:
    """`draw(task, cases, seed, scale=2.0, decimals=6)`: logits and labels of a calibrated model."""
    return _draw
