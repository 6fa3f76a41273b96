"""Right and wrong cases against what the metrics count."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medtune.evaluation.discrimination import predicted_labels
from medtune.evaluation.metrics import accuracy, correct, probabilities
from medtune.evaluation.mistakes import Decision, cases_per_class, confident_mistakes, decisions
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]

every_task = pytest.mark.parametrize("task", TASKS)


@every_task
def test_decisions_are_those_of_the_metrics(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 80, 0, decimals=0)
    predicted = probabilities(logits, task)
    np.testing.assert_array_equal(predicted_labels(predicted, task) == labels, correct(predicted, labels, task))
    every = decisions(predicted, labels, task)
    assert len(every.right) / len(every) == pytest.approx(accuracy(predicted, labels, task))
    assert len(every) == labels.size and (np.diff(every.probability) <= 0).all()
    assert every.probability.min() >= (0.5 if task in ("binary", "multilabel") else 1 / predicted.shape[1])


def test_the_most_confident_mistakes_by_hand() -> None:
    predicted = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.05, 0.95], [0.1, 0.9]])
    found = confident_mistakes(predicted, np.array([[1], [1], [1], [1], [0]]), "binary", most=2)
    # as sure of the one as of the other: the first case first
    assert list(found) == [Decision(0, None, 1, 0, 0.9), Decision(4, None, 0, 1, 0.9)]
    assert next(iter(found)).as_json() == {"case": 0, "true": 1, "predicted": 0, "probability": 0.9}


def test_of_labels_each_is_a_decision() -> None:
    predicted = np.array([[0.9, 0.3], [0.2, 0.6]])
    found = confident_mistakes(predicted, np.array([[0, 1], [0, 1]]), "multilabel")
    assert list(found) == [Decision(0, 0, 0, 1, 0.9), Decision(0, 1, 1, 0, 0.7)]


@every_task
def test_each_case_is_right_or_wrong_in_one_class(draw: Draw, task: Task) -> None:
    logits, labels = draw(task, 80, 1, decimals=1)
    predicted = probabilities(logits, task)
    seen = []
    for one in cases_per_class(predicted, labels, task):
        for side, right in ((one.right, True), (one.wrong, False)):
            assert (np.diff(side.probability) <= 0).all() and len(set(side.case)) == len(side)
            for row in side:
                truth = labels[row.case] if one.label is None else labels[row.case, one.label]
                assert row.true == one.true == truth and (row.predicted == truth) == right and row.label == one.label
                seen.append((row.case, row.label))
    assert len(seen) == len(set(seen)) == labels.size


def test_a_class_without_cases_has_none(draw: Draw) -> None:
    logits, labels = draw("multiclass", 50, 2)
    labels[labels == 3] = 0
    of_classes = cases_per_class(probabilities(logits, "multiclass"), labels, "multiclass", most=2)
    assert [one.true for one in of_classes] == list(range(7))
    assert len(of_classes[3].right) == len(of_classes[3].wrong) == 0 and len(of_classes[0].right) == 2


def test_one_case() -> None:
    predicted, labels = np.array([[1.0, 0.0]]), np.array([0])
    assert len(confident_mistakes(predicted, labels, "binary")) == 0
    assert [len(one.right) for one in cases_per_class(predicted, labels, "binary")] == [1, 0]
