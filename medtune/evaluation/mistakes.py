"""Which cases a model got right and wrong, the most confident first: what galleries and tables are made from."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.metrics import Floats, Integers, check_probabilities, predicted_labels
from medtune.task import Task


@dataclass(frozen=True)
class Decision:
    """One decision: the index of the case, which label it was about (None unless multilabel), the true and the
    predicted class (0 or 1 for multilabel), and the probability that the model gave to what it predicted."""

    case: int
    label: int | None
    true: int
    predicted: int
    probability: float

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Decisions:
    """Many of them as columns, all (decisions,)."""

    case: NDArray[np.intp]
    label: NDArray[np.intp] | None
    true: NDArray[np.intp]
    predicted: NDArray[np.intp]
    probability: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.case)

    def __iter__(self) -> Iterator[Decision]:
        for row in range(len(self)):
            label = None if self.label is None else int(self.label[row])
            true, predicted = int(self.true[row]), int(self.predicted[row])
            yield Decision(int(self.case[row]), label, true, predicted, float(self.probability[row]))

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> "Decisions":
        label = None if self.label is None else self.label[rows]
        return Decisions(self.case[rows], label, self.true[rows], self.predicted[rows], self.probability[rows])

    @property
    def right(self) -> "Decisions":
        return self[self.true == self.predicted]

    @property
    def wrong(self) -> "Decisions":
        return self[self.true != self.predicted]


@dataclass(frozen=True)
class ClassCases:
    """The cases that are truly of a class, the most confident decision first.

    Multilabel: one for each label and whether the case has it (`true`, 1 or 0); else `label` is None.
    """

    label: int | None
    true: int
    right: Decisions
    wrong: Decisions


def decisions(probabilities: Floats, labels: Integers, task: Task) -> Decisions:
    """Every decision, the most confident first; equally confident ones in the order of the cases.

    One a case, or one a case and label for multilabel. Decides as `metrics.correct`. Raises ValueError as `metrics`.
    """
    labels = check_probabilities(probabilities, labels, task)
    predicted = predicted_labels(probabilities, task)
    if task == "multilabel":
        case, label = (indices.ravel() for indices in np.indices(labels.shape))
        confidence = np.where(predicted == 1, probabilities, 1 - probabilities).ravel()
    else:
        case, label = np.arange(len(labels)), None
        confidence = probabilities[case, predicted]
    order = np.argsort(-confidence, kind="stable")
    true = labels.ravel().astype(np.intp)
    return Decisions(case, label, true, predicted.ravel(), confidence.astype(np.float64))[order]


def confident_mistakes(probabilities: Floats, labels: Integers, task: Task, most: int = 20) -> Decisions:
    """The wrong decisions that the model was surest of, at most so many; for multilabel over all labels."""
    return decisions(probabilities, labels, task).wrong[:most]


def cases_per_class(probabilities: Floats, labels: Integers, task: Task, most: int | None = None) -> list[ClassCases]:
    """The right and the wrong cases of each class, at most so many of either; a class without cases has none.

    Multilabel: of each label, those without it and those with it.
    """
    every = decisions(probabilities, labels, task)
    of_classes = []
    for k in range(probabilities.shape[1]):
        for true in (0, 1) if task == "multilabel" else (k,):
            label = None if every.label is None else k
            there = every[(every.true == true) & (True if every.label is None else every.label == k)]
            of_classes.append(ClassCases(label, true, there.right[:most], there.wrong[:most]))
    return of_classes
