"""Each of the metrics by which trials are chosen, of many models on many resamples of the same cases."""

import numpy as np
from numpy.typing import NDArray

from medtune.config.trial import Metric
from medtune.evaluation.metrics import (
    BINS,
    Floats,
    Integers,
    cell_of,
    confidences,
    correct,
    probabilities,
)
from medtune.evaluation.resampling import Booleans, Resamples, problems
from medtune.task import Task

Weights = NDArray[np.uint16] | Booleans


def resampled_values(
    logits: NDArray[np.float32], labels: Integers, task: Task, metric: Metric, weights: Weights
) -> NDArray[np.float32]:
    """The metric of each model on each resample: (resamples, models).

    logits: (models, cases, classes), finite. weights: how often each case counts, (resamples, cases). NaN where AUROC
    is undefined on a resample. Raises ValueError as `metrics` does.
    """
    shown = (probabilities(one, task) for one in logits)
    if metric == "val/auroc":
        scores, positive = problems(shown, labels, task)
        return Resamples(weights.astype(np.uint16)).in_bag_auroc(scores, positive)
    cases = weights.astype(np.float32)  # sums are exact up to 16 million cases
    every = cases.sum(axis=1)
    if metric == "val/ece":
        return np.stack([_ece(one, labels, task, cases) for one in shown], axis=1) / every[:, None]
    if metric == "val/loss":
        of_cases = np.stack([_loss(one, labels, task) for one in logits])
    else:
        of_cases = np.stack([_OF_CASES[metric](one, labels, task) for one in shown])
    return cases @ of_cases.T.astype(np.float32) / every[:, None]


def _ece(shown: Floats, labels: Integers, task: Task, cases: NDArray[np.float32]) -> NDArray[np.float32]:
    """The gaps of the bins, each times its share: (resamples,), to be divided by the number of cases."""
    confidence, outcome = confidences(shown, labels, task)
    cells = cell_of(confidence)
    gaps = np.zeros((len(labels), BINS * confidence.shape[1]), np.float32)
    gaps[np.arange(len(labels))[:, None], cells] = confidence - outcome
    return np.abs(cases @ gaps).sum(axis=1) / confidence.shape[1]


def _loss(logits: Floats, labels: Integers, task: Task) -> NDArray[np.float64]:
    """The NLL of each case in nats: (cases,)."""
    logits = logits.astype(np.float64)
    if task == "multilabel":
        return np.asarray(np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean(axis=1))
    return np.asarray(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels])


def _right(shown: Floats, labels: Integers, task: Task) -> NDArray[np.float64]:
    right = correct(shown, labels, task).astype(np.float64)
    return right.mean(axis=1) if right.ndim == 2 else right


def _brier(shown: Floats, labels: Integers, task: Task) -> NDArray[np.float64]:
    if task == "multilabel":
        return np.square(shown - labels).mean(axis=1)
    if task == "binary":
        return np.square(shown[:, 1] - labels)
    return np.square(shown - np.eye(shown.shape[1])[labels]).sum(axis=1)


_OF_CASES = {"val/accuracy": _right, "val/brier": _brier}
