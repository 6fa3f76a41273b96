"""A ledger read without changing it: opening a journal writes into it, which is the driver's to do."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from medtune.config.default import Point
from medtune.config.sweep import SweepConfig
from medtune.search.entries import Entry
from medtune.search.folder import SweepFolder

if TYPE_CHECKING:
    from medtune.search.ledger import Ledger


def read_ledger(folder: SweepFolder, config: SweepConfig) -> tuple[list[Entry], dict[int, Point], int]:
    """The trials, their points and the looks at the test, from a copy of the ledger. A trial that was killed while it
    was asked for has no point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook Optuna's progress bar, which is not used, asks for widgets
        from medtune.search.ledger import Ledger

    if not folder.ledger.exists():
        return [], {}, 0
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / "ledger.log"
        shutil.copyfile(folder.ledger, copied)
        whole = copied.read_bytes()
        copied.write_bytes(whole[: whole.rfind(b"\n") + 1])  # a line that is being written now is not one
        ledger = Ledger(copied, folder.sweep_id, config)
        entries = ledger.entries()
        points = {entry.number: point for entry in entries if (point := _point(ledger, entry.number)) is not None}
        looks = ledger.looks
    return entries, points, looks


def _point(ledger: "Ledger", number: int) -> Point | None:
    """None of a trial that was killed while it was asked for: the ledger has a part of its point."""
    try:
        return ledger.point(number)
    except ValueError:
        return None
