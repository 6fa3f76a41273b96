import numpy as np
import pytest

from medtune.data.folds import stratified_folds


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_case_is_in_one_fold_and_every_class_in_proportion(folds: int) -> None:
    labels = np.random.default_rng(0).choice(4, 203, p=[0.6, 0.3, 0.08, 0.02])
    found = stratified_folds(labels, folds)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(203))
    sizes = [len(fold) for fold in found]
    assert max(sizes) - min(sizes) <= 1
    counts = np.array([np.bincount(labels[fold], minlength=4) for fold in found])
    assert (np.abs(counts - np.bincount(labels) / folds) < 1).all()
    assert all((np.diff(fold) > 0).all() for fold in found)


def test_the_folds_depend_on_the_seed_only() -> None:
    labels = np.arange(60) % 3
    one = stratified_folds(labels, 4)
    np.random.seed(1)
    assert all(np.array_equal(*pair) for pair in zip(one, stratified_folds(labels, 4, seed=0), strict=True))
    assert not np.array_equal(one[0], stratified_folds(labels, 4, seed=1)[0])
    assert set(np.diff(one[0])) != {4}  # drawn, not every fourth of the file


def test_several_labels() -> None:
    labels = (np.random.default_rng(0).random((1000, 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]).astype(np.int64)
    for fold in stratified_folds(labels, 5):
        assert (np.abs(labels[fold].sum(axis=0) - labels.sum(axis=0) / 5) <= 4).all()
        assert labels[fold].sum(axis=0).min() >= 1


def test_a_class_with_fewer_cases_than_folds_is_missing_from_some() -> None:
    labels = np.array([0] * 20 + [1] * 2)
    assert sorted(labels[fold].sum() for fold in stratified_folds(labels, 5)) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("folds", [0, 1, 11])
def test_what_cannot_be(folds: int) -> None:
    with pytest.raises(ValueError, match="10 cases cannot be"):
        stratified_folds(np.zeros(10, np.int64), folds)
