"""The checkpoints of a trial's attempts, on a file system or an object store.

`attempt-2/epoch-0007.safetensors` is the whole state after epoch 7, `attempt-2/best-0005.safetensors` the weights of
the best epoch so far. The last complete checkpoint of any attempt wins; a file has its name only when it is whole.
"""

import re
from dataclasses import dataclass

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from medtune.training.tensorfile import read_array, read_values

NAME = re.compile(r"attempt-(\d+)/(epoch|best)-(\d+)\.safetensors$")


@dataclass(frozen=True)
class Saved:
    """A file of an attempt."""

    attempt: int
    kind: str  # epoch or best
    epoch: int
    path: str


class Attempts:
    """All attempts of one trial, at a path or URL."""

    def __init__(self, url: str) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(url)

    def saved(self) -> list[Saved]:
        """Every whole file, oldest first."""
        self.fs.invalidate_cache()
        matches = ((NAME.search(path), path) for path in self.fs.glob(f"{self.root}/attempt-*/*.safetensors"))
        files = [Saved(int(m[1]), m[2], int(m[3]), path) for m, path in matches if m]
        return sorted(files, key=lambda file: (file.attempt, file.epoch))

    def last(self) -> Saved | None:
        """The last complete checkpoint."""
        checkpoints = [file for file in self.saved() if file.kind == "epoch"]
        return max(checkpoints, key=lambda file: (file.epoch, file.attempt), default=None)

    def best(self, epoch: int) -> Saved | None:
        """The weights of an epoch that was the best."""
        weights = [file for file in self.saved() if file.kind == "best" and file.epoch == epoch]
        return weights[-1] if weights else None

    def current(self) -> int:
        """The number of the newest attempt; 0 before the first."""
        folders = [path.rsplit("attempt-", 1) for path in self.fs.glob(f"{self.root}/attempt-*")]
        return max((int(number) for _, number in folders if number.isdigit()), default=0)

    def begin(self) -> "Attempt":
        """A new attempt, from which on the earlier ones write nothing more."""
        attempt = Attempt(self, self.current() + 1)
        self.fs.makedirs(attempt.root, exist_ok=True)
        self.fs.pipe_file(f"{attempt.root}/started", b"")  # an object store has no empty folders
        return attempt

    def read(self, file: Saved) -> bytes:
        return self.fs.cat_file(file.path)

    def predictions(self) -> tuple[dict[str, np.ndarray], int | None] | None:
        """`epochs` and `logits` of the last complete checkpoint, and its best epoch; None where there is none."""
        last = self.last()
        if last is None:
            return None
        with self.fs.open(last.path, "rb") as file:
            arrays = {name: read_array(file, f"predictions.{name}") for name in ("epochs", "logits")}
            return arrays, read_values(file)["best_epoch"]

    def clear(self) -> None:
        """Removes all attempts: what was of worth in them is elsewhere by now."""
        for path in self.fs.glob(f"{self.root}/attempt-*"):
            self.fs.rm(path, recursive=True)
        if self.fs.exists(self.root) and not self.fs.ls(self.root):
            self.fs.rmdir(self.root)


class Attempt:
    """One start of a trial, while it writes."""

    def __init__(self, attempts: Attempts, number: int) -> None:
        self.attempts, self.number = attempts, number
        self.root = f"{attempts.root}/attempt-{number}"

    def save(self, epoch: int, checkpoint: bytes, best_epoch: int | None, best: bytes | None) -> bool:
        """Saves the state after an epoch, with the best weights if they are new, and then drops what that replaces.

        False, and nothing written, when another attempt has begun since.
        """
        if self.attempts.current() != self.number:
            return False
        if best is not None:
            self._write(f"best-{best_epoch:04d}.safetensors", best)
        self._write(f"epoch-{epoch:04d}.safetensors", checkpoint)
        for file in self.attempts.saved():
            if file.epoch != (epoch if file.kind == "epoch" else best_epoch):
                self.attempts.fs.rm(file.path)
        return True

    def _write(self, name: str, data: bytes) -> None:
        fs, path = self.attempts.fs, f"{self.root}/{name}"
        if isinstance(fs, LocalFileSystem):
            fs.pipe_file(f"{path}.tmp", data)
            fs.mv(f"{path}.tmp", path)
        else:  # an object appears whole or not at all
            fs.pipe_file(path, data)
