"""Logits and labels to numbers: AUROC, accuracy, NLL, ECE and Brier for the four tasks.

AUROC and accuracy are those of `medmnist.Evaluator` to the last bits. Shapes throughout: logits and probabilities are
(cases, classes), where binary has two columns; labels are integers, (cases,) or (cases, 1), or (cases, labels)
of 0 and 1 for multilabel. Everything is computed in float64.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medtune.task import Task

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

METRICS = ("auroc", "accuracy", "loss", "ece", "brier")
BINS = 15


def check_shapes(scores: Floats, labels: Integers, task: Task) -> Integers:
    """The labels as everything here wants them. Raises ValueError unless `scores` (cases, classes) and they fit
    together and they are in range.

    Labels of shape (cases, 1) become (cases,): compared with (cases,) they would broadcast to (cases, cases) without a
    word, and an accuracy or ECE computed from that looks like a number.
    """
    if task != "multilabel" and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if scores.ndim != 2 or scores.shape[0] == 0 or (task == "binary" and scores.shape[1] != 2):
        raise ValueError(f"scores of shape {scores.shape}: (cases, {2 if task == 'binary' else 'classes'}) is needed")
    wanted = scores.shape if task == "multilabel" else scores.shape[:1]
    if labels.shape != wanted:
        raise ValueError(f"labels of shape {labels.shape}: {wanted} is needed for scores of shape {scores.shape}")
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels of type {labels.dtype}: integers are needed")
    highest = 1 if task == "multilabel" else scores.shape[1] - 1
    if labels.min() < 0 or labels.max() > highest:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}: they must lie in 0..{highest}")
    return labels


def check_range(probabilities: Floats) -> None:
    """Raise ValueError unless all lie in 0..1."""
    # NaN fails both comparisons, so this also refuses what is not a number
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise ValueError("probabilities must lie in 0..1 (were logits given, or is there a NaN?)")


def check_probabilities(probabilities: Floats, labels: Integers, task: Task) -> Integers:
    """The labels as `check_shapes` gives them. Raises ValueError as it and `check_range` do."""
    labels = check_shapes(probabilities, labels, task)
    check_range(probabilities)
    return labels


def probabilities(logits: Floats, task: Task) -> NDArray[np.float64]:
    """Softmax over the classes, or the sigmoid of each label for multilabel: (cases, classes) to the same.

    Raises ValueError when a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity: the training has diverged")
    logits = logits.astype(np.float64)
    if task == "multilabel":
        return np.asarray(expit(logits))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def one_vs_rest(probabilities: Floats, labels: Integers, task: Task) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and who is positive, both (problems, cases): one row for each AUROC that the task's mean is made of.

    binary: class 1 alone; multi-class and ordinal: each class against the rest; multilabel: each label.
    """
    if task == "binary":
        return probabilities[:, 1][None], (labels == 1)[None]
    scores = np.ascontiguousarray(probabilities.T)
    if task == "multilabel":
        return scores, np.ascontiguousarray(labels.T) == 1
    return scores, labels == np.arange(len(scores))[:, None]


def _auroc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Mann-Whitney U over the pairs, a tie counting half (Hanley & McNeil 1982); NaN where one side is missing."""
    of_positives = np.sort(scores[positive])
    m, n = len(of_positives), len(scores) - len(of_positives)
    if m == 0 or n == 0:
        return math.nan
    everyone = np.sort(scores)
    # a midrank is the mean of these two and a half; both sums are integers, so U is exact
    below = np.searchsorted(everyone, of_positives, "left").sum()
    up_to = np.searchsorted(everyone, of_positives, "right").sum()
    return float((below + up_to - m * m) / 2 / (m * n))


def auroc_per_class(probabilities: Floats, labels: Integers, task: Task) -> NDArray[np.float64]:
    """AUROC of each class against the rest, or of each label; (1,) for binary. NaN where a class has none or all."""
    labels = check_probabilities(probabilities, labels, task)
    return np.array([_auroc(*problem) for problem in zip(*one_vs_rest(probabilities, labels, task), strict=True)])


def auroc(probabilities: Floats, labels: Integers, task: Task) -> float:
    """AUROC as `medmnist.Evaluator`: class 1, the plain mean of one-vs-rest over classes, or the mean over labels.

    NaN when a class (or both sides of a label) is missing from the split: a mean over the classes that happen to be
    there is another quantity, and would silently compare unlike things. `why_undefined` says which class it was.
    """
    return float(auroc_per_class(probabilities, labels, task).mean())


def why_undefined(labels: Integers, classes: int, task: Task) -> str | None:
    """Why AUROC is NaN on these labels, in words; None when it is defined."""
    if task == "multilabel":
        constant = np.flatnonzero((labels == labels[:1]).all(axis=0))
        return (
            f"AUROC is undefined: every case has the same value of labels {constant.tolist()}"
            if len(constant)
            else None
        )
    counts = np.bincount(labels, minlength=classes)
    if (absent := np.flatnonzero(counts == 0)).size:
        return f"AUROC is undefined: no case has class {', '.join(map(str, absent))}"
    return None


