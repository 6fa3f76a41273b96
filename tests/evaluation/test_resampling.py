"""Resampled AUROC against scikit-learn's with the resample as weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medtune.evaluation.metrics import auroc, probabilities
from medtune.evaluation.resampling import Resamples, problems, resampled, resampled_auroc, strata_of
from medtune.task import TASKS, Task

Draw = Callable[..., tuple[NDArray[Any], NDArray[Any]]]


def some(models: int, cases: int, decimals: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    positive = generator.random(cases) < 0.4
    positive[:2] = [False, True]
    return (generator.normal(size=(models, cases)) + positive).round(decimals), positive


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("cases", [2, 3, 10, 57, 300])
def test_in_the_bag_is_weighted_auroc(cases: int, decimals: int) -> None:
    scores, positive = some(3, cases, decimals, seed=cases)
    resamples = Resamples.draw(positive.astype(int), 6, np.random.default_rng(1))
    expected = [[roc_auc_score(positive, one, sample_weight=row) for one in scores] for row in resamples.counts]
    got = resamples.in_bag_auroc(scores, positive)
    assert got.dtype == np.float32 and got.shape == (6, 3)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("decimals", [0, 8])
def test_out_of_the_bag_is_auroc_of_those_left_out(decimals: int) -> None:
    scores, positive = some(2, 100, decimals)
    resamples = Resamples.draw(positive.astype(int), 5, np.random.default_rng(1))
    expected = [[roc_auc_score(positive[out], one[out]) for one in scores] for out in resamples.out_of_bag]
    np.testing.assert_allclose(resamples.out_of_bag_auroc(scores, positive), expected, atol=1e-6)
    assert np.mean(resamples.out_of_bag) == pytest.approx(np.exp(-1), abs=0.04)


def test_all_scores_equal_is_a_half_exactly() -> None:
    _, positive = some(1, 99, 1)
    assert (resampled_auroc(np.zeros((2, 99)), positive, 20, np.random.default_rng(0)) == 0.5).all()


def test_strata_keep_their_sizes() -> None:
    strata = np.repeat([0, 1, 2], [50, 7, 1])
    counts = Resamples.draw(strata, 1001, np.random.default_rng(0)).counts
    assert counts.dtype == np.uint16 and counts.shape == (1001, 58)
    for stratum in range(3):
        assert (counts[:, strata == stratum].sum(axis=1) == np.sum(strata == stratum)).all()
    # every case as often as any other, with the variance of a multinomial count
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.2)
    assert counts[:, :50].var() == pytest.approx(1 - 1 / 50, abs=0.05)


def test_more_than_a_block_of_resamples_and_of_narrow_integers() -> None:
    # more negatives below a positive than 16 bits can count
    positive = np.arange(70_000) % 5000 == 1
    scores = np.random.default_rng(0).normal(size=(1, 70_000)) + 3 * positive
    counts = np.zeros((501, 70_000), np.uint16)
    counts[:, :3] = 1
    counts[[0, 500]] = Resamples.draw(positive.astype(int), 2, np.random.default_rng(0)).counts
    got = Resamples(counts).in_bag_auroc(scores, positive)
    for row in (0, 1, 500):
        assert got[row, 0] == pytest.approx(roc_auc_score(positive, scores[0], sample_weight=counts[row]), abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_a_mean_over_classes_is_the_metric(draw: Draw, task: Task) -> None:
    models, labels = [], draw(task, 150, 0)[1]
    for seed in range(3):
        models.append(probabilities(draw(task, 150, seed, decimals=1)[0], task))
    strata = strata_of(labels, models[0].shape[1], task)
    resamples = Resamples.draw(strata, 8, np.random.default_rng(0))
    scores, positive = problems(models, labels, task)
    for got, kept in (
        (resamples.in_bag_auroc(scores, positive), [np.repeat(np.arange(150), row) for row in resamples.counts]),
        (resamples.out_of_bag_auroc(scores, positive), [np.flatnonzero(row == 0) for row in resamples.counts]),
    ):
        expected = [[auroc(model[cases], labels[cases], task) for model in models] for cases in kept]
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_labels_are_resampled_by_the_rarest() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1], [1, 1, 0]])
    assert strata_of(labels, 3, "multilabel").tolist() == [1, 0, 2, 3, 2, 1]


def test_a_side_that_is_missing_is_nan() -> None:
    scores, _ = some(2, 20, 2)
    lone = np.arange(20) == 3
    resamples = Resamples.draw(lone.astype(int), 4, np.random.default_rng(0))
    assert not np.isnan(resamples.in_bag_auroc(scores, lone)).any()
    assert np.isnan(resamples.out_of_bag_auroc(scores, lone)).all()
    assert np.isnan(resampled_auroc(scores, np.ones(20, bool), 3, np.random.default_rng(0))).all()


def test_threads_and_the_order_of_models_change_nothing() -> None:
    scores, positive = some(5, 60, 1)
    resamples = Resamples.draw(positive.astype(int), 30, np.random.default_rng(0))
    one = resamples.in_bag_auroc(scores, positive, threads=1)
    np.testing.assert_array_equal(one, resamples.in_bag_auroc(scores, positive, threads=4))
    np.testing.assert_array_equal(one[:, ::-1], resamples.in_bag_auroc(scores[::-1], positive))


def test_what_does_not_fit_is_refused() -> None:
    scores, positive = some(2, 20, 2)
    resamples = Resamples.draw(positive.astype(int), 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="as many cases"):
        resamples.in_bag_auroc(scores[:, :10], positive[:10])
    with pytest.raises(ValueError, match="NaN"):
        resamples.in_bag_auroc(np.full_like(scores, np.nan), positive)


def test_resamples_have_as_many_cases_and_stop_at_the_wanted_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtune.evaluation.resampling._AT_ONCE", 40)
    counts = np.concatenate(list(resampled(10, 9, np.random.default_rng(0))))
    assert counts.shape == (9, 10) and (counts.sum(axis=1) == 10).all()
