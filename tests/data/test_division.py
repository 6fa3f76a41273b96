from collections import Counter

import numpy as np
import pytest

from medtune.data import DataError
from medtune.data.division import divide

PARTS = {"train": 0.7, "val": 0.15, "test": 0.15}


def distinct(count: int) -> list[bytes]:
    return [index.to_bytes(4, "big") for index in range(count)]


def by_class(labels: list[str], parts: list[str]) -> dict[str, Counter[str]]:
    return {
        label: Counter(part for other, part in zip(labels, parts, strict=True) if other == label) for label in labels
    }


def test_every_class_is_divided_in_proportion() -> None:
    labels = ["a"] * 100 + ["b"] * 40 + ["c"] * 3
    parts = divide(labels, distinct(143), PARTS)
    assert by_class(labels, parts) == {
        "a": {"train": 70, "val": 15, "test": 15},
        "b": {"train": 28, "val": 6, "test": 6},
        "c": {"train": 1, "val": 1, "test": 1},
    }


@pytest.mark.parametrize("parts", [{"train": 7, "val": 1.5, "test": 1.5}, {"train": 0.1, "val": 9, "test": 9}])
def test_proportions_need_not_sum_to_1(parts: dict[str, float]) -> None:
    for cases in range(3, 30):
        found = Counter(divide(["a"] * cases, distinct(cases), parts))
        for part, share in parts.items():
            assert found[part] >= 1 and abs(found[part] - cases * share / sum(parts.values())) <= 1.5


def test_two_parts() -> None:
    found = Counter(divide(["a"] * 17, distinct(17), {"train": 0.7, "val": 0.15}))
    assert found == {"train": 14, "val": 3}


def test_the_division_is_the_same_each_time_and_mixed() -> None:
    parts = divide(["a"] * 100, distinct(100), PARTS)
    np.random.seed(1)
    assert divide(["a"] * 100, distinct(100), PARTS) == parts
    assert 0 < Counter(parts[:50])["val"] < 15 and 0 < Counter(parts[:50])["test"] < 15


def test_twins_stay_together_and_the_shares_are_held() -> None:
    twins = [number // 4 for number in range(40)] + list(range(100, 160))  # ten quadruples
    parts = divide(["a"] * 100, [twin.to_bytes(4, "big") for twin in twins], PARTS)
    assert all(len({parts[4 * group + of] for of in range(4)}) == 1 for group in range(10))
    assert Counter(parts) == {"train": 70, "val": 15, "test": 15}


@pytest.mark.parametrize("before", range(13))
def test_a_large_group_of_twins_leaves_the_shares_as_they_are(before: int) -> None:
    singles = distinct(12)
    parts = divide(["a"] * 20, [*singles[:before], *[b"twin"] * 8, *singles[before:]], PARTS)
    assert Counter(parts) == {"train": 14, "val": 3, "test": 3}


@pytest.mark.parametrize("rare", range(3, 8))
def test_twins_of_two_classes_stay_together(rare: int) -> None:
    for first in range(19):
        labels = ["a"] * 20 + ["b"] * rare
        twins = [*distinct(20), *distinct(20)[first : first + 2], *(bytes([200, one]) for one in range(rare - 2))]
        parts = divide(labels, twins, PARTS)
        assert parts[first : first + 2] == parts[20:22]
        assert all(len(found) == 3 for found in by_class(labels, parts).values())


@pytest.mark.parametrize("twins", [[b"1", b"2"], [b"1", b"1", b"2"], [b"1"] * 9])
def test_a_class_too_small_is_named(twins: list[bytes]) -> None:
    labels = ["a"] * 5 + ["rash"] * len(twins)
    few = len(set(twins))
    with pytest.raises(DataError, match=f"the class rash has {few} different pictures, and each of train, val, test"):
        divide(labels, [*distinct(5), *twins], PARTS)


def test_large_twins_leave_no_part_empty() -> None:
    twins = [b"1"] * 5 + [b"2"] * 5 + [b"3"]
    assert set(divide(["a"] * 11, twins, PARTS)) == set(PARTS)
