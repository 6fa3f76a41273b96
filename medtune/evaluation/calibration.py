"""Calibration errors by name: what is taken for a confidence, in which bins, and how the gaps of the bins are summed.

Takes probabilities (cases, classes) and labels as `metrics` has them, and raises ValueError where `metrics` would.
How sure such a number is, `calibration_error.py` tells.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.metrics import Floats, Integers, bin_of, check_probabilities
from medtune.task import Task

What = Literal["top-label", "positive-class", "class-wise"]
By = Literal["width", "mass"]


@dataclass(frozen=True)
class Kind:
    """One calibration error.

    `what` is confident: the top label (Guo et al. 2017); the positive class, or each label of multilabel; or every
    class against the rest (Kull et al. 2019, and Nixon et al. 2019 with bins of equal mass). The ECE of several
    problems (labels, classes) is their mean. `worst`: the largest gap of a bin in the place of the mean one, the MCE
    of Naeini et al. 2015.
    """

    what: What
    bins: int
    by: By
    worst: bool = False

    @property
    def name(self) -> str:
        """Such as `top-label-15-width`, or `mce-top-label-15-width`."""
        return f"{'mce-' if self.worst else ''}{self.what}-{self.bins}-{self.by}"

    def why_undefined(self, task: Task) -> str | None:
        """Why there is no such number for a task, in words; None where there is."""
        if self.what == "top-label" and task == "multilabel":
            return "several labels can be true at once: there is no top label"
        if self.what == "class-wise" and task == "multilabel":
            return "labels are not classes of which one is true: positive-class has the mean over labels"
        if self.what == "positive-class" and task in ("multiclass", "ordinal"):
            return "no class is the positive one: class-wise has the mean over classes"
        return None


KINDS = {
    kind.name: kind
    for kind in (
        *(Kind("top-label", bins, by) for by in ("width", "mass") for bins in (15, 10)),
        *(Kind("positive-class", bins, by) for by in ("width", "mass") for bins in (15, 10)),
        *(Kind("class-wise", bins, by) for by in ("width", "mass") for bins in (15, 10)),
        *(Kind(what, 15, "width", worst=True) for what in ("top-label", "positive-class")),
    )
}


def usual_kind(task: Task) -> Kind:
    """The one that `metrics.ece` is, and the curves show: of the top label, or of each label of multilabel."""
    return KINDS["positive-class-15-width" if task == "multilabel" else "top-label-15-width"]


def equal_mass(confidence: Floats, bins: int) -> NDArray[np.intp]:
    """Index of the bin, (cases,), from the rank: bins differ by a case at most where no two confidences are equal.

    Equal ones share the bin in which the middle of them lies (their midrank), so that neither the order of the cases
    nor a sort decides; bins may then stay empty.
    """
    everyone = np.sort(confidence)
    ranks = np.searchsorted(everyone, confidence, "left") + np.searchsorted(everyone, confidence, "right")
    return ranks * bins // (2 * len(everyone))


@dataclass(frozen=True)
class Binned:
    """Confidences in the bins of a reliability diagram, those of one problem after the other. Only bins that hold a
    case are there: the cells."""

    confidence: Floats  # (cases, problems)
    outcome: NDArray[np.bool_]  # (cases, problems): whether it came true
    index: NDArray[np.intp]  # (cases, problems): which cell
    problem: NDArray[np.intp]  # (cells,): which problem
    worst: bool = False

    @property
    def size(self) -> int:
        return self.confidence.size

    @cached_property
    def count(self) -> NDArray[np.float64]:
        """Cases in each cell."""
        return np.bincount(self.index.ravel()).astype(np.float64)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean confidence in each cell."""
        return np.bincount(self.index.ravel(), weights=self.confidence.ravel()) / self.count

    @cached_property
    def excess(self) -> NDArray[np.float64]:
        """Sum of confidence less outcome in each cell."""
        return np.asarray(np.bincount(self.index.ravel(), weights=(self.confidence - self.outcome).ravel()), np.float64)

    def error(self, excess: NDArray[np.float64]) -> NDArray[np.float64]:
        """The calibration error for each row of excesses (..., cells)."""
        if not self.worst:
            return np.asarray(np.abs(excess).sum(axis=-1) / self.size)
        starts = np.flatnonzero(np.diff(self.problem, prepend=-1))
        return np.asarray(np.maximum.reduceat(np.abs(excess) / self.count, starts, axis=-1).mean(axis=-1))

    @property
    def value(self) -> float:
        return float(self.error(self.excess))


def put_in_bins(confidence: Floats, outcome: NDArray[np.bool_], kind: Kind) -> Binned:
    """Confidences and whether they came true, both (cases, problems), with a row of bins for each problem."""
    confidence = confidence.astype(np.float64)
    if kind.by == "width":
        within = bin_of(confidence, kind.bins)
    else:
        within = np.stack([equal_mass(column, kind.bins) for column in confidence.T], axis=1)
    filled, flat = np.unique(within + kind.bins * np.arange(confidence.shape[1]), return_inverse=True)
    return Binned(confidence, outcome, flat.reshape(confidence.shape), filled // kind.bins, kind.worst)


def looked_at(probabilities: Floats, task: Task, kind: Kind) -> NDArray[np.intp]:
    """The class or label whose probability is the confidence: (cases, problems). Raises ValueError where the kind is
    undefined for the task."""
    if why := kind.why_undefined(task):
        raise ValueError(f"{kind.name} is undefined: {why}")
    cases, classes = probabilities.shape
    if kind.what == "top-label" and task == "binary":
        # a tie is class 0, as in `metrics.correct`
        return (probabilities[:, 1:] > 0.5).astype(np.intp)
    if kind.what == "top-label":
        return probabilities.argmax(axis=1)[:, None]
    if kind.what == "positive-class" and task == "binary":
        return np.ones((cases, 1), np.intp)
    return np.broadcast_to(np.arange(classes), (cases, classes))


def binned(probabilities: Floats, labels: Integers, task: Task, kind: Kind) -> Binned:
    """What a kind looks at, in its bins. Raises ValueError where the kind is undefined for the task."""
    labels = check_probabilities(probabilities, labels, task)
    classes = looked_at(probabilities, task, kind)
    outcome = labels == 1 if task == "multilabel" else labels[:, None] == classes
    return put_in_bins(np.take_along_axis(probabilities, classes, axis=1), outcome, kind)


def calibration_error(probabilities: Floats, labels: Integers, task: Task, kind: Kind) -> float:
    """The plain number, 0..1, as a reliability diagram shows it: on few cases it is far too large.

    `top-label-15-width` is `metrics.ece`; for multilabel that is `positive-class-15-width`. Raises ValueError where the
    kind is undefined for the task, and as `metrics.ece`.
    """
    return binned(probabilities, labels, task, kind).value
