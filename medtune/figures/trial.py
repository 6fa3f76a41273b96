"""The pictures of a trial, from the predictions that it left."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medtune.evaluation.metrics import probabilities
from medtune.figures.reliability import reliability_figure
from medtune.figures.roc import roc_figure
from medtune.task import Task
from medtune.training.predictions import logits_of_epoch


def draw_predictions(
    predictions: Mapping[str, np.ndarray], epoch: int, task: Task, classes: Sequence[str], folder: Path
) -> None:
    """`reliability.png` and `roc.png` of one epoch of a `validation.npz`, in a folder."""
    logits, labels = logits_of_epoch(predictions, epoch), predictions["labels"]
    if np.isfinite(logits).all():
        shown = probabilities(logits, task)
        reliability_figure(shown, labels, task, folder / "reliability.png")
        roc_figure(shown, labels, task, classes, folder / "roc.png")