def accuracy(probabilities: Floats, labels: Integers, task: Task) -> float:
    """Share of right cases: argmax, or for multilabel the share of right labels when each is cut at > 0.5."""
    labels = check_probabilities(probabilities, labels, task)
    return float(correct(probabilities, labels, task).mean())


def correct(probabilities: Floats, labels: Integers, task: Task) -> NDArray[np.bool_]:
    """What the usual decision gets right: (cases,), or (cases, labels) for multilabel."""
    return np.asarray(predicted_labels(probabilities, task) == labels)


def predicted_labels(probabilities: Floats, task: Task) -> NDArray[np.intp]:
    """The usual decision: (cases,), the argmax, where a binary tie goes to class 0; or for multilabel (cases, labels)
    of 0 and 1."""
    if task == "multilabel":
        return (probabilities > 0.5).astype(np.intp)
    if task == "binary":
        return (probabilities[:, 1] > 0.5).astype(np.intp)
    return probabilities.argmax(axis=1)


def confidences(probabilities: Floats, labels: Integers, task: Task) -> tuple[Floats, NDArray[np.bool_]]:
    """Confidence and whether it came true, both (cases, problems): what a reliability diagram is drawn from.

    One problem, the top label, for single-label tasks; for multilabel each label's positive class, as a top label is
    undefined there.
    """
    if task == "multilabel":
        return probabilities, labels == 1
    return probabilities.max(axis=1)[:, None], correct(probabilities, labels, task)[:, None]


def bin_of(confidence: Floats, bins: int = BINS) -> NDArray[np.intp]:
    """Index from 0 of the equal-width bin: closed below, open above, except that the last holds exactly 1.0 too."""
    return np.searchsorted(_inner_edges(bins), confidence, "right")


@cache
def _inner_edges(bins: int) -> NDArray[np.float64]:
    return np.linspace(0, 1, bins + 1)[1:-1]


def cell_of(confidence: Floats) -> NDArray[np.intp]:
    """As `bin_of` for (cases, problems), but counted on over the problems, so that each has its own 15 cells."""
    return bin_of(confidence) + BINS * np.arange(confidence.shape[1])


def ece(probabilities: Floats, labels: Integers, task: Task) -> float:
    """Expected calibration error of the top label in 15 equal-width bins, 0..1 (Naeini et al. 2015; Guo et al. 2017).

    Multilabel: the mean over labels of the ECE of the positive class. It is biased upwards on few cases: show
    `calibration_error.calibration_estimate` beside it.
    """
    labels = check_probabilities(probabilities, labels, task)
    confidence, outcome = confidences(probabilities, labels, task)
    # n_b |mean confidence - mean outcome| is the absolute sum of differences, so no bin is divided by its count
    gaps = np.bincount(cell_of(confidence).ravel(), weights=(confidence - outcome).ravel())
    return float(np.abs(gaps).sum() / confidence.size)


def brier(probabilities: Floats, labels: Integers, task: Task) -> float:
    """Brier score (Brier 1950), mean over cases.

    Multi-class and ordinal: squared error summed over the classes, 0..2. Binary: of class 1 only, 0..1, which is half
    of Brier's sum and what scikit-learn gives. Multilabel: the mean over labels of the positive class, 0..1.
    """
    labels = check_probabilities(probabilities, labels, task)
    if task == "multilabel":
        return float(np.square(probabilities - labels).mean())
    if task == "binary":
        return float(np.square(probabilities[:, 1] - labels).mean())
    # sum (p - y)^2 = sum p^2 - 2 p_true + 1, without the one-hot array
    of_true = probabilities[np.arange(len(labels)), labels]
    return float((np.einsum("ij,ij->i", probabilities, probabilities) - 2 * of_true + 1).mean())


def nll(logits: Floats, labels: Integers, task: Task) -> float:
    """Negative log-likelihood in nats, unsmoothed and unweighted: mean over cases, and labels for multilabel.

    From the logits, and so never infinite for finite ones. NaN logits give NaN.
    """
    labels = check_shapes(logits, labels, task)
    logits = logits.astype(np.float64)
    if task == "multilabel":
        return float(np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean())
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean())


def evaluate(logits: Floats, labels: Integers, task: Task) -> dict[str, float]:
    """The numbers of one epoch: auroc, accuracy, loss (the NLL), ece, brier.

    All NaN when a logit is not finite, so that the caller sees a diverged trial and not an exception; `auroc` alone is
    NaN when a class is missing. Raises ValueError when shapes or labels are wrong.
    """
    labels = check_shapes(logits, labels, task)
    if not np.isfinite(logits).all():
        return dict.fromkeys(METRICS, math.nan)
    predicted = probabilities(logits, task)
    return {
        "auroc": auroc(predicted, labels, task),
        "accuracy": accuracy(predicted, labels, task),
        "loss": nll(logits, labels, task),
        "ece": ece(predicted, labels, task),
        "brier": brier(predicted, labels, task),
    }
