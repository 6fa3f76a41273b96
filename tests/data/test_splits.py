import hashlib
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from medtune.config.sweep import Data
from medtune.data import DataError, splits
from medtune.data.dataset import DatasetInfo
from medtune.data.splits import (
    data_md5,
    load_sealed_test,
    load_search_splits,
    read_search_splits,
    stratified_subset,
)

BREAST = Path(__file__).parents[3] / "shared" / "data" / "breastmnist.npz"
needs_breast = pytest.mark.skipif(not BREAST.exists(), reason=f"{BREAST} is not there")

Members = dict[str, np.ndarray]


@pytest.fixture
def info() -> DatasetInfo:
    return DatasetInfo(
        flag="tinymnist",
        title="TinyMNIST",
        task="binary",
        classes=("no", "yes"),
        channels=1,
        cases={"train": 12, "val": 6, "test": 8},
        licence="none",
    )


@pytest.fixture
def members(info: DatasetInfo) -> Members:
    rng = np.random.default_rng(0)
    made: Members = {}
    for split, cases in info.cases.items():
        made[f"{split}_images"] = rng.integers(0, 256, (cases, 28, 28), dtype=np.uint8)
        made[f"{split}_labels"] = (np.arange(cases) % 2).astype(np.uint8)[:, None]
    return made


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tmp_path / "tinymnist.npz"


