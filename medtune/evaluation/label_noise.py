"""Labels that may be wrong, by confident learning's plain rule (Northcutt et al. 2021).

The probabilities must be of cases that the model was not trained on: on its own training set a model that fits well
agrees with every label, wrong ones too. What is found is for a person to look at, not to be dropped unseen.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.metrics import Floats, Integers, check_probabilities
from medtune.task import Task

RankBy = Literal["normalized_margin", "self_confidence"]

# a probability that equals a threshold or another one but for rounding counts as equal; cleanlab's figure
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Suspect:
    """One label that may be wrong: the index of the case, which label of it (None unless multilabel), what it is given
    as, what it may truly be, and a score in 0..1, low where the label is unlikely."""

    case: int
    label: int | None
    given: int
    suggested: int
    score: float

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Suspects:
    """Many of them as columns, all (suspects,), the most suspicious first."""

    case: NDArray[np.intp]
    label: NDArray[np.intp] | None
    given: NDArray[np.intp]
    suggested: NDArray[np.intp]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.case)

    def __iter__(self) -> Iterator[Suspect]:
        for row in range(len(self)):
            label = None if self.label is None else int(self.label[row])
            given, suggested = int(self.given[row]), int(self.suggested[row])
            yield Suspect(int(self.case[row]), label, given, suggested, float(self.score[row]))


def confident_class(probabilities: Floats, labels: Integers) -> NDArray[np.intp]:
    """The class that each case confidently has, or -1: (cases,), from probabilities (cases, classes), labels (cases,).

    A case confidently has a class whose probability reaches the mean that the cases labelled so give it; of several the
    likeliest (Northcutt et al. 2021, eqs. 1 and 2). No case confidently has a class that no case is labelled as.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    given = probabilities[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=given, minlength=len(counts))
    thresholds = np.divide(sums, counts, out=np.full(len(counts), np.inf), where=counts > 0)
    # a class that even its own cases give no probability would else be every case's
    reached = probabilities >= np.maximum(thresholds, 2 * _ROUNDING) - _ROUNDING
    several = np.where(reached.sum(axis=1) > 1, probabilities.argmax(axis=1), reached.argmax(axis=1))
    return np.where(reached.any(axis=1), several, -1)


def confident_joint(probabilities: Floats, labels: Integers) -> NDArray[np.intp]:
    """How many cases labelled i (rows) confidently have class j (columns): (classes, classes), not calibrated.

    Single-label tasks; of a label of multilabel give two columns and the label's 0 and 1.
    """
    has, classes = confident_class(probabilities, labels), probabilities.shape[1]
    pairs = labels[has >= 0] * classes + has[has >= 0]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def label_issues(
    probabilities: Floats, labels: Integers, task: Task, rank_by: RankBy = "normalized_margin"
) -> Suspects:
    """The labels off the diagonal of the confident joint, unless the given label is the likeliest anyway.

    score: the probability of the given label (`self_confidence`), or that less the largest of the others, brought to
    0..1 (`normalized_margin`). Multilabel: each label as a binary problem, ranked together. A class without cases is
    skipped. As cleanlab's `find_label_issues(filter_by="confident_learning")`. Raises ValueError as `metrics`.
    """
    labels = check_probabilities(probabilities, labels, task)
    if task != "multilabel":
        return _ranked(_suspects(probabilities, labels.astype(np.intp), rank_by))
    found = []
    for k, positive in enumerate(probabilities.T):
        one = _suspects(np.stack([1 - positive, positive], axis=1), labels[:, k].astype(np.intp), rank_by)
        found.append(Suspects(one.case, np.full(len(one), k), one.given, one.suggested, one.score))
    names = ("case", "label", "given", "suggested", "score")
    return _ranked(Suspects(*(np.concatenate([getattr(one, name) for one in found]) for name in names)))


def _ranked(suspects: Suspects) -> Suspects:
    order = np.argsort(suspects.score, kind="stable")
    label = None if suspects.label is None else suspects.label[order]
    case, given, suggested = suspects.case[order], suspects.given[order], suspects.suggested[order]
    return Suspects(case, label, given, suggested, suspects.score[order])


def _suspects(probabilities: Floats, labels: Integers, rank_by: RankBy) -> Suspects:
    case, has = np.arange(len(labels)), confident_class(probabilities, labels)
    of_given = probabilities[case, labels].astype(np.float64)
    others = np.array(probabilities, np.float64)
    others[case, labels] = -np.inf
    of_others = others.max(axis=1)
    found = (has >= 0) & (has != labels) & (of_given + _ROUNDING < of_others)
    score = of_given if rank_by == "self_confidence" else (of_given - of_others + 1) / 2
    return Suspects(case[found], None, labels[found].astype(np.intp), has[found], score[found])
