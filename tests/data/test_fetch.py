"""The file of a data set: where it is looked for, and what is verified. Downloads: tests/faults/test_downloads.py."""

import hashlib
from pathlib import Path

import pytest

from medtune.config.sweep import Data
from medtune.data import DataError
from medtune.data import download as room
from medtune.data.download import file_md5
from medtune.data.fetch import dataset_path, fetch

BODY = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(BODY).hexdigest()


def test_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"breastmnist\.npz: not there, and the folder cannot be written .*data\.root="):
        fetch(Data())


@pytest.mark.parametrize("root", ["mispelt", "no where", "file"])
def test_a_root_that_is_not_there_is_told_at_once(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as caught:
        fetch(Data(root=str(tmp_path / root)))
    assert not (tmp_path / "mispelt").exists()
    quoted = f"'{tmp_path / root}'" if " " in root else tmp_path / root
    assert str(caught.value) == (
        f"data.root: {quoted}: there is no such folder; correct it, or `mkdir -p {quoted}` to download to it"
    )


def test_a_file_with_another_hash_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "breastmnist.npz").write_bytes(b"something else")
    with pytest.raises(DataError, match="is not the published file") as caught:
        fetch(Data(root=str(tmp_path)))
    assert "move it away" in str(caught.value)
    assert (tmp_path / "breastmnist.npz").read_bytes() == b"something else"


def test_names_are_those_of_medmnist(tmp_path: Path) -> None:
    assert dataset_path(Data(root=str(tmp_path))) == tmp_path / "breastmnist.npz"
    assert dataset_path(Data(dataset="pathmnist", size=224, root=str(tmp_path))) == tmp_path / "pathmnist_224.npz"
    assert dataset_path(Data()) == Path.home() / ".medmnist" / "breastmnist.npz"
    with pytest.raises(DataError, match="there is no file"):
        dataset_path(Data(dataset="phantom-binary"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A cache of its own, every file counts as big; the list grows by each file that is really hashed."""
    monkeypatch.setattr(room, "REMEMBER_FROM", 0)
    monkeypatch.setattr(room.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    names: list[str] = []
    real = room._hash
    monkeypatch.setattr(room, "_hash", lambda file: names.append(file.name) or real(file))
    return names


def test_a_big_file_is_hashed_once(hashed: list[str], tmp_path: Path) -> None:
    file = tmp_path / "big.npz"
    file.write_bytes(BODY)
    assert file_md5(file) == file_md5(file) == MD5
    assert len(hashed) == 1
    file.write_bytes(BODY[::-1] + b"!")
    assert file_md5(file) != MD5
    assert len(hashed) == 2


def test_a_damaged_note_is_no_note(hashed: list[str], tmp_path: Path) -> None:
    file = tmp_path / "big.npz"
    file.write_bytes(BODY)
    file_md5(file)
    (note,) = (tmp_path / "cache" / "medtune" / "verified").iterdir()
    note.write_text("[1, 2")
    assert file_md5(file) == MD5
    assert len(hashed) == 2


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        file_md5(tmp_path / "none.npz")
