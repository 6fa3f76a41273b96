"""What a killed driver has left on the tracking server: runs that nobody will end, and runs that nobody has made."""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from filelock import FileLock, Timeout

from medtune.config.sweep import SweepConfig
from medtune.config.write import without_password
from medtune.files import cut_torn_line, is_torn
from medtune.search.entries import State
from medtune.search.folder import SweepFolder
from medtune.search.leftovers import Leftover, Unreadable, states_of
from medtune.tracking.mirror import Mirror, drain
from medtune.tracking.refusals import Refused
from medtune.tracking.server import content, database_file, experiment_id, runs_of
from medtune.tracking.spool import STATUS, SWEEP, Spool, read_from

import mlflow  # isort: skip  # the mirror says first how often a request is tried
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

PARENT = "mlflow.parentRunId"


class NotReached(Exception):
    """The server has not taken what it lacks."""


def find_orphans(folder: SweepFolder, config: SweepConfig) -> Iterator[Leftover]:
    """One by one, as `find_leftovers` does. Only for a folder that no process holds. Without a ledger that can be read
    nothing is said of runs."""
    spool = folder.tracking / "spool.jsonl"
    if not spool.exists():
        return
    if _at_work(folder):
        yield Leftover(f"{folder.tracking}: the mirror is still at work", "say this again when it has ended")
        return
    if is_torn(spool):
        yield Leftover(f"{spool}: its last line was cut short", "takes that line away", partial(cut_torn_line, spool))
    mirror = Mirror(folder)
    shown = without_password(mirror.uri)
    waiting = sum(1 for _ in read_from(spool, mirror.state.offset))
    if waiting:
        what = f"{spool}: {waiting} lines are not on {shown} yet"
        yield Leftover(what, "carries them over", partial(_carry_over, folder))
    try:
        yield from _on_the_server(mirror.uri, folder, config, states_of(folder, config))
    except Unreadable:
        return
    except MlflowException as error:
        said = without_password((str(error).splitlines() or [""])[0])
        yield Leftover(f"{shown} cannot be asked for its runs: {said}", "say this again when it is back")


def _at_work(folder: SweepFolder) -> bool:
    try:
        with FileLock(folder.tracking / "mirror.lock").acquire(timeout=0):
            return False
    except Timeout:
        return True


def _carry_over(folder: SweepFolder) -> None:
    try:
        reached = drain(folder)
    except Refused as error:
        raise NotReached(str(error)) from None
    if not reached:
        raise NotReached(f"the server was not reached; `medtune tracking sync {folder.path}` does it later")


def _on_the_server(
    uri: str, folder: SweepFolder, config: SweepConfig, states: Mapping[int, State]
) -> Iterator[Leftover]:
    database = database_file(uri)
    if database and not database.exists():  # looking makes nothing
        return
    experiment, client = experiment_id(uri, config.tracking.experiment), mlflow.MlflowClient(uri)
    found = runs_of(client, experiment, folder) if experiment else {}
    for _, runs in sorted(found.items()):
        yield from _twins(client, runs)
    of_key = {key: runs[0] for key, runs in sorted(found.items())}
    for key, run in of_key.items():
        trial = re.fullmatch(r"trial-(\d+)", key)
        if trial and int(trial[1]) not in states:
            yield Leftover(f"{_named(run)}: the ledger has no such trial", "delete it on the server, or leave it")
        if run.info.status == "RUNNING":
            state = states.get(int(trial[1]), "unfinished") if trial else "interrupted"
            yield Leftover(
                f"{_named(run)}: RUNNING, and nobody works on it", "ends it", partial(_end, folder, key, state)
            )
        yield from _without_parent(client, run, of_key)


def _twins(client: mlflow.MlflowClient, runs: list[Run]) -> Iterator[Leftover]:
    """A server that was slow to answer may have made a run twice."""
    for run in runs[1:]:
        if content(run):
            yield Leftover(f"{_named(run)}: the second of that name", "delete that with less in it on the server")
        else:
            delete = partial(client.delete_run, run.info.run_id)
            yield Leftover(f"{_named(run)}: the second of that name, with nothing in it", "deletes it", delete)


def _end(folder: SweepFolder, key: str, state: str) -> None:
    """By way of the spool, so that any server that gets it later says the same."""
    tags = {} if key == SWEEP else {"state": state}
    Spool(folder.tracking / "spool.jsonl").end(key, STATUS.get(state, "KILLED"), tags)
    _carry_over(folder)


def _without_parent(client: mlflow.MlflowClient, run: Run, of_key: Mapping[str, Run]) -> Iterator[Leftover]:
    parent = run.data.tags.get(PARENT)
    if parent is None or parent in {other.info.run_id for other in of_key.values()}:
        return
    what = f"{_named(run)}: the run that it is below is not there"
    rightful = of_key.get(run.data.tags["medtune.run"].rpartition(".trial-")[0] or SWEEP)
    if rightful is None:
        yield Leftover(what, "the next `medtune resume` makes it, then say this again")
    else:
        move = partial(client.set_tag, run.info.run_id, PARENT, rightful.info.run_id)
        yield Leftover(what, "puts it below the one that is", move)


def _named(run: Run) -> str:
    return f"{run.data.tags['medtune.run']}, MLflow run {run.info.run_id}"
