"""The folder of a sweep: what lies where, written so that a kill at any moment leaves whole files."""

import contextlib
import shutil
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import save_file

from medtune.config.kinds import PRETRAIN, section_of
from medtune.config.read import read_sweep
from medtune.config.sweep import SweepConfig
from medtune.config.write import dump_sweep, dump_yaml, sweep_text, without_password
from medtune.config.yaml_text import parse
from medtune.files import append_line, to_json, whole_file, whole_lines, write_whole
from medtune.training.predictions import logits_of_epoch

FORMAT = 2  # of the folder; 1: all before `.begun.yaml` and this number were written


class FolderError(Exception):
    """The folder cannot be used as asked; the text says what to do."""


class HoldsASweep(FolderError):
    """There is a sweep where another one was to begin."""

    def __init__(self, path: Path, holds: str = "", differs: str = "") -> None:
        """holds: what it has come to; differs: how the other one is not the same."""
        super().__init__(
            f"{path} holds a sweep already{holds and f' ({holds})'}: `medtune resume {path}` goes on with it, "
            f"`--folder DIR` starts another{differs and f'; {differs}'}"
        )


class SweepFolder:
    """`sweep.yaml`, `sweep.id`, `ledger.log`, `trials/0007/`, `retrain/`, `tracking/`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = FileLock(self.path / "sweep.lock")
        self._made: list[Path] = []  # the folders that were not there before

    @classmethod
    def claim(cls, path: Path) -> "SweepFolder":
        """A folder for a new sweep, locked, so that of several processes one begins it. Raises HoldsASweep where there
        is one already, FolderError where another process is at work or there can be no folder."""
        folder = cls(path)
        absent = [one for one in (folder.path, *folder.path.parents) if not one.exists()]
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.lock()
        except OSError as error:
            raise FolderError(f"{path} cannot be a folder ({error.strerror}): `--folder DIR` takes another") from None
        if folder.ledger.exists() or folder.id_file.exists():
            folder.unlock()
            raise HoldsASweep(path)
        folder._made = absent
        return folder

    def begin(self, config: SweepConfig, data_md5: str | None = None) -> None:
        """Makes what was claimed the folder of a sweep, which it is once it has an id. data_md5: of a folder of
        pictures."""
        self.write_config(config)
        self.write_begun(config)
        if data_md5 is not None:
            write_whole(self.data_md5_file, data_md5.encode())
        write_whole(self.id_file, f"{uuid.uuid4()}\n".encode())

    def abandon(self) -> None:
        """Takes away a folder that was claimed, and not begun."""
        (self.path / "sweep.lock").unlink(missing_ok=True)  # while it is held: nobody can take it under this name
        self.unlock()
        with contextlib.suppress(OSError):  # somebody has something else there, or is about to
            for path in self._made:
                path.rmdir()

    @classmethod
    def create(cls, path: Path, config: SweepConfig) -> "SweepFolder":
        """A new folder, locked. Raises FolderError as `claim` does."""
        folder = cls.claim(path)
        folder.begin(config)
        return folder

    @classmethod
    def open(cls, path: Path) -> "SweepFolder":
        """An existing folder. Raises FolderError where there is no sweep, or one that this version cannot read."""
        folder = cls(path)
        if not folder.id_file.exists():
            raise FolderError(f"{path} holds no sweep: give the folder that `medtune sweep` named")
        number, writer = folder.format
        if number > FORMAT:
            raise FolderError(
                f"{path} was written by a later version{writer and f', {writer}'}: its format is {number}, and this "
                f"version knows those up to {FORMAT}; `pip install --upgrade medtune` brings one that can read it"
            )
        return folder

    def lock(self) -> None:
        """Makes this process the only one that writes. Raises FolderError while another one does."""
        try:
            self._lock.acquire(timeout=1)  # who only asks whether it is held holds it for a moment
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
    def format(self) -> tuple[int, str]:
        """The number of the format, and the version that wrote it; 1 and nothing where the folder does not say."""
        path = self.path / "sweep.format"
        number, _, writer = path.read_text().strip().partition(" ") if path.exists() else ("1", "", "")
        return int(number), writer

    @property
    def begun_file(self) -> Path:
        """The configuration as the last start took it, which `sweep.yaml` is held against."""
        return self.path / ".begun.yaml"

    @property
    def data_md5_file(self) -> Path:
        return self.path / "data.md5"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.log"

    @property
    def retrained(self) -> Path:
        return self.path / "retrain"

    @property
    def machines(self) -> Path:
        """What there was to run on, and what ran where: as `Watch` writes it."""
        return self.path / "machines.json"

    @property
    def tracking(self) -> Path:
        return self.path / "tracking"

    def storage(self, shared: str | None, below: str) -> str:
        """Where workers write, a path or URL: in this folder or, where there is a shared storage, in a folder there
        that has the sweep's id, so that two sweeps never meet."""
        return f"{shared.rstrip('/')}/{self.sweep_id}/{below}" if shared else f"{self.path}/{below}"

    @property
    def config_file(self) -> Path:
        return self.path / "sweep.yaml"

    def config(self) -> SweepConfig:
        return read_sweep(self.config_file)

    def config_of_trials(self) -> SweepConfig:
        """The same. Raises FolderError where it is a pretraining, whose trials do not classify."""
        config = self.config()
        if section_of(config.trial) == PRETRAIN:
            raise FolderError(
                f"{self.path} holds a pretraining: its encoder classifies nothing by itself; begin a sweep with it, by "
                f"trial.model.weights: {self.path}"
            )
        return config

    def write_config(self, config: SweepConfig) -> None:
        dump_sweep(config, self.config_file)

    def write_begun(self, config: SweepConfig) -> None:
        """Without passwords: the file is read by nobody who needs them."""
        write_whole(self.begun_file, without_password(sweep_text(config)).encode())
        write_whole(self.path / "sweep.format", f"{FORMAT} medtune {version('medtune')}\n".encode())

    def trial(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}"

    def start_trial(self, number: int, config: dict[str, Any]) -> None:
        self.trial(number).mkdir(parents=True, exist_ok=True)
        write_whole(self.trial(number) / "config.yaml", dump_yaml(config).encode())

    def used(self, number: int) -> dict[str, Any]:
        """All that changes a trial's numbers, as it was used: its configuration, `seed`, `precision`, `versions`."""
        return dict(parse((self.trial(number) / "config.yaml").read_text()).tree)

    def append_epoch(self, number: int, record: dict[str, Any]) -> None:
        append_line(self.trial(number) / "epochs.jsonl", to_json(record))

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
        with whole_file(self.trial(number) / "validation.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes allow_pickle for one of the arrays

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
        with whole_file(folder / "model.safetensors") as temporary:
            save_file(weights, temporary)

    def with_weights(self) -> list[int]:
        """The trials whose weights are kept."""
        return [int(path.parent.name) for path in (self.path / "trials").glob("*/best")]

    def weights_size(self, number: int) -> int:
        """Bytes of the weights that are kept of a trial."""
        return sum(path.stat().st_size for path in self.trial(number).glob("*/model.safetensors"))

    def drop_weights(self, number: int) -> None:
        for which in ("last", "best"):  # by `best` it is known that there is something to drop
            shutil.rmtree(self.trial(number) / which, ignore_errors=True)
