import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medtune.data import DataError
from medtune.data.listing import Listing, in_words, list_folder, shown

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """`tree("a/1.png", "b/")`: a folder with these files and folders in it."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "set" / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_bytes(b"-")
        return tmp_path / "set"

    return make


def names(listing: Listing) -> list[tuple[str, str, str | None]]:
    return [(file.name, file.label, file.split) for file in listing.files]


def test_one_folder_a_class(tree: Tree) -> None:
    listing = list_folder(tree("b/2.JPG", "a/x.png", "b/deeper/1.tif"))
    assert names(listing) == [("a/x.png", "a", None), ("b/2.JPG", "b", None), ("b/deeper/1.tif", "b", None)]
    assert listing.classes == ("a", "b") and listing.ready == ()


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_ready_splits(tree: Tree, val: str) -> None:
    listing = list_folder(
        tree("test/a/1.png", "test/b/1.png", "train/a/1.png", "train/b/1.png", f"{val}/a/1.png", f"{val}/b/1.png")
    )
    assert listing.ready == ("train", "val", "test") and listing.classes == ("a", "b")
    assert (f"{val}/b/1.png", "b", "val") in names(listing) and len(listing.files) == 6


def test_val_may_be_missing(tree: Tree) -> None:
    assert list_folder(tree("test/a/1.png", "test/b/1.png", "train/a/1.png", "train/b/1.png")).ready == (
        "train",
        "test",
    )


def test_what_is_no_picture_is_counted(tree: Tree) -> None:
    folder = tree("a/1.png", "a/.DS_Store", "a/._1.png", "b/1.png", "b/x.csv", "b/y.CSV", "b/README", "labels.csv")
    tree(".git/x.png", "__MACOSX/x.png", "a/.thumbs/1.png")
    (folder / "a" / "linked").symlink_to(folder / "b")
    listing = list_folder(folder)
    assert [file.name for file in listing.files] == ["a/1.png", "b/1.png"]
    assert listing.skipped == {
        "outside of the classes": 1,
        "linked folders": 1,
        "hidden": 2,
        ".csv": 2,
        "without an extension": 1,
    }
    assert in_words({"hidden": 1, ".csv": 2}) == "2 .csv, 1 hidden"


def test_names_of_all_kinds(tree: Tree) -> None:
    odd = [
        "été ✓.png",
        "two\nlines.png",
        "X.PNG",
        "x.png",
        f"{'n' * 251}.png",
        " .png",
        "a'\".png",
        os.fsdecode(b"\xff.png"),
    ]
    folder = tree("b/1.png", "Thumbs.db", "a/Thumbs.db", *(f"a/{name}" for name in odd), "a/" + "deep/" * 50 + "1.png")
    assert {file.name for file in list_folder(folder).files} >= {f"a/{name}" for name in odd}
    assert list_folder(folder).skipped == {"outside of the classes": 1, ".db": 1}
    assert [shown(name) for name in odd] == [odd[0], "two\\nlines.png", *odd[2:7], "\\udcff.png"]


def test_links(tree: Tree, tmp_path: Path) -> None:
    """Those to files are followed, and those in the place of a class; others are passed over."""
    folder = tree("a/1.png", "c")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.png").write_bytes(b"--")
    (folder / "b").symlink_to("../b")
    (folder / "loop").symlink_to("loop")
    (folder / "a" / "2.png").symlink_to("../../b/1.png")
    (folder / "a" / "loop.png").symlink_to("loop.png")
    (folder / "a" / "up").symlink_to("..")
    listing = list_folder(folder)
    assert [(file.name, file.size) for file in listing.files] == [
        ("a/1.png", 1),
        ("a/2.png", 2),
        ("a/loop.png", -1),
        ("b/1.png", 2),
    ]
    assert listing.skipped == {"outside of the classes": 2, "linked folders": 1}
    (folder / "all").symlink_to(".")
    with pytest.raises(DataError, match=r"set/all: is a link to a folder that it lies in; remove it"):
        list_folder(folder)


def test_what_may_not_be_looked_at_is_named(tree: Tree, unprivileged: Path) -> None:
    for name in ("a/1.png", "b/closed/1.png"):
        (unprivileged / name).parent.mkdir(parents=True)
        (unprivileged / name).write_bytes(b"-")
    for mode, why in ((0o000, "cannot be read"), (0o400, "1 class folders|cannot be read")):
        for closed in ("b/closed", "b", "."):
            (unprivileged / closed).chmod(mode)
            try:
                listing = list_folder(unprivileged)
            except DataError as error:
                assert re.search(f"^{unprivileged}.*({why})", str(error)) and "\n" not in str(error)
            else:  # who reads it will say so
                assert mode == 0o400 and [file.size for file in listing.files] == [1, -1]
            finally:
                (unprivileged / closed).chmod(0o700)


def test_excluded_classes_are_not_looked_at(tree: Tree) -> None:
    listing = list_folder(tree("a/1.png", "b/1.png", "rash/"), ["rash"])
    assert listing.classes == ("a", "b") and len(listing.files) == 2


def test_a_changed_file_is_another_one(tree: Tree) -> None:
    folder = tree("a/1.png", "b/1.png")
    before = list_folder(folder)
    assert list_folder(folder) == before
    os.utime(folder / "a" / "1.png", ns=(0, 1))
    assert list_folder(folder).files[0].changed == 1 and list_folder(folder) != before


READY = ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
WRONG = {
    "one class": (("a/1.png",), (), "has 1 class folders; there must be one for each of two or more"),
    "no class": (("1.png",), (), "has 0 class folders"),
    "all but one excluded": (("a/1.png", "b/1.png"), ("b",), "has 1 class folders"),
    "an empty class": (("a/1.png", "b/"), (), r"b: has no pictures; add some, or leave it out with data\.exclude"),
    "a class of other files": (("a/1.png", "b/1.csv"), (), r"b: has no pictures \(1 \.csv\); add some"),
    "a class of DICOM": (
        ("a/1.png", "b/1.DCM"),
        (),
        r"b: has no pictures \(1 \.dcm\); DICOM is not read: save it as a PNG",
    ),
    "a class that is a file": (("a/1.png", "b"), (), "has 1 class folders"),
    "classes of one name": (
        ("Cat/1.png", "cat/1.png", "dog/1.png"),
        (),
        "classes Cat and cat, which are one name written in two ways",
    ),
    "one name written twice": (("e\u0301/1.png", "\u00e9/1.png"), (), "which are one name"),
    "splits that write a class in two ways": (
        (*READY, "train/C/1.png", "test/c/1.png"),
        (),
        "the classes C and c, which",
    ),
    "a class of two lines": (
        ("a\nb/1.png", "c/1.png"),
        (),
        r"has a folder a\\nb, whose name cannot be printed; rename it",
    ),
    "an unknown class excluded": (
        ("a/1.png", "b/1.png"),
        ("c",),
        r"has no c for data\.exclude to leave out; it has a, b",
    ),
    "no train": (("test/a/1.png", "test/b/1.png"), (), "has test/ and no train/"),
    "no test": (("train/a/1.png", "val/a/1.png"), (), r"no test/, and val is no test; give .*train as data\.folder"),
    "two vals": ((*READY, "val/a/1.png", "valid/a/1.png"), (), "has .*val.*, two of them for one split"),
    "more than splits": ((*READY, "other/1.png"), (), "beside its splits has other; leave it out"),
    "a class that test lacks": ((*READY, "train/c/1.png"), (), "test has no c, and another split has"),
    "an empty class of a split": ((*READY, "train/c/1.png", "test/c/"), (), "test/c: has no pictures"),
    "splits without classes": (("train/1.png", "test/1.png"), (), "has 0 class folders"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_folders(name: str, tree: Tree) -> None:
    files, exclude, message = WRONG[name]
    with pytest.raises(DataError, match=message) as caught:
        list_folder(tree(*files), exclude)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("exclude", [("other",), ("other", "c")])
def test_exclude_reaches_beside_and_into_the_splits(tree: Tree, exclude: tuple[str, ...]) -> None:
    folder = tree(*READY, "other/1.png", *(["train/c/1.png"] if "c" in exclude else []))
    assert list_folder(folder, exclude).classes == ("a", "b")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: cannot be read as a folder .*check data\.folder"):
        list_folder(tmp_path / "none")
