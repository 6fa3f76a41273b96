from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtune.config.sweep import Data
from medtune.data import Split, SplitName
from medtune.data.audit import Audit, all_splits, audit
from medtune.data.phantoms import make_phantom
from medtune.data.repeats import Case

BREAST = Path(__file__).parents[3] / "shared" / "data" / "breastmnist.npz"
BINARY = Data(dataset="phantom-binary")
Splits = dict[SplitName, Split]


@pytest.fixture
def splits() -> Splits:
    """Small ones, to be changed as a test likes."""
    made = {"train": 90, "val": 40, "test": 50}
    return {name: make_phantom("binary", name, cases=cases) for name, cases in made.items()}  # type: ignore[arg-type]


def test_a_clean_set_has_nothing_to_say(splits: Splits) -> None:
    found = audit(BINARY, splits)
    assert found.name == "phantom-binary" and found.classes == ["enhancing", "shadowing"] and found.side == 28
    assert {name: (of.cases, of.counts, of.blank) for name, of in found.splits.items()} == {
        "train": (90, [45, 45], 0),
        "val": (40, [20, 20], 0),
        "test": (50, [25, 25], 0),
    }
    assert found.repeats.exact.groups == found.repeats.near.pairs == 0
    assert found.repeats.in_train == {"val": 0, "test": 0}
    assert all(between.shift.p == 1 for between in found.shifts)
    assert found.traps and found.md5


def test_values_and_blank_images(splits: Splits) -> None:
    images = splits["val"].images
    images[3], images[8] = 0, 200
    of = audit(BINARY, splits).splits["val"]
    assert (of.min, of.max, of.blank, of.blank_first) == (0, images.max(), 2, [3, 8])
    assert of.mean == pytest.approx(images.mean()) and of.deviation == pytest.approx(images.std())


def test_eight_planted_twins_across_splits_are_found_and_no_more(splits: Splits) -> None:
    splits["val"].images[:3] = splits["train"].images[10:13]
    splits["test"].images[5:10] = splits["train"].images[20:25]
    found = audit(BINARY, splits).repeats
    assert found.exact.groups == found.exact.across == len(found.exact.first) == 8
    assert found.near.pairs == 0 and found.in_train == {"val": 3, "test": 5}
    places = {tuple((case.split, case.index) for case in group) for group in found.exact.first}
    assert places == {(("train", 10 + n), ("val", n)) for n in range(3)} | {
        (("train", 20 + n), ("test", 5 + n)) for n in range(5)
    }


def test_twins_within_a_split_come_after_and_are_in_no_other(splits: Splits) -> None:
    images, labels = splits["train"].images, splits["train"].labels
    images[1], labels[:2] = images[0], (0, 1)
    splits["test"].images[4] = splits["val"].images[2]
    splits["test"].labels[4] = splits["val"].labels[2]
    found = audit(BINARY, splits).repeats
    assert (found.exact.groups, found.exact.across, found.exact.contradicting) == (2, 1, 1)
    assert found.exact.first[1] == [Case("train", 0, 0), Case("train", 1, 1)]
    assert found.in_train == {"val": 0, "test": 0}


def test_near_twins_across_splits_come_first(splits: Splits) -> None:
    def dark(image: np.ndarray) -> np.ndarray:
        return np.rint(image * 0.92).astype(np.uint8)

    splits["train"].images[1] = splits["train"].images[0]
    splits["train"].images[2] = dark(splits["train"].images[0])
    splits["test"].images[7] = dark(splits["train"].images[30])
    splits["train"].labels[:3] = 0
    splits["test"].labels[7] = 1 - splits["train"].labels[30]
    found = audit(BINARY, splits).repeats
    assert (found.exact.groups, found.near.pairs, found.near.across, found.near.contradicting) == (1, 3, 1, 1)
    assert {(pair.a.split, pair.a.index, pair.b.split, pair.b.index) for pair in found.near.first} == {
        ("train", 30, "test", 7),
        ("train", 0, "train", 2),
        ("train", 1, "train", 2),
    }
    assert found.near.first[0].b == Case("test", 7, int(splits["test"].labels[7]))
    assert found.near.first[0].correlation > 0.99 and found.in_train == {"val": 0, "test": 1}


def test_a_shift_of_prevalence_is_seen(splits: Splits) -> None:
    splits["test"] = replace(splits["test"], labels=np.array([0] * 45 + [1] * 5))
    by_splits = {tuple(between.splits): between.shift for between in audit(BINARY, splits).shifts}
    p, v = by_splits["train", "test"].p, by_splits["train", "test"].v
    assert p is not None and p < 1e-4 and v > 0.35
    assert by_splits["train", "val"].p == 1
    whole = by_splits["train", "val", "test"].p
    assert whole is not None and whole < 1e-3


def test_labels_of_a_multi_label_set_are_tested_one_by_one() -> None:
    data = Data(dataset="phantom-multilabel")
    splits = all_splits(data)
    splits["test"].labels[:, 2] = 1
    found = audit(data, splits)
    assert found.splits["train"].counts == [300, 210, 150] and found.splits["test"].counts[2] == 240
    last = [between for between in found.shifts if between.splits == ["train", "test"]]
    assert [between.label for between in last] == [0, 1, 2]
    assert [between.shift.p is not None and between.shift.p < 0.05 for between in last] == [False, False, True]


@pytest.fixture(scope="module")
def breast() -> Audit:
    if not BREAST.exists():
        pytest.skip("breastmnist.npz is not there")
    data = Data(dataset="breastmnist", root=str(BREAST.parent))
    return audit(data, all_splits(data))


def test_breastmnist(breast: Audit) -> None:
    assert {name: of.counts for name, of in breast.splits.items()} == {
        "train": [147, 399],
        "val": [21, 57],
        "test": [42, 114],
    }
    assert breast.repeats.exact.first == [[Case("train", 115, 0), Case("test", 76, 1)]]
    assert breast.repeats.in_train == pytest.approx({"val": 29, "test": 53}, abs=4)
    assert all(between.shift.p is not None and between.shift.p > 0.9 for between in breast.shifts)
