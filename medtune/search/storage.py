"""Where a ledger lies: in a journal in the sweep's folder, or in a database that several machines share."""

import contextlib
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from medtune.config.sweep import SweepConfig
from medtune.files import cut_torn_line
from medtune.search.failures import NoRoom
from medtune.search.folder import SweepFolder


def open_storage(folder: SweepFolder, config: SweepConfig, write: bool) -> BaseStorage | None:
    """The storage of a sweep's ledger. write: the folder's lock is held, and what a kill left behind is mended. None:
    there is nothing to read yet. Raises FolderError where a database cannot be opened."""
    if config.cluster.ledger is not None:
        from medtune.search.database import open_database

        return open_database(config.cluster.ledger)
    if write:
        return JournalStorage(_Written(folder.ledger))
    return JournalStorage(_Read(str(folder.ledger), _NoLock())) if folder.ledger.exists() else None


class _NoLock(BaseJournalFileLock):
    """Who writes holds the lock of the whole folder, which a kill gives back at once; Optuna's own would stay."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class _Written(JournalFileBackend):
    """A journal without a line that was cut short: the next one would be glued to it, and nothing could be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # Optuna's, which earlier versions used
        cut_torn_line(path)
        super().__init__(str(path), _NoLock())

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Raises NoRoom, with the journal as it was."""
        try:
            super().append_logs(logs)
        except OSError as error:
            with contextlib.suppress(OSError):
                cut_torn_line(self.path)
            raise NoRoom(f"{self.path}: {error.strerror or error}") from error


class _Read(JournalFileBackend):
    """A journal in which nothing changes. A line that is being written now is not one."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise AssertionError("this ledger was opened to be read")
