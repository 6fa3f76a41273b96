"""The checkpoints of a trial's attempts, on a file system or an object store.

`attempt-2/epoch-0007.safetensors` is the whole state after epoch 7. The last and the best epoch are kept, and those
that a job asks for; the last complete checkpoint of any attempt wins. A file has its name only when it is whole.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from medtune.files import whole_file
from medtune.search.failures import NoRoom
from medtune.training.tensorfile import read_part, read_values

NAME = re.compile(r"attempt-(\d+)/epoch-(\d+)\.safetensors$")


class Writable(Protocol):
    """A checkpoint before it is written."""

    def to_file(self, path: str) -> None: ...

    def to_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint."""

    attempt: int
    epoch: int
    path: str


class Attempts:
    """All attempts of one trial, at a path or URL."""

    def __init__(self, url: str) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(url)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Each object store has errors of its own. Raises NoRoom for them: its being away is no fault of a trial."""
        try:
            yield
        except Exception as error:
            if isinstance(self.fs, LocalFileSystem):
                raise
            raise NoRoom(f"{self.root}: {type(error).__name__}: {error}") from error

    def saved(self) -> list[Saved]:
        """Every whole checkpoint, by epoch."""
        with self._reached():
            self.fs.invalidate_cache()
            paths = self.fs.glob(f"{self.root}/attempt-*/*.safetensors")
        matches = ((NAME.search(path), path) for path in paths)
        files = [Saved(int(match[1]), int(match[2]), path) for match, path in matches if match]
        return sorted(files, key=lambda file: (file.epoch, file.attempt))

    def last(self) -> Saved | None:
        """The last complete checkpoint."""
        files = self.saved()
        return files[-1] if files else None

    def of_epoch(self, epoch: int) -> Saved | None:
        """The checkpoint of an epoch that was the last or the best."""
        files = [file for file in self.saved() if file.epoch == epoch]
        return files[-1] if files else None

    def current(self) -> int:
        """The number of the newest attempt; 0 before the first."""
        with self._reached():
            self.fs.invalidate_cache()
            folders = [path.rsplit("attempt-", 1) for path in self.fs.glob(f"{self.root}/attempt-*")]
        return max((int(number) for _, number in folders if number.isdigit()), default=0)

    def begin(self) -> "Attempt":
        """A new attempt, from which on the earlier ones write nothing more."""
        attempt = Attempt(self, self.current() + 1)
        with self._reached():
            self.fs.makedirs(attempt.root, exist_ok=True)
            self.fs.pipe_file(f"{attempt.root}/started", b"")  # an object store has no empty folders
        return attempt

    def read(self, file: Saved) -> bytes:
        with self._reached():
            return bytes(self.fs.cat_file(file.path))

    def predictions(self, file: Saved) -> tuple[dict[str, np.ndarray], int | None]:
        """`epochs`, `logits`, `labels` and `cases` of a checkpoint, and its best epoch. Reads no weights."""
        with self.fs.open(file.path, "rb") as stream:
            return read_part(stream, "predictions."), read_values(stream)["best_epoch"]

    def weights(self, file: Saved) -> dict[str, np.ndarray]:
        """The model's weights in a checkpoint, by the names of its state_dict."""
        with self.fs.open(file.path, "rb") as stream:
            return read_part(stream, "model.")

    def clear(self) -> None:
        """Removes all attempts: what was of worth in them is elsewhere by now. The last checkpoint goes last: a kill in
        the middle leaves it to be read again."""
        for file in self.saved():
            self.fs.rm(file.path)
        for path in self.fs.glob(f"{self.root}/attempt-*"):
            self.fs.rm(path, recursive=True)
        if self.fs.exists(self.root) and not self.fs.ls(self.root):
            self.fs.rmdir(self.root)


class Attempt:
    """One start of a trial, while it writes."""

    def __init__(self, attempts: Attempts, number: int) -> None:
        self.attempts, self.number = attempts, number
        self.root = f"{attempts.root}/attempt-{number}"

    def save(self, epoch: int, keep: Collection[int | None], checkpoint: Writable) -> bool:
        """Saves the state after an epoch, and then drops those of other epochs that are not to be kept.

        False, and nothing written, when another attempt has begun since.
        """
        if self.attempts.current() != self.number:
            return False
        self._write(f"{self.root}/epoch-{epoch:04d}.safetensors", checkpoint)
        for file in self.attempts.saved():
            if file.epoch != epoch and file.epoch not in keep:
                self.attempts.fs.rm(file.path)
        return True

    def _write(self, path: str, checkpoint: Writable) -> None:
        if isinstance(self.attempts.fs, LocalFileSystem):
            with whole_file(Path(path)) as temporary:
                checkpoint.to_file(str(temporary))
        else:  # an object appears whole or not at all
            with self.attempts._reached():
                self.attempts.fs.pipe_file(path, checkpoint.to_bytes())
