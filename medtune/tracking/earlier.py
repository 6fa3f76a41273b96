"""Sweeps that an experiment of a tracking server knows, for `search.warm_start`."""

import ast
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from medtune.config.default import settings_at, start_points
from medtune.config.problems import ConfigError
from medtune.config.read import read_sweep
from medtune.config.sweep import SweepConfig
from medtune.config.write import without_password
from medtune.search.earlier import swept_names
from medtune.search.entries import Entry, State, broken_by, violation
from medtune.search.warm_start import EarlierSweep, EarlierTrial, shared_part
from medtune.tracking.server import database_file, runs_in, tracking_uri
from medtune.tracking.spool import SWEEP, trial_run


def sweeps_of_experiment(config: SweepConfig, folder: Path, name: str) -> Sequence[EarlierSweep]:
    """The sweeps of an experiment on the server of a sweep that is to lie in `folder`, the oldest first; what has no
    `sweep.yaml`, because it still runs or is no sweep, is left out with a line.

    Raises ConfigError where there is no such experiment, or no such server.
    """
    uri = tracking_uri(config.tracking, folder.absolute())
    try:
        return _sweeps(uri, name)
    except ConfigError:
        raise
    except Exception as error:  # whatever a server does
        reason = without_password((str(error).splitlines() or [""])[0])
        told = f"search.warm_start: {without_password(uri)} cannot be asked for {name}: {reason}"
        raise ConfigError([told]) from error


def _sweeps(uri: str, name: str) -> list[EarlierSweep]:
    database = database_file(uri)
    if database and not database.exists():  # asking would make it
        raise ConfigError([_nowhere(uri, name)])
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise ConfigError([_nowhere(uri, name)])
    runs = list(runs_in(client, str(experiment.experiment_id)))
    parents = sorted((run for run in runs if _is(run, SWEEP)), key=lambda run: run.info.start_time)
    found = [_sweep(client, parent, runs) for parent in parents]
    return [sweep for sweep in found if sweep is not None]


def _nowhere(uri: str, name: str) -> str:
    return (
        f"search.warm_start: {name} is neither the folder of a sweep nor an experiment of {without_password(uri)}; "
        "check the path or the name, and tracking.uri"
    )


def _is(run: Any, key: str) -> bool:
    return bool(run.data.tags.get("medtune.run") == key)


def _sweep(client: Any, parent: Any, runs: Iterable[Any]) -> EarlierSweep | None:
    """A sweep from its parent run and the runs of its trials; None where the parent has no file that can be read."""
    name = f"{parent.info.run_name} ({parent.info.run_id[:8]})"
    try:
        with tempfile.TemporaryDirectory(prefix="medtune-") as scratch:
            config = read_sweep(Path(client.download_artifacts(parent.info.run_id, "sweep.yaml", scratch)))
    except Exception as error:  # it still runs, it is of another version, its files have been removed
        reason = (str(error).splitlines() or [""])[0]
        print(
            f"warm start: {name} is left out: its sweep.yaml, which comes when it ends, cannot be read: {reason}",
            file=sys.stderr,
        )
        return None
    sweep_id = parent.data.tags.get("medtune.sweep_id")
    own = [run for run in runs if run.data.tags.get("medtune.sweep_id") == sweep_id]
    trials = [trial for run in own if (trial := _trial(run, config)) is not None]
    return EarlierSweep(name, config.direction, swept_names(config), trials)


def _trial(run: Any, config: SweepConfig) -> EarlierTrial | None:
    """A trial from its run: what was swept is in its params, the rest in the sweep's file. None for any other run."""
    number, state = run.data.tags.get("medtune.trial", ""), run.data.tags.get("medtune.state")
    if not number.isdigit() or not _is(run, trial_run(int(number))) or state not in get_args(State):
        return None
    part = shared_part(config.trial, _nested({name: _value(text) for name, text in run.data.params.items()}))
    point = start_points(config.trial, [part] if isinstance(part, Mapping) else [{}])[0]
    configuration = settings_at(config.trial, point).model_dump(mode="json")
    return EarlierTrial(_entry(int(number), state, run, config), configuration)


def _entry(number: int, state: State, run: Any, config: SweepConfig) -> Entry:
    best = {f"val/{name.removeprefix('best/')}": value for name, value in run.data.metrics.items() if "best/" in name}
    limits = {name: limit for name, limit in config.search.constraints.items() if name in best}
    value = best.get(config.search.metric, math.nan)
    return Entry(number, state, value=value, violation=violation(broken_by(best, limits)))


def _value(text: str) -> Any:
    """What a param was before it became text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of values by dotted name."""
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *above, key = name.split(".")
        node = tree
        for step in above:
            node = node.setdefault(step, {})
        node[key] = value
    return tree
