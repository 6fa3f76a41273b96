import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pytest
from safetensors.numpy import save

from medtune.search.attempts import Attempts
from medtune.search.failures import NoRoom
from medtune.training.tensorfile import stamp


@dataclass(frozen=True)
class State:
    """A checkpoint of nothing but its epoch."""

    epoch: int = 0
    best_epoch: int | None = None

    def to_bytes(self) -> bytes:
        logits = np.full((1, 2, 2), self.epoch, np.float32)
        tensors = {"predictions.epochs": np.array([self.epoch]), "predictions.logits": logits}
        tensors["model.weight"] = np.full(3, self.epoch, np.float32)
        return save(tensors, stamp({"best_epoch": self.best_epoch}))

    def to_file(self, path: str) -> None:
        Path(path).write_bytes(self.to_bytes())


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "trials" / "0007")
        return
    where = f"memory://{uuid.uuid4()}/trials/0007"
    yield where
    fs, root = fsspec.core.url_to_fs(where)
    if fs.exists(root):
        fs.rm(root, recursive=True)


def names(url: str) -> list[str]:
    """Every file of a trial, but for the marks of the attempts."""
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(path.split("0007/")[1] for path in fs.find(root) if not path.endswith("/started"))


def test_before_the_first_attempt_there_is_nothing(url: str) -> None:
    attempts = Attempts(url)
    assert attempts.current() == 0 and attempts.last() is None and attempts.saved() == []
    attempts.clear()


def test_an_attempt_that_saved_nothing_counts(url: str) -> None:
    assert [Attempts(url).begin().number for _ in range(3)] == [1, 2, 3]
    assert Attempts(url).current() == 3 and Attempts(url).last() is None


def test_the_last_and_the_best_checkpoint_stay(url: str) -> None:
    attempt = Attempts(url).begin()
    for epoch, best in [(1, 1), (2, 2), (3, 2), (4, 2)]:
        assert attempt.save(epoch, (best,), State(epoch, best))
    assert names(url) == ["attempt-1/epoch-0002.safetensors", "attempt-1/epoch-0004.safetensors"]
    attempts = Attempts(url)
    last, best = attempts.last(), attempts.of_epoch(2)
    assert last is not None and best is not None and (last.epoch, best.epoch) == (4, 2)
    assert attempts.read(last) == State(4, 2).to_bytes()
    arrays, best_epoch = attempts.predictions(last)
    assert best_epoch == 2 and arrays["epochs"].tolist() == [4]
    np.testing.assert_array_equal(arrays["logits"], np.full((1, 2, 2), 4, np.float32))
    np.testing.assert_array_equal(attempts.weights(best)["weight"], np.full(3, 2, np.float32))


def test_where_no_epoch_is_the_best_the_last_stays(url: str) -> None:
    attempt = Attempts(url).begin()
    assert attempt.save(1, (), State(1)) and attempt.save(2, (), State(2))
    assert names(url) == ["attempt-1/epoch-0002.safetensors"]


def test_the_last_complete_checkpoint_of_any_attempt_wins(url: str) -> None:
    first = Attempts(url).begin()
    first.save(1, (1,), State(1, 1))
    first.save(2, (1,), State(2, 1))
    second = Attempts(url).begin()  # died before it had saved anything
    assert second.number == 2
    last = Attempts(url).last()
    assert last is not None and (last.attempt, last.epoch) == (1, 2)
    third = Attempts(url).begin()
    third.save(3, (1,), State(3, 1))
    last, best = Attempts(url).last(), Attempts(url).of_epoch(1)
    assert last is not None and (last.attempt, last.epoch) == (3, 3)
    assert best is not None and best.attempt == 1  # the best epoch may be another attempt's
    assert names(url) == ["attempt-1/epoch-0001.safetensors", "attempt-3/epoch-0003.safetensors"]


def test_an_older_attempt_writes_nothing_once_a_newer_one_has_begun(url: str) -> None:
    old = Attempts(url).begin()
    assert old.save(1, (1,), State(1, 1))
    Attempts(url).begin()
    assert not old.save(2, (2,), State(2, 2))
    assert names(url) == ["attempt-1/epoch-0001.safetensors"]


def test_nor_does_one_whose_trial_has_ended(url: str) -> None:
    attempt = Attempts(url).begin()
    Attempts(url).clear()
    assert not attempt.save(1, (1,), State(1, 1))
    assert names(url) == []


@pytest.mark.parametrize("name", ["epoch-0009.safetensors.tmp", ".epoch-0009.safetensors", "best-0009.safetensors"])
def test_what_is_no_whole_checkpoint_is_not_looked_at(url: str, name: str) -> None:
    attempt = Attempts(url).begin()
    attempt.save(1, (1,), State(1, 1))
    attempt.attempts.fs.pipe_file(f"{attempt.root}/{name}", b"half")
    last = Attempts(url).last()
    assert last is not None and last.epoch == 1


class Broken(State):
    """Fails halfway, as a disk that is full."""

    def to_bytes(self) -> bytes:
        raise OSError("no space left on device")

    def to_file(self, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")


def test_the_old_checkpoint_goes_only_when_the_new_one_is_whole(url: str) -> None:
    attempt = Attempts(url).begin()
    attempt.save(1, (1,), State(1, 1))
    with pytest.raises((OSError, NoRoom), match="no space"):
        attempt.save(2, (2,), Broken(2, 2))
    last = Attempts(url).last()
    assert last is not None and last.epoch == 1 and Attempts(url).read(last) == State(1, 1).to_bytes()
    assert Attempts(url).begin().save(2, (2,), State(2, 2))  # the half one is in nobody's way


def test_clearing_leaves_what_is_no_attempt(url: str) -> None:
    attempts = Attempts(url)
    for _ in range(2):
        attempts.begin().save(1, (1,), State(1, 1))
    attempts.fs.pipe_file(f"{attempts.root}/config.yaml", b"a: 1")
    attempts.clear()
    attempts.clear()
    assert names(url) == ["config.yaml"] and attempts.current() == 0


def test_attempts_are_counted_as_numbers_not_as_text(url: str) -> None:
    assert [Attempts(url).begin().number for _ in range(11)][-1] == 11
    assert Attempts(url).current() == 11
