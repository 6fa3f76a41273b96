import numpy as np
import pytest

from medtune.data.prevalence import holm, prevalence_shift


def shift(*counts: list[int]) -> tuple[str, float | None, float]:
    found = prevalence_shift(np.array(counts), np.random.default_rng(0))
    return found.test, found.p, found.v


def test_chi_square_and_cramers_v_by_hand() -> None:
    test, p, v = shift([30, 70], [50, 50])  # chi-square 2 * (100 / 40 + 100 / 60) = 25 / 3
    assert test == "chi-square" and v == pytest.approx((25 / 3 / 200) ** 0.5) and p == pytest.approx(0.003892, rel=1e-3)


def test_equal_shares_are_no_shift() -> None:
    assert shift([10, 20], [20, 40], [30, 60]) == ("chi-square", 1.0, 0.0)


def test_few_cases_get_fishers_test() -> None:
    test, p, v = shift([3, 1], [1, 3])  # Fisher's tea: 34 of 70 tables are as extreme
    assert test == "Fisher's exact test" and p == pytest.approx(34 / 70) and v == pytest.approx(0.5)


def test_and_in_larger_tables_drawn_ones() -> None:
    test, p, _ = shift([8, 1, 0], [0, 1, 8])
    assert test.startswith("Freeman and Halton") and p is not None and p < 0.001
    _, p, _ = shift([3, 1, 2], [3, 1, 2])
    assert p == 1.0
    assert shift([4, 1, 2], [3, 3, 2]) == shift([4, 1, 2], [3, 3, 2])


def test_a_class_that_nobody_has_is_no_class() -> None:
    assert shift([30, 0, 70], [50, 0, 50]) == shift([30, 70], [50, 50])
    assert shift([30, 0], [50, 0])[1:] == (None, 0.0)


def test_holm() -> None:
    assert holm([0.01, 0.04, None, 0.03, 0.9]) == [0.04, 0.09, None, 0.09, 0.9]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
