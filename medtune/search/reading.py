"""All that a ledger says, read at once."""

import warnings
from typing import TYPE_CHECKING

from medtune.config.default import Point
from medtune.config.sweep import SweepConfig
from medtune.search.entries import Entry
from medtune.search.folder import SweepFolder

if TYPE_CHECKING:
    from medtune.search.ledger import Ledger


def read_ledger(folder: SweepFolder, config: SweepConfig) -> tuple[list[Entry], dict[int, Point], int]:
    """The trials, their points and the looks at the test. A trial that was killed while it was asked for has no
    point. Raises FolderError where the ledger is in a database that cannot be opened."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook Optuna's progress bar, which is not used, asks for widgets
        from medtune.search.ledger import Ledger

    ledger = Ledger(folder, config)
    entries = ledger.entries()
    points = {entry.number: point for entry in entries if (point := _point(ledger, entry.number)) is not None}
    return entries, points, ledger.looks


def _point(ledger: "Ledger", number: int) -> Point | None:
    """None of a trial that was killed while it was asked for: the ledger has a part of its point."""
    try:
        return ledger.point(number)
    except ValueError:
        return None
