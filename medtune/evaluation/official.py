"""Predictions as `medmnist.Evaluator` writes and reads them: a CSV of a line a case, with AUC and ACC in its name."""

import glob
import math
from pathlib import Path

import pandas as pd

from medtune.evaluation.metrics import Floats, Integers, check_probabilities, why_undefined
from medtune.task import Task

_TASKS: dict[Task, str] = {
    "binary": "binary-class",
    "multiclass": "multi-class",
    "multilabel": "multi-label, binary-class",
    "ordinal": "ordinal-regression",
}


def write_official(
    folder: Path, data: str, split: str, probabilities: Floats, labels: Integers, task: Task, run: str
) -> Path:
    """`{data}_{split}_[AUC]0.912_[ACC]0.853@{run}.csv` in a folder: each case's index and its probabilities.

    data: the flag, with `_64` behind it for images of 64 pixels. probabilities: (cases, classes), two columns for
    binary, as the published models' outputs. The AUC is nan where it is undefined. Raises ValueError as `metrics`.
    """
    auc, acc = official_metrics(probabilities, labels, task)
    path = folder / f"{data}_{split}_[AUC]{auc:.3f}_[ACC]{acc:.3f}@{run}.csv"
    for old in folder.glob(f"{glob.escape(data)}_{split}_*@{run}.csv"):  # measured on another device, perhaps
        old.unlink()
    pd.DataFrame(probabilities).to_csv(path, header=False)
    return path


def official_metrics(probabilities: Floats, labels: Integers, task: Task) -> tuple[float, float]:
    """AUC and ACC by the package's own functions, so that the last digit of a file's name is the package's too."""
    from medmnist.evaluator import getACC, getAUC  # the package takes seconds, and imports torch

    labels = check_probabilities(probabilities, labels, task)
    undefined = why_undefined(labels, probabilities.shape[1], task)
    auc = math.nan if undefined else float(getAUC(labels, probabilities, _TASKS[task]))
    return auc, float(getACC(labels, probabilities, _TASKS[task]))


def official_name(flag: str, size: int) -> str:
    """A data set and its pixels a side, as files are named: 28 is not said."""
    return flag if size == 28 else f"{flag}_{size}"
