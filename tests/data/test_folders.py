import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtune.config.sweep import Data
from medtune.data import SPLITS, DataError, reading
from medtune.data.catalogue import describe
from medtune.data.download import file_md5
from medtune.data.fetch import fetch
from medtune.data.folders import cached_file, doubts, export, import_folder, reading_of, readings_of
from medtune.data.listing import list_folder
from medtune.data.reading import read_listing
from medtune.data.splits import data_md5, load_sealed_test, load_search_splits

pytestmark = pytest.mark.usefixtures("cache")
Make = Callable[..., Path]
CLASSES = {"a": 10, "b": 20, "rash": 4}


def data(folder: Path, **options: Any) -> Data:
    return Data.model_validate({"folder": str(folder), "size": 8, **options})


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of all pictures that are opened."""
    names: list[str] = []
    real = reading.read_picture
    monkeypatch.setattr(reading, "read_picture", lambda path, size: names.append(path.name) or real(path, size))
    return names


def members(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


class TestTheFile:
    def test_is_one_of_medmnist(self, make_pictures: Make, cache: Path) -> None:
        folder = make_pictures(CLASSES, shape=(10, 20))
        path = fetch(data(folder))
        assert path.parent == cache / "folders"
        found = members(path)
        assert list(found) == [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
        for split, cases in (("train", 22), ("val", 6), ("test", 6)):
            images, labels = found[f"{split}_images"], found[f"{split}_labels"]
            assert images.shape == (cases, 8, 8) and images.dtype == np.uint8
            assert labels.shape == (cases, 1) and set(labels[:, 0]) == {0, 1, 2}
        smaller = Image.open(folder / "rash" / "0.png").resize((16, 8), Image.Resampling.BILINEAR)
        middle = np.asarray(smaller)[:, 4:12]
        assert any((middle == image).all() for split in SPLITS for image in found[f"{split}_images"])

    def test_is_the_same_for_the_same_pictures(self, make_pictures: Make, tmp_path: Path) -> None:
        folder = make_pictures(CLASSES)
        shutil.copytree(folder, tmp_path / "again" / "pictures")
        for path in (tmp_path / "again").rglob("*.png"):
            os.utime(path, ns=(0, 0))
        one, again = data(folder), data(tmp_path / "again" / "pictures")
        assert fetch(one) != fetch(again)
        assert data_md5(one) == data_md5(again) == file_md5(fetch(one))
        assert data_md5(one) != data_md5(data(make_pictures(CLASSES, "others")))

    def test_one_coloured_picture_makes_all_coloured(self, make_pictures: Make) -> None:
        folder = make_pictures(CLASSES)
        Image.fromarray(np.full((8, 8, 3), (255, 0, 0), np.uint8)).save(folder / "a" / "red.png")
        found = members(fetch(data(folder)))
        images = np.concatenate([found[f"{split}_images"] for split in SPLITS])
        assert images.shape == (35, 8, 8, 3) and describe(data(folder)).channels == 3
        grey = (images == images[..., :1]).all(axis=(1, 2, 3))
        assert grey.sum() == 34 and images[~grey].max(axis=(0, 1, 2)).tolist() == [255, 0, 0]

    def test_can_be_had_elsewhere(self, make_pictures: Make, tmp_path: Path) -> None:
        path = fetch(data(make_pictures(CLASSES)))
        export(path, tmp_path / "out.npz")
        assert (tmp_path / "out.npz").read_bytes() == path.read_bytes()
        with pytest.raises(DataError, match=r"none/out\.npz: cannot be written"):
            export(path, tmp_path / "none" / "out.npz")
        assert not list(tmp_path.glob(".*"))


class TestTheCache:
    def test_nothing_is_read_twice(self, make_pictures: Make, read_files: list[str], cache: Path) -> None:
        wanted = data(make_pictures(CLASSES))
        told: list[tuple[int, int]] = []
        fetch(wanted, report=lambda done, total: told.append((done, total)))
        assert len(read_files) == 34 and told == [(done, 34) for done in range(1, 35)]
        fetch(wanted), describe(wanted), data_md5(wanted), load_search_splits(wanted)
        assert len(read_files) == 34
        assert sorted(path.suffix for path in (cache / "folders").iterdir()) == [".json", ".lock", ".npz"]

    @pytest.mark.parametrize("options", [{"size": 9}, {"exclude": ["rash"]}, {"split": [0.5, 0.25, 0.25]}])
    def test_each_way_to_read_has_a_file_of_its_own(self, make_pictures: Make, options: dict[str, Any]) -> None:
        folder = make_pictures(CLASSES)
        one, other = data(folder), data(folder, **options)
        assert fetch(one) != fetch(other) and data_md5(one) != data_md5(other)
        assert describe(one).cases["train"] == 22
        assert {path for path, _ in readings_of(folder)} == {fetch(one), fetch(other)}

    def test_the_order_of_exclude_and_the_work_on_loaded_images_make_no_difference(self, make_pictures: Make) -> None:
        folder = make_pictures({**CLASSES, "c": 4})
        one = data(folder, exclude=["rash", "c"])
        assert cached_file(one) == cached_file(data(folder, exclude=["c", "rash"]))
        assert data_md5(one) == data_md5(data(folder, exclude=["rash", "c"], resize=16, as_rgb=True))

    @pytest.mark.parametrize("change", ["new", "gone", "other pixels", "renamed"])
    def test_a_changed_folder_is_read_again(self, make_pictures: Make, read_files: list[str], change: str) -> None:
        folder = make_pictures(CLASSES)
        before = data_md5(data(folder))
        first = folder / "a" / "0.png"
        if change == "new":
            shutil.copy(folder / "b" / "0.png", folder / "a" / "new.png")
        elif change == "gone":
            first.unlink()
        elif change == "renamed":
            first.rename(folder / "b" / "x.png")
        else:
            Image.fromarray(np.zeros((10, 12), np.uint8)).save(first)
        fetch(data(folder))
        assert len(read_files) > 60 and data_md5(data(folder)) != before

    @pytest.mark.parametrize("damage", ["npz", "json", "no npz"])
    def test_what_is_damaged_is_made_again(self, make_pictures: Make, damage: str) -> None:
        wanted = data(make_pictures(CLASSES))
        path = fetch(wanted)
        whole = path.read_bytes()
        if damage == "no npz":
            path.unlink()
        elif damage == "npz":
            path.write_bytes(whole[:-9])
        else:
            path.with_suffix(".json").write_text("{")
        assert fetch(wanted).read_bytes() == whole and reading_of(wanted).size == 8

    def test_a_folder_that_is_gone_is_as_it_was(self, make_pictures: Make, caplog: pytest.LogCaptureFixture) -> None:
        wanted = data(make_pictures(CLASSES))
        known, (train, _) = describe(wanted), load_search_splits(wanted)
        shutil.rmtree(wanted.folder or "")
        assert describe(wanted) == known and data_md5(wanted) == known.md5[8]
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(load_search_splits(wanted)[0].images, train.images)
        assert "is not there; taking what was read of it before" in caplog.text
        with pytest.raises(DataError, match="cannot be read as a folder"):
            describe(data(Path(str(wanted.folder)), size=9))

    def test_of_a_folder_that_is_gone_only_a_whole_file_is_taken(self, make_pictures: Make) -> None:
        wanted = data(make_pictures(CLASSES))
        path = fetch(wanted)
        shutil.rmtree(wanted.folder or "")
        spoilt = {**members(path), "val_labels": np.zeros((6, 1), np.uint8)}
        np.savez(path, allow_pickle=False, **spoilt)
        with pytest.raises(DataError, match="pictures: cannot be read as a folder"):
            load_search_splits(wanted)

    def test_a_kill_between_the_file_and_its_description_does_no_harm(
        self, make_pictures: Make, killed_in: Any, tmp_path: Path
    ) -> None:
        folder = make_pictures(CLASSES)
        old = fetch(data(folder)).read_bytes()
        (folder / "a" / "0.png").unlink()
        with killed_in(Path, "write_text"):
            fetch(data(folder))
        path = fetch(data(folder))
        assert path.read_bytes() != old and file_md5(path) == data_md5(data(folder))

    def test_a_cache_that_cannot_be_written(self, make_pictures: Make, cache: Path) -> None:
        folder = make_pictures(CLASSES)
        cache.parent.mkdir()
        cache.touch()
        with pytest.raises(DataError, match=r"the folder cannot be written .*XDG_CACHE_HOME"):
            fetch(data(folder))

    def test_a_relative_path_and_an_absolute_one_are_one_folder(
        self, make_pictures: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = make_pictures(CLASSES)
        monkeypatch.chdir(folder.parent)
        assert cached_file(data(Path("pictures"))) == cached_file(data(folder))
        monkeypatch.chdir(folder)
        assert data(Path(".")).title == "pictures"


class TestSplits:
    def splits(self, folder: Path) -> dict[str, list[list[int]]]:
        """The images of each split, as values that can be compared."""
        found = members(fetch(data(folder)))
        return {split: found[f"{split}_images"].reshape(-1, 64).tolist() for split in SPLITS}

    def test_identical_pictures_are_not_parted(self, make_pictures: Make) -> None:
        folder = make_pictures(CLASSES)
        for index in range(10):
            shutil.copy(folder / "b" / f"{index}.png", folder / "b" / f"copy-{index}.png")
            Image.open(folder / "a" / f"{index}.png").save(folder / "a" / f"{index}.bmp")
        found = self.splits(folder)
        seen = [{tuple(image) for image in images} for images in found.values()]
        assert sum(map(len, seen)) == len(set.union(*seen)) == 34
        twins = reading_of(data(folder)).found.twins
        assert twins["pictures"]["count"] == 20 and twins["splits"]["count"] == twins["classes"]["count"] == 0
        assert ["a/0.bmp", "a/0.png"] in twins["pictures"]["first"]

    def test_identical_pictures_of_two_classes_are_named(self, make_pictures: Make) -> None:
        folder = make_pictures(CLASSES)
        shutil.copy(folder / "b" / "3.png", folder / "a" / "same.png")
        (doubt,) = doubts(reading_of(data(folder)).found)
        assert doubt == "Pictures in more than one class are wrong in one of them: 1 (a/same.png = b/3.png)."
        assert describe(data(folder)).traps == (doubt,)

    def test_the_file_systems_order_does_not_matter(self, make_pictures: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = make_pictures(CLASSES)
        before = data_md5(data(folder))
        real_walk, real_iterdir = os.walk, Path.iterdir
        monkeypatch.setattr(os, "walk", lambda *a, **o: ((p, d, sorted(f)[::-1]) for p, d, f in real_walk(*a, **o)))
        monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(real_iterdir(path))[::-1]))
        fetch(data(folder)).unlink()
        fetch(data(folder))
        assert data_md5(data(folder)) == before

    def test_ready_splits_stay_and_what_they_share_is_named(self, make_pictures: Make) -> None:
        for split, count in (("train", 6), ("valid", 3), ("test", 4)):
            folder = make_pictures({f"{split}/a": count, f"{split}/b": count}, "ready").parent / "ready"
        shutil.copy(folder / "train" / "a" / "5.png", folder / "test" / "a" / "9.png")
        known = reading_of(data(folder)).found
        assert known.counts == {"train": [6, 6], "val": [3, 3], "test": [5, 4]}
        assert known.ready == ["train", "val", "test"]
        # the same noise was drawn for each split
        assert known.twins["splits"]["count"] == known.twins["pictures"]["count"] >= 3
        assert any("make val and test look better" in doubt for doubt in doubts(known))

    def test_a_missing_val_is_taken_from_train(self, make_pictures: Make) -> None:
        make_pictures({"train/a": 17, "train/b": 34}, "ready")
        folder = make_pictures({"test/a": 5, "test/b": 2}, "ready")
        assert reading_of(data(folder)).found.counts == {"train": [14, 28], "val": [3, 6], "test": [5, 2]}

    def test_a_class_too_small(self, make_pictures: Make) -> None:
        folder = make_pictures({"a": 5, "b": 2})
        with pytest.raises(DataError, match=r"pictures: the class b has 2 different pictures, and each of train, val"):
            fetch(data(folder))


class TestWhatIsWrong:
    def test_all_that_cannot_be_read_is_named_at_once(self, make_pictures: Make, cache: Path) -> None:
        folder = make_pictures(CLASSES)
        (folder / "a" / "0.png").write_bytes((folder / "a" / "0.png").read_bytes()[:60])
        for index in range(11):
            (folder / "b" / f"bad-{index:02}.jpg").write_text("no picture")
        (folder / "b" / "nowhere.png").symlink_to(folder / "none")
        with pytest.raises(DataError) as caught:
            fetch(data(folder))
        message = str(caught.value)
        assert message.startswith(f"{folder}: 13 of 46 pictures cannot be read: a/0.png (") and "\n" not in message
        assert "b/bad-08.jpg (no picture, whatever its name says) and 3 more; mend them, or move" in message
        assert "bad-09" not in message
        assert [path.suffix for path in (cache / "folders").iterdir()] == [".lock"]

    def test_names_and_files_that_may_not_be_read_stay_on_one_line(self, unprivileged: Path) -> None:
        for label in ("a", "b"):
            (unprivileged / label).mkdir()
            for name in ("closed.png", "two\nlines.png", os.fsdecode(b"\xff.png")):
                (unprivileged / label / name).write_text("no picture")
        (unprivileged / "a" / "closed.png").chmod(0)
        with pytest.raises(DataError) as caught:
            read_listing(list_folder(unprivileged), 8, (0.7, 0.15, 0.15))
        message = str(caught.value)
        assert "6 of 6 pictures cannot be read: a/closed.png (Permission denied); a/two\\nlines.png (" in message
        assert message.isprintable() and "a/\\udcff.png (no picture" in message

    def test_dicom_beside_pictures_is_told(self, make_pictures: Make) -> None:
        folder = make_pictures(CLASSES)
        (folder / "a" / "1.dcm").touch()
        (folder / "b" / "2.DICOM").touch()
        (doubt,) = doubts(reading_of(data(folder)).found)
        assert doubt.startswith("2 DICOM files were passed over, as they are not read: save it as a PNG")

    def test_twins_with_names_of_two_lines(self, make_pictures: Make) -> None:
        folder = make_pictures(CLASSES)
        shutil.copy(folder / "b" / "3.png", folder / "a" / "two\nlines.png")
        assert all(doubt.isprintable() for doubt in doubts(reading_of(data(folder)).found))

    def test_a_folder_with_a_long_name(self, make_pictures: Make) -> None:
        assert len(load_search_splits(data(make_pictures(CLASSES, "n" * 250)))[0]) == 22

    def test_doubtful_pictures_are_counted(self, make_pictures: Make) -> None:
        folder = make_pictures(CLASSES)
        Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(folder / "a" / "deep.png")
        Image.fromarray(np.full((5, 20), 7, np.uint8)).save(folder / "b" / "small.png")
        (folder / "b" / "notes.txt").touch()
        found = reading_of(data(folder)).found
        assert (found.dark, found.enlarged, found.skipped) == (1, 1, {".txt": 1})
        assert [doubt.split(" ", 2)[:2] for doubt in doubts(found)] == [["1", "pictures"]] * 2


class TestTheSeal:
    @pytest.fixture
    def folder(self, make_pictures: Make) -> Data:
        return data(make_pictures(CLASSES), resize=9)

    def test_test_images_are_not_decoded_before_the_test(self, folder: Data, monkeypatch: pytest.MonkeyPatch) -> None:
        path = fetch(folder)
        decoded: list[str] = []
        real = np.lib.format.read_array
        monkeypatch.setattr(
            np.lib.format, "read_array", lambda stream, **o: decoded.append(stream.name) or real(stream, **o)
        )
        train, val = load_search_splits(folder)
        assert decoded == ["train_images.npy", "train_labels.npy", "val_images.npy", "val_labels.npy"]
        test = load_sealed_test(folder)
        assert decoded[4:] == ["test_images.npy", "test_labels.npy"]
        assert [split.images.shape for split in (train, val, test)] == [(22, 9, 9), (6, 9, 9), (6, 9, 9)]
        np.testing.assert_array_equal(test.labels, members(path)["test_labels"][:, 0])

    def test_a_test_that_is_not_what_its_header_says_is_noticed(self, folder: Data) -> None:
        path = fetch(folder)
        spoilt = {**members(path), "test_images": np.zeros((6, 9, 9), np.uint8)}
        np.savez(path, **spoilt)
        content = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps({**content, "md5": file_md5(path)}))
        with pytest.raises(DataError, match=r"test_images is uint8 \(6, 9, 9\), pictures at 8 px has"):
            load_search_splits(folder)


def test_a_folder_as_a_data_set(make_pictures: Make) -> None:
    two, three = data(make_pictures({"a": 3, "b": 3}, "two")), data(make_pictures(CLASSES))
    info = describe(three)
    assert (info.flag, info.task, info.classes, info.channels) == ("pictures", "multiclass", ("a", "b", "rash"), 1)
    assert info.cases == {"train": 22, "val": 6, "test": 6} and not info.made and not info.urls
    assert describe(two).task == "binary"


def test_another_process_that_has_read_it_meanwhile_is_enough(make_pictures: Make, read_files: list[str]) -> None:
    wanted = data(make_pictures(CLASSES))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(import_folder, [wanted] * 4))) == 1
    assert len(read_files) == 34


def test_times_of_the_archive_are_fixed(make_pictures: Make) -> None:
    with zipfile.ZipFile(fetch(data(make_pictures(CLASSES)))) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
