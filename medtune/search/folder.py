"""The folder of a sweep: what lies where, written so that a kill at any moment leaves whole files."""

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import save_file

from medtune.config.read import read_sweep
from medtune.config.sweep import SweepConfig
from medtune.config.write import dump_sweep, dump_yaml
from medtune.config.yaml_text import parse
from medtune.files import to_json, whole_lines, write_whole
from medtune.training.predictions import logits_of_epoch


class FolderError(Exception):
    """The folder cannot be used as asked; the text says what to do."""


class SweepFolder:
    """`sweep.yaml`, `sweep.id`, `ledger.log`, `trials/0007/`, `retrain/`, `tracking/`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = FileLock(self.path / "sweep.lock")

    @classmethod
    def create(cls, path: Path, config: SweepConfig) -> "SweepFolder":
        """A new folder, locked. Raises FolderError where there is a sweep already."""
        folder = cls(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.lock()
        try:
            refuse_a_second_sweep(path)
        except FolderError:
            folder.unlock()
            raise
        folder.write_config(config)
        write_whole(folder.id_file, f"{uuid.uuid4()}\n".encode())
        return folder

    @classmethod
    def open(cls, path: Path) -> "SweepFolder":
        """An existing folder. Raises FolderError where there is no sweep."""
        folder = cls(path)
        if not folder.id_file.exists():
            raise FolderError(f"{path} holds no sweep: give the folder that `medtune sweep` named")
        return folder

    def lock(self) -> None:
        """Makes this process the only one that writes. Raises FolderError while another one does."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FolderError(
                f"{self.path} is in use by another process; when that has ended, say this again "
                f"(`medtune resume {self.path}` goes on with a sweep)"
            ) from None

    def unlock(self) -> None:
        self._lock.release()

    @property
    def running(self) -> bool:
        """Whether some process holds the lock now."""
        probe = FileLock(self.path / "sweep.lock")
        try:
            with probe.acquire(timeout=0):
                return False
        except (Timeout, OSError):
            return True

    @property
    def id_file(self) -> Path:
        return self.path / "sweep.id"

    @property
    def sweep_id(self) -> str:
        return self.id_file.read_text().strip()

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.log"

    @property
    def retrained(self) -> Path:
        return self.path / "retrain"

    @property
    def tracking(self) -> Path:
        return self.path / "tracking"

    def storage(self, shared: str | None, below: str) -> str:
        """Where workers write, a path or URL: in this folder or, where there is a shared storage, in a folder there
        that has the sweep's id, so that two sweeps never meet."""
        return f"{shared.rstrip('/')}/{self.sweep_id}/{below}" if shared else f"{self.path}/{below}"

    def config(self) -> SweepConfig:
        return read_sweep(self.path / "sweep.yaml")

    def write_config(self, config: SweepConfig) -> None:
        dump_sweep(config, self.path / "sweep.yaml")

    def trial(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}"

    def start_trial(self, number: int, config: dict[str, Any]) -> None:
        self.trial(number).mkdir(parents=True, exist_ok=True)
        write_whole(self.trial(number) / "config.yaml", dump_yaml(config).encode())

    def used(self, number: int) -> dict[str, Any]:
        """All that changes a trial's numbers, as it was used: its configuration, `seed`, `precision`, `versions`."""
        return dict(parse((self.trial(number) / "config.yaml").read_text()).tree)

    def append_epoch(self, number: int, record: dict[str, Any]) -> None:
        with (self.trial(number) / "epochs.jsonl").open("a") as file:
            file.write(to_json(record) + "\n")

    def epochs(self, number: int) -> list[dict[str, Any]]:
        """The epoch records of a trial; a line that a kill cut short is not one."""
        path = self.trial(number) / "epochs.jsonl"
        return list(whole_lines(path.read_text())) if path.exists() else []

    def mend_epochs(self, number: int) -> list[dict[str, Any]]:
        """The same, after taking a line that was cut short out of the file."""
        records, path = self.epochs(number), self.trial(number) / "epochs.jsonl"
        if path.exists():
            write_whole(path, "".join(to_json(record) + "\n" for record in records).encode())
        return records

    def write_predictions(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        path = self.trial(number) / "validation.npz"
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **arrays)  # type: ignore[arg-type]  # its stub takes allow_pickle for one of the arrays
        os.replace(temporary, path)

    def predictions(self, number: int) -> dict[str, np.ndarray] | None:
        """`logits` float32 (epochs, cases, classes), `epochs`, `labels`, `cases`; None where the trial left none."""
        path = self.trial(number) / "validation.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    def predictions_of(self, number: int, epoch: int | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Logits (cases, classes) of an epoch, and the labels; None where the trial left none of it."""
        kept = self.predictions(number)
        if kept is None or epoch is None or epoch not in kept["epochs"]:
            return None
        return logits_of_epoch(kept, epoch), kept["labels"]

    def write_weights(self, number: int, weights: dict[str, np.ndarray], which: str = "best") -> None:
        """which: best or last, the epoch that the weights are of."""
        folder = self.trial(number) / which
        folder.mkdir(exist_ok=True)
        temporary = folder / ".model.safetensors.tmp"
        save_file(weights, temporary)
        os.replace(temporary, folder / "model.safetensors")

    def with_weights(self) -> list[int]:
        """The trials whose weights are kept."""
        return [int(path.parent.name) for path in (self.path / "trials").glob("*/best")]

    def drop_weights(self, number: int) -> None:
        for which in ("last", "best"):  # by `best` it is known that there is something to drop
            shutil.rmtree(self.trial(number) / which, ignore_errors=True)


def refuse_a_second_sweep(path: Path) -> None:
    """Raises FolderError where there is a sweep already."""
    folder = SweepFolder(path)
    if folder.ledger.exists() or folder.id_file.exists():
        raise FolderError(
            f"{path} holds a sweep already: `medtune resume {path}` goes on with it, `--folder DIR` starts another"
        )