@pytest.fixture
def published(info: DatasetInfo, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """The tiny set in the place of a published one, as if its file had the right hash."""
    monkeypatch.setattr(splits, "describe", lambda data: info)
    monkeypatch.setattr(splits, "fetch", lambda data: tiny)
    return Data()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of all members that numpy turns into arrays."""
    names: list[str] = []
    real = np.lib.format.read_array

    def spy(stream: IO[bytes], **options: Any) -> np.ndarray:
        names.append(stream.name)
        return real(stream, **options)

    monkeypatch.setattr(np.lib.format, "read_array", spy)
    return names


def test_the_seal(published: Data, tiny: Path, members: Members, decoded: list[str]) -> None:
    clean = {**members}
    members["test_labels"][:] = 77  # no such class: whoever looks at the values must notice
    members["test_images"][:] = 255
    np.savez_compressed(tiny, **members)

    train, val = load_search_splits(published)
    assert decoded == ["train_images.npy", "train_labels.npy", "val_images.npy", "val_labels.npy"]
    np.testing.assert_array_equal(train.images, clean["train_images"])
    np.testing.assert_array_equal(val.labels, clean["val_labels"][:, 0])

    with pytest.raises(DataError, match="test_labels holds 77 to 77, tinymnist has 0 to 1"):
        load_sealed_test(published)
    assert decoded[-1] == "test_labels.npy"


def test_a_phantom_sweep_never_makes_test(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = splits.make_phantom
    monkeypatch.setattr(
        splits, "make_phantom", lambda task, split, *rest: made.append(split) or real(task, split, *rest)
    )
    data = Data(dataset="phantom-multilabel")
    train, val = load_search_splits(data)
    assert made == ["train", "val"] and (len(train), len(val)) == (600, 120)
    assert len(load_sealed_test(data)) == 240


@pytest.mark.parametrize("side", [14, 64])
def test_resize(side: int) -> None:
    plain, wanted = Data(dataset="phantom-binary"), Data(dataset="phantom-binary", resize=side)
    splits_of = [(*load_search_splits(data), load_sealed_test(data)) for data in (plain, wanted)]
    for before, after in zip(*splits_of, strict=True):
        assert after.images.shape == (len(before), side, side) and after.images.dtype == np.uint8
        assert abs(after.images.mean() - before.images.mean()) < 1
        np.testing.assert_array_equal(after.labels, before.labels)
    assert data_md5(wanted) == data_md5(plain)


def test_resize_of_a_file(published: Data, tiny: Path, members: Members) -> None:
    np.savez(tiny, **members)
    wanted = published.model_copy(update={"resize": 32})
    assert [len(split.images[0]) for split in (*load_search_splits(wanted), load_sealed_test(wanted))] == [32] * 3


def test_loading_does_not_import_torch() -> None:
    code = (
        "import sys; from medtune.config.sweep import Data; from medtune.data.splits import load_search_splits as load;"
        "load(Data(dataset='phantom-binary', resize=32)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_breast
def test_real_breastmnist() -> None:
    data = Data(root=str(BREAST.parent))
    train, val = load_search_splits(data)
    test = load_sealed_test(data)
    assert [split.images.shape for split in (train, val, test)] == [(546, 28, 28), (78, 28, 28), (156, 28, 28)]
    for split in (train, val, test):
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        assert split.labels.shape == (len(split),) and set(split.labels) == {0, 1}
    assert test.labels.mean() == pytest.approx(0.731, abs=0.001)
    assert data_md5(data) == hashlib.md5(BREAST.read_bytes()).hexdigest() == "750601b1f35ba3300ea97c75c52ff8f6"


def test_multilabel_and_colour(info: DatasetInfo, tiny: Path, members: Members) -> None:
    two = DatasetInfo(**{**vars(info), "task": "multilabel", "channels": 3})
    for name, array in members.items():
        repeat = [array] * 3 if name.endswith("images") else [array, 1 - array]
        members[name] = np.stack(repeat, axis=-1).reshape(*array.shape[: 3 if "images" in name else 1], -1)
    np.savez(tiny, **members)
    train, _ = read_search_splits(tiny, two, 28)
    assert train.images.shape == (12, 28, 28, 3) and train.labels.shape == (12, 2)
    members["train_labels"][0, 0] = 2
    np.savez(tiny, **members)
    with pytest.raises(DataError, match="train_labels holds 0 to 2"):
        read_search_splits(tiny, two, 28)


WRONG = {
    "fewer cases": ("train_images", lambda a: a[1:], r"train_images is uint8 \(11, 28, 28\)"),
    "another size": ("val_images", lambda a: a[:, :14, :14], r"has uint8 \(6, 28, 28\)"),
    "floats": ("train_images", lambda a: a / 255, "train_images is float64"),
    "float labels": ("val_labels", lambda a: a.astype(float), "val_labels is float64"),
    "objects": ("train_labels", lambda a: a.astype(object), "train_labels is object"),
    "labels beyond": ("val_labels", lambda a: a + 1, "val_labels holds 1 to 2"),
    "negative labels": ("train_labels", lambda a: a.astype(np.int8) - 1, "train_labels holds -1 to 0"),
    "test of another size": ("test_images", lambda a: a[:, :14], r"test_images is uint8 \(8, 14, 28\)"),
    "test labels as floats": ("test_labels", lambda a: a.astype(float), "test_labels is float64"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_members_are_named(name: str, info: DatasetInfo, tiny: Path, members: Members) -> None:
    member, spoil, message = WRONG[name]
    members[member] = spoil(members[member])
    np.savez(tiny, **members)
    with pytest.raises(DataError, match=message) as caught:
        read_search_splits(tiny, info, 28)
    assert str(caught.value).startswith(f"{tiny}: ") and "\n" not in str(caught.value)


def test_missing_member(info: DatasetInfo, tiny: Path, members: Members) -> None:
    del members["val_labels"]
    np.savez(tiny, **members)
    with pytest.raises(DataError, match="has no val_labels"):
        read_search_splits(tiny, info, 28)


@pytest.mark.parametrize("member", ["train_images", "test_images"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_noticed(save: Any, member: str, info: DatasetInfo, tiny: Path, members: Members) -> None:
    save(tiny, **members)
    content = bytearray(tiny.read_bytes())
    at = content.index(f"{member}.npy".encode()) + 1000
    content[at] ^= 0xFF
    tiny.write_bytes(content)
    with pytest.raises(DataError, match=f"{member} is damaged"):
        read_search_splits(tiny, info, 28)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_no_npz(content: bytes, info: DatasetInfo, tiny: Path) -> None:
    tiny.write_bytes(content)
    with pytest.raises(DataError, match="cannot be opened"):
        read_search_splits(tiny, info, 28)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.2, 0.5, 0.77, 1.0])
def test_subset_of_classes(fraction: float) -> None:
    labels = np.repeat([0, 1, 2, 3], [600, 300, 90, 2])
    np.random.default_rng(1).shuffle(labels)
    subset = stratified_subset(labels, fraction, seed=3)
    assert subset.dtype == np.int64 and (np.diff(subset) > 0).all()
    counts, all_counts = np.bincount(labels[subset], minlength=4), np.bincount(labels)
    assert (counts >= 1).all() and (np.abs(counts - fraction * all_counts) <= 1).all()
    np.testing.assert_array_equal(subset, stratified_subset(labels, fraction, seed=3))


def test_subset_depends_on_the_seed_only() -> None:
    labels = np.arange(200) % 2
    np.random.seed(0)
    one = stratified_subset(labels, 0.3, seed=0)
    np.random.seed(1)
    np.testing.assert_array_equal(one, stratified_subset(labels, 0.3, seed=0))
    assert not np.array_equal(one, stratified_subset(labels, 0.3, seed=1))
    assert len(one) == 60


def test_subset_is_a_fair_draw() -> None:
    labels = np.arange(40) % 4
    taken = np.concatenate([stratified_subset(labels, 0.2, seed) for seed in range(500)])
    assert np.bincount(taken, minlength=40).min() > 60  # 100 expected


def test_subset_of_several_labels() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((5000, 14)) < np.geomspace(0.2, 0.002, 14)).astype(np.int64)
    subset = stratified_subset(labels, 0.1, seed=0)
    assert 500 <= len(subset) <= 514
    have, want = labels[subset].sum(axis=0), 0.1 * labels.sum(axis=0)
    assert (have >= 1).all()
    assert (np.abs(have - want) <= np.maximum(2, 0.2 * want)).all()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        stratified_subset(np.zeros(4, np.int64), fraction, seed=0)
