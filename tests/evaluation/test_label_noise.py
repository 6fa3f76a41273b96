"""Confident learning against cleanlab."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from medtune.evaluation.label_noise import RankBy, confident_class, confident_joint, label_issues
from medtune.evaluation.metrics import probabilities
from medtune.task import Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]


def noisy(draw: Draw, task: Task, cases: int, seed: int, decimals: int = 6) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities, and labels of which a tenth is drawn anew; every class is there."""
    logits, labels = draw(task, cases, seed, scale=3.0, decimals=decimals)
    generator = np.random.default_rng([seed, 1])
    anew = generator.random(labels.shape) < 0.1
    anew[:10] = False
    return probabilities(logits, task), np.where(anew, generator.integers(labels.max() + 1, size=labels.shape), labels)


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal"])
@pytest.mark.parametrize("rank_by", ["normalized_margin", "self_confidence"])
@pytest.mark.parametrize("decimals", [0, 6])
def test_issues_are_cleanlabs(draw: Draw, task: Task, rank_by: RankBy, decimals: int) -> None:
    found = 0
    for seed in range(6):
        predicted, labels = noisy(draw, task, 200, seed, decimals)
        options: dict[str, Any] = {"filter_by": "confident_learning", "n_jobs": 1}
        expected = find_label_issues(labels, predicted, return_indices_ranked_by=rank_by, **options)
        got = label_issues(predicted, labels, task, rank_by)
        assert sorted(got.case) == sorted(expected)
        score = dict(zip(got.case, got.score, strict=True))
        # equal scores may stand in any order
        np.testing.assert_allclose([score[case] for case in expected], got.score, atol=1e-12)
        np.testing.assert_array_equal(got.given, labels[got.case])
        found += len(got)
    assert found > 20


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_joint_is_cleanlabs(draw: Draw, task: Task) -> None:
    for seed in range(4):
        predicted, labels = noisy(draw, task, 300, seed)
        expected = compute_confident_joint(labels, predicted, calibrate=False)
        got = confident_joint(predicted, labels)
        # cleanlab puts at least one on the diagonal
        np.testing.assert_array_equal(np.maximum(got, np.eye(len(got), dtype=int)), expected)
        suspects = label_issues(predicted, labels, task)
        np.testing.assert_array_equal(suspects.suggested, confident_class(predicted, labels)[suspects.case])


def test_a_label_is_a_binary_problem(draw: Draw) -> None:
    predicted, labels = noisy(draw, "multilabel", 300, 0)
    got = label_issues(predicted, labels, "multilabel")
    assert got.label is not None and (np.diff(got.score) >= 0).all() and len(set(got.label)) > 1
    for k in range(labels.shape[1]):
        alone = np.stack([1 - predicted[:, k], predicted[:, k]], axis=1)
        expected = find_label_issues(labels[:, k], alone, filter_by="confident_learning", n_jobs=1)
        np.testing.assert_array_equal(np.sort(got.case[got.label == k]), np.flatnonzero(expected))


def test_a_flipped_label_comes_first() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=60)
    predicted = generator.dirichlet([0.3] * 3, size=60) * 0.2 + 0.8 * np.eye(3)[labels]
    predicted[7] = 0.98 * np.eye(3)[labels[7]] + 0.02 / 3
    labels[7] = (labels[7] + 1) % 3
    first = next(iter(label_issues(predicted, labels, "multiclass")))
    assert first.case == 7 and first.given == labels[7] and first.suggested == predicted[7].argmax()
    assert first.as_json() == {"case": 7, "given": first.given, "suggested": first.suggested, "score": first.score}


def test_a_class_without_cases_is_nobodys(draw: Draw) -> None:
    predicted, labels = noisy(draw, "multiclass", 200, 1)
    labels[labels == 4] = 0
    got = label_issues(predicted, labels, "multiclass")
    assert len(got) and 4 not in got.suggested
    expected = find_label_issues(labels, predicted, filter_by="confident_learning", n_jobs=1)
    np.testing.assert_array_equal(np.sort(got.case), np.flatnonzero(expected))


@pytest.mark.parametrize("predicted", [[[0.5, 0.5]], [[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]] * 4, [[0.0, 1.0]] * 4])
def test_edges_find_nothing_or_something_without_a_crash(predicted: list[list[float]]) -> None:
    labels = np.arange(len(predicted)) % 2
    got = label_issues(np.array(predicted), labels, "binary")
    assert np.isfinite(got.score).all() and all(labels[row.case] == row.given for row in got)
    assert len(label_issues(np.array(predicted), np.eye(2, dtype=int)[labels], "multilabel")) >= 0
