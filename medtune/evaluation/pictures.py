"""The pictures of a trial, from the predictions that it left."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medtune.evaluation.figures import reliability_figure, roc_figure
from medtune.evaluation.metrics import probabilities
from medtune.task import Task


def logits_of_epoch(predictions: Mapping[str, np.ndarray], epoch: int) -> np.ndarray:
    """float32 logits (cases, classes) of one epoch of a `validation.npz`. Raises KeyError where it was not kept."""
    index = np.flatnonzero(predictions["epochs"] == epoch)
    if not len(index):
        raise KeyError(f"epoch {epoch} is not among those kept: {predictions['epochs'].tolist()}")
    return predictions["logits"][index[0]]


def draw_predictions(
    predictions: Mapping[str, np.ndarray], epoch: int, task: Task, classes: Sequence[str], folder: Path
) -> None:
    """`reliability.png` and `roc.png` of one epoch of a `validation.npz`, in a folder."""
    logits, labels = logits_of_epoch(predictions, epoch), predictions["labels"]
    if np.isfinite(logits).all():
        shown = probabilities(logits, task)
        reliability_figure(shown, labels, task, folder / "reliability.png")
        roc_figure(shown, labels, task, classes, folder / "roc.png")
