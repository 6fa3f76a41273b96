"""What killed processes have left in the folder of a sweep, and how to be rid of it.

Only for a folder that no process holds. A checkpoint that an unfinished trial goes on from is no leftover, and neither
is a file lock: the system takes it from a process that dies, and its file stays.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from medtune.config.sweep import SweepConfig
from medtune.files import is_torn
from medtune.search.attempts import Attempts
from medtune.search.entries import State
from medtune.search.events import Watcher
from medtune.search.folder import SweepFolder

TEMPORARY = (".*.tmp", "*.tmp.npz", "*.safetensors.tmp")  # what is renamed once it is whole
MakeWatchers = Callable[[], Sequence[Watcher]]


class Unreadable(Exception):
    """The ledger is damaged."""


@dataclass(frozen=True)
class Leftover:
    """what: is there, and where, in one line. remedy: what is to be done about it. mend: does it, or raises; None where
    a person has to."""

    what: str
    remedy: str
    mend: Callable[[], object] | None = None


def find_leftovers(folder: SweepFolder, config: SweepConfig, watchers: MakeWatchers) -> Iterator[Leftover]:
    """One by one: the later ones are looked for when the earlier ones have been mended, or not.

    watchers: of a driver, made where one is needed to bring ended trials to their end.
    """
    yield from _of_the_journal(folder, config)
    yield from _torn_epochs(folder)
    yield from _temporaries(folder, config)
    yield from _half_finished(folder, config, watchers)
    yield from _throwaways(folder)


def states_of(folder: SweepFolder, config: SweepConfig) -> Mapping[int, State]:
    """What the ledger says of each trial. One that a pruner had just stopped has ended too. Raises Unreadable."""
    from medtune.search.ledger import Ledger

    try:
        entries = Ledger(folder, config).entries()
    except Exception as error:  # whatever a library makes of a damaged file
        said = (str(error).splitlines() or [""])[0]
        raise Unreadable(f"{folder.ledger} cannot be read: {type(error).__name__}: {said}") from error
    return {entry.number: "pruned" if entry.stopped else entry.state for entry in entries}


def _of_the_journal(folder: SweepFolder, config: SweepConfig) -> Iterator[Leftover]:
    lock = folder.ledger.with_name(f"{folder.ledger.name}.lock")
    if lock.is_symlink() or lock.exists():
        yield Leftover(f"{lock}: a dead process held this lock", "removes it", lock.unlink)
    if is_torn(folder.ledger):
        from medtune.search.storage import open_storage

        mend = partial(open_storage, folder, config, write=True)
        yield Leftover(f"{folder.ledger}: its last line was cut short", "takes that line away", mend)


def _torn_epochs(folder: SweepFolder) -> Iterator[Leftover]:
    for path in sorted(folder.path.glob("trials/*/epochs.jsonl")):
        number = int(path.parent.name)
        if is_torn(path) or len(path.read_bytes().splitlines()) > len(folder.epochs(number)):
            yield Leftover(f"{path}: a line was cut short", "takes that line away", partial(folder.mend_epochs, number))


def _temporaries(folder: SweepFolder, config: SweepConfig) -> Iterator[Leftover]:
    roots = {folder.path}
    if config.cluster.storage and "://" not in config.cluster.storage:  # in an object store nothing is half there
        roots.add(Path(folder.storage(config.cluster.storage, "trials")))
    for root in sorted(roots):
        for path in sorted(root.rglob("*")):
            if path.is_file() and any(fnmatch(path.name, pattern) for pattern in TEMPORARY):
                yield Leftover(f"{path}: was never finished", "removes it", path.unlink)


def _half_finished(folder: SweepFolder, config: SweepConfig, watchers: MakeWatchers) -> Iterator[Leftover]:
    """Trials that have ended, with the checkpoints from which the last files are still to be written."""
    try:
        ended = [number for number, state in states_of(folder, config).items() if state != "unfinished"]
    except Unreadable as error:
        yield Leftover(str(error), "bring back a copy of it")
        return
    shared = config.cluster.storage
    left = [number for number in ended if Attempts(folder.storage(shared, f"trials/{number:04d}")).current()]
    if left:
        named = ", ".join(map(str, left))
        what = f"{folder.path / 'trials'}: ended, with checkpoints that nobody needs once all is written: {named}"
        yield Leftover(what, "writes what is missing and removes them", partial(_finish, folder, config, watchers))


def _finish(folder: SweepFolder, config: SweepConfig, watchers: MakeWatchers) -> None:
    """What a driver does first of all."""
    from medtune.search.ledger import Ledger
    from medtune.search.pruning import KeepAll
    from medtune.search.resources import Share
    from medtune.search.run import SweepRun
    from medtune.search.sweep import JobMaker

    jobs, ledger = JobMaker(config, Share("cpu", 1, 0.0, 1)), Ledger(folder, config, write=True)
    SweepRun(folder, config, ledger, KeepAll(), jobs, watchers()).close()


def _throwaways(folder: SweepFolder) -> Iterator[Leftover]:
    """Ray's own folders of drivers that were killed. Their jobs name the folder that they wrote to."""
    ours = f'"{folder.path}/'.encode()
    found = set()
    for state in Path(tempfile.gettempdir()).glob("medtune-*/sweep/experiment_state-*.json"):
        try:
            if ours in state.read_bytes():
                found.add(state.parents[1])
        except OSError:  # somebody else's
            continue
    for path in sorted(found):
        yield Leftover(f"{path}: of a driver that was killed", "removes it", partial(shutil.rmtree, path))
