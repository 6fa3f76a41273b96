"""The few cases whose labels are known: of every class, and smaller parts within larger ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medtune.data.labelled import labelled_subset

FRACTIONS = (0.01, 0.05, 0.1, 0.5, 1.0)

seeds = st.integers(0, 2**32 - 1)
sizes = st.lists(st.integers(1, 300), min_size=1, max_size=6)
quick = settings(max_examples=60, deadline=None)


def of_classes(counts: list[int], seed: int) -> NDArray[np.int64]:
    """Labels (cases,) with so many of each class, shuffled."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)


@st.composite
def several_labels(draw: st.DrawFn) -> NDArray[np.int64]:
    """Labels (cases, labels), some of them rare, some of one value alone."""
    cases, labels, seed = draw(st.integers(1, 200)), draw(st.integers(1, 6)), draw(seeds)
    generator = np.random.default_rng(seed)
    return (generator.random((cases, labels)) < generator.random(labels) ** 2).astype(np.int64)


def check_nested(labels: NDArray[np.int64], seed: int) -> None:
    parts = [labelled_subset(labels, fraction, seed) for fraction in FRACTIONS]
    for smaller, larger in itertools.pairwise(parts):
        assert set(smaller.tolist()) <= set(larger.tolist())
    for part in parts:
        assert part.dtype == np.int64 and (np.diff(part) > 0).all()  # sorted, and each case once
    np.testing.assert_array_equal(parts[-1], np.arange(len(labels)))


@quick
@given(sizes, seeds)
def test_parts_lie_within_larger_ones_and_everything_is_everything(counts: list[int], seed: int) -> None:
    check_nested(of_classes(counts, seed), seed)


@quick
@given(several_labels(), seeds)
def test_they_do_of_several_labels_too(labels: NDArray[np.int64], seed: int) -> None:
    check_nested(labels, seed)


@quick
@given(sizes, seeds, st.floats(0, 1, exclude_min=True))
def test_every_class_has_its_share_and_a_case_at_least(counts: list[int], seed: int, fraction: float) -> None:
    labels = of_classes(counts, seed)
    chosen = np.bincount(labels[labelled_subset(labels, fraction, seed)], minlength=len(counts))
    for got, count in zip(chosen, counts, strict=True):
        assert got >= 1
        assert abs(got - fraction * count) <= 0.5 + 1e-9 or got == 1


@quick
@given(several_labels(), seeds, st.floats(0, 1, exclude_min=True))
def test_every_value_of_several_labels_has_a_case_at_least(
    labels: NDArray[np.int64], seed: int, fraction: float
) -> None:
    chosen = labelled_subset(labels, fraction, seed)
    for column in labels.T:
        assert set(column[chosen].tolist()) == set(column.tolist())
    added = sum(len(np.unique(column)) for column in labels.T)
    assert abs(len(chosen) - fraction * len(labels)) <= added + 1


def test_combinations_of_labels_are_in_proportion() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((2000, 3)) < [0.5, 0.3, 0.1]).astype(np.int64)
    kinds = labels @ [1, 2, 4]
    whole = np.bincount(kinds, minlength=8)
    for fraction in (0.05, 0.1, 0.3, 0.7):
        for seed in range(5):
            part = np.bincount(kinds[labelled_subset(labels, fraction, seed)], minlength=8)
            # random cases of a kind would lie up to 25 off
            assert np.abs(part - fraction * whole).max() <= 4


def test_no_combination_of_labels_comes_first_by_rule() -> None:
    labels = np.stack([np.arange(100) % 2, np.arange(100) // 2 % 2], axis=1)
    parts = [labels[labelled_subset(labels, 0.01, seed)] for seed in range(30)]
    assert len({tuple(sorted((part @ [1, 2]).tolist())) for part in parts}) > 1


@pytest.mark.parametrize("shape", [(300,), (300, 3)])
def test_the_seed_decides(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 2, shape)
    first = labelled_subset(labels, 0.1, 7)
    np.testing.assert_array_equal(labelled_subset(labels, 0.1, 7), first)
    others = [labelled_subset(labels, 0.1, seed) for seed in range(20)]
    assert len({other.tobytes() for other in others}) == 20
    assert len(np.unique(np.concatenate(others))) > 200  # any case may be one


def test_global_random_state_is_left_alone(global_randomness: object) -> None:
    assert callable(global_randomness)
    before = global_randomness()
    labelled_subset(np.arange(50) % 3, 0.1, 0)
    labelled_subset(np.arange(100).reshape(50, 2) % 2, 0.1, 0)
    assert global_randomness() == before


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_a_fraction_is_above_0_and_at_most_1(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must be above 0 and at most 1"):
        labelled_subset(np.arange(9) % 3, fraction, 0)
