"""The verbs. Each imports what it needs itself, so that a wrong file is refused before Ray or torch are there."""

import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medtune.cli.arguments import File, Folder, Json, Sets
from medtune.cli.data import data_app
from medtune.cli.model import model_app
from medtune.cli.replay import replay
from medtune.cli.results import evaluate, predict, report, retrain, select, test

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Honest, crash-proof hyperparameter sweeps for medical image classification.",
)
app.add_typer(data_app, name="data")
app.add_typer(model_app, name="model")
tracking_app = typer.Typer(no_args_is_help=True, help="The tracking server.")
app.add_typer(tracking_app, name="tracking")


FolderToMake = Annotated[Path | None, typer.Option(help="where the sweep goes; runs/NAME unless given")]


@app.command()
def sweep(file: File, set_: Sets = None, folder: FolderToMake = None, json: Json = False) -> None:
    """Run a sweep."""
    _begin("sweep", file, set_, folder, json)


@app.command()
def pretrain(file: File, set_: Sets = None, folder: FolderToMake = None, json: Json = False) -> None:
    """Run a sweep of pretrainings, whose best encoder others begin with: trial.model.weights: FOLDER."""
    _begin("pretrain", file, set_, folder, json)


def _begin(verb: str, file: Path, set_: list[str] | None, folder: Path | None, json: bool) -> None:
    from medtune.config.read import read_sweep

    config = read_sweep(file, set_ or [])
    from medtune.config.kinds import verb_of
    from medtune.config.problems import ConfigError
    from medtune.search.folder import HoldsASweep, SweepFolder
    from medtune.tracking.server import refuse_network_file_system, tracking_uri

    if verb_of(config.trial) != verb:
        raise ConfigError(
            [f"{file}: this is a file for `medtune {verb_of(config.trial)}`; say that in the place of {verb}"]
        )
    where = folder or Path("runs") / config.sweep
    refuse_network_file_system(config.tracking, where)
    try:
        claimed = SweepFolder.claim(where)  # before what takes seconds to import: one of many at once gets it
    except HoldsASweep:
        from medtune.search.changes import there_already

        raise there_already(where, file, config) from None
    from medtune.search.sweep import create_sweep
    from medtune.tracking.earlier import sweeps_of_experiment
    from medtune.tracking.registry import fetch_model

    server = tracking_uri(config.tracking, claimed.path)
    _run(*create_sweep(config, claimed, sweeps_of_experiment, partial(fetch_model, uri=server)), json)


@app.command()
def resume(
    folder: Folder,
    trials: Annotated[int | None, typer.Option(min=1, help="how many in all, to make the sweep longer")] = None,
    set_: Sets = None,
    json: Json = False,
) -> None:
    """Go on with a sweep that was killed or interrupted, or make a finished one longer."""
    from medtune.search.folder import SweepFolder

    opened = SweepFolder.open(folder)
    opened.lock()
    from medtune.config.read import read_sweep
    from medtune.search.sweep import reopen_sweep
    from medtune.tracking.server import refuse_network_file_system

    overrides = [*(set_ or []), *([] if trials is None else [f"search.trials={trials}"])]
    refuse_network_file_system(read_sweep(opened.config_file, overrides).tracking, opened.path)
    _run(*reopen_sweep(opened, overrides), json)


def _run(folder: Any, config: Any, json: bool) -> None:
    """Runs what the folder lacks, and says what came of it."""
    from medtune.cli.text import command, next_line, print_json, summary_lines
    from medtune.search.failures import NoRoom

    started = time.monotonic()
    try:
        tracker, finished = _run_tracked(folder, config)
    except (KeyboardInterrupt, NoRoom):  # before anything ran, or a second one; a full disk, or a storage that is away
        print(f"go on    {command('resume', folder.path)}", file=sys.stderr)
        raise
    from medtune.search.summary import Summary

    summary, seconds = Summary(folder, config), time.monotonic() - started
    text = [
        *summary_lines(summary),
        f"folder   {folder.path}, {seconds:.0f} s",
        f"browse   {command('ui', folder.path)}",
        next_line(summary) if finished else f"go on    {command('resume', folder.path)}",
    ]
    if not tracker.reached:
        text.append(f"tracking {tracker.uri} was not reached; later: {command('tracking sync', folder.path)}")
    print("\n".join(text), file=sys.stderr if json else sys.stdout)
    if json:
        tracking = {"tracking_uri": tracker.uri, "parent_run_id": tracker.parent_run_id}
        print_json({**summary.as_json(), **tracking, "seconds": seconds})
    folder.unlock()
    if not finished:
        raise typer.Exit(130)
    if summary.best is None:
        notes = {entry.note for entry in summary.entries if entry.note}
        print("every trial failed: " + "; ".join(sorted(notes)), file=sys.stderr)
        raise typer.Exit(1)


def _run_tracked(folder: Any, config: Any) -> tuple[Any, bool]:
    """The tracker, and whether the sweep is complete. Raises NoRoom."""
    from medtune.cli.progress import watch
    from medtune.search.failures import NoRoom, kind_of
    from medtune.search.sweep import run_sweep
    from medtune.tracking.tracker import Tracker

    with Tracker(folder, config) as tracker, watch(config.search.metric, config.direction) as progress:
        trials = tracker.watcher()
        try:
            finished = run_sweep(folder, config, [trials, *_event_files(folder, config), progress])
            _keep_encoder(tracker, folder, config, finished)
            return tracker, finished
        except KeyboardInterrupt:
            trials.closed(interrupted=True)
            raise
        except Exception as error:
            if kind_of(error) != "storage":
                raise
            raise NoRoom(f"stopped: {error}; nothing is lost, go on when that is put right") from error


def _keep_encoder(tracker: Any, folder: Any, config: Any, finished: bool) -> None:
    """Of a pretraining: that of the best trial so far; it is registered once there will be no better one."""
    from medtune.config.kinds import PRETRAIN, section_of

    if section_of(config.trial) != PRETRAIN:
        return
    from medtune.encoders import keep_encoder

    path = keep_encoder(folder, config)
    if path is not None and finished:
        from medtune.tracking.encoders import track_encoder

        track_encoder(tracker, folder, path)


def _event_files(folder: Any, config: Any) -> list[Any]:
    """Who writes TensorBoard's events, where they are wanted."""
    if not config.tracking.tensorboard:
        return []
    from medtune.tracking.tensorboard import EventFiles

    return [EventFiles(folder, config)]


@app.command()
def plan(file: File, set_: Sets = None, json: Json = False) -> None:
    """Say what a sweep would run, how long it would take, and what would be stopped early."""
    from medtune.config.read import read_sweep

    config = read_sweep(file, set_ or [])
    from medtune.search.paths import from_anywhere
    from medtune.tracking.registry import fetch_model
    from medtune.tracking.server import tracking_uri

    server = tracking_uri(config.tracking, (Path("runs") / config.sweep).absolute())
    config = from_anywhere(config, partial(fetch_model, uri=server))
    from medtune.cli.planned import as_json, planned_lines
    from medtune.cli.text import print_json
    from medtune.search.plan import describe_space, estimate, wanted_trials
    from medtune.search.resources import share_of_this_machine
    from medtune.search.sweep import longest

    share = share_of_this_machine(config)
    space, trials, epochs = describe_space(config.trial), wanted_trials(config), longest(config.trial)
    told = [f"{config.sweep}: {trials} trials of up to {epochs} epochs, {share.concurrent} at once on {share.device}"]
    told += [f"data     {config.data.title} at {config.data.side} px", f"search   {config.search.sampler}"]
    told += [f"pruning  {config.pruning.name}", f"space    {len(space)} dimensions"] + [f"  {line}" for line in space]
    print("\n".join(told), file=sys.stderr if json else sys.stdout, flush=True)
    estimated = estimate(config, share)
    print("\n".join(planned_lines(estimated)), file=sys.stderr if json else sys.stdout)
    if json:
        print_json({"sweep": config.sweep, "trials": trials, "epochs": epochs, "space": space, **as_json(estimated)})


@app.command()
def status(folder: Folder, json: Json = False) -> None:
    """Say how far a sweep is, what is best so far, and on which machines it runs."""
    from medtune.cli.text import machine_lines, show, summary_lines
    from medtune.search.folder import SweepFolder
    from medtune.search.plan import wanted_trials
    from medtune.search.summary import Summary
    from medtune.search.usage import Usage

    opened = SweepFolder.open(folder)
    config, running = opened.config(), opened.running
    summary = Summary(opened, config)
    ended = sum(summary.counts.values()) - summary.counts["unfinished"]
    complete = ended >= wanted_trials(config)
    word = "running" if running else "finished" if complete else f"stopped: `medtune resume {folder}` goes on with it"
    used = Usage(opened, config, running)
    lines = [*summary_lines(summary), f"state    {word}", *machine_lines(used)]
    result = {**summary.as_json(), "running": running, "wanted": wanted_trials(config), **used.as_json()}
    show(lines, result, json)


for verb in (select, retrain, test, evaluate, report, predict, replay):
    app.command()(verb)


@app.command()
def check(file: File, set_: Sets = None) -> None:
    """Say whether a sweep file is right, and if not, all that is wrong with it."""
    from medtune.config.read import read_sweep
    from medtune.config.space import distributions

    config = read_sweep(file, set_ or [])
    dimensions = sum(1 for _ in distributions(config.trial))
    print(f"{file}: right; {config.search.trials} trials over {dimensions} dimensions of {config.data.title}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a sweep file, for editors."""
    import json

    from medtune.config.json_schema import sweep_schema

    print(json.dumps(sweep_schema(), indent=2))


@app.command()
def ui(
    folder: Annotated[Path, typer.Argument(help="the folder of a sweep, or the one of all sweeps")] = Path("runs"),
    port: Annotated[int, typer.Option(help="on this machine")] = 5000,
) -> None:
    """Open the MLflow UI on the sweeps. It is seen from this machine alone."""
    from medtune.tracking.ui import serve

    raise typer.Exit(serve(folder, port))


@app.command()
def doctor(
    file: Annotated[
        Path | None,
        typer.Argument(help="a sweep file, whose data and server are looked at too, or the folder of a sweep"),
    ] = None,
    set_: Sets = None,
    fix: Annotated[bool, typer.Option("--fix", help="of a folder: mend what killed processes have left")] = False,
    json: Json = False,
) -> None:
    """Look at versions, devices, threads, Ray, the tracking server and the data; or at a sweep and its runs."""
    from medtune.cli.doctor import examine, examine_folder
    from medtune.cli.text import print_json
    from medtune.config.read import read_sweep

    of_folder = file is not None and file.is_dir()
    if fix and not of_folder:
        raise typer.BadParameter("give the folder of a sweep: `medtune doctor --fix runs/NAME`", param_hint="--fix")
    if set_ and of_folder:
        raise typer.BadParameter("a folder has its own sweep.yaml", param_hint="--set")
    config = read_sweep(file, set_ or []) if file and not of_folder else None
    findings = []
    for finding in examine_folder(file, fix) if file and of_folder else examine(config):
        mark = "ok " if finding.right else "BAD"
        print(f"{mark} {finding.what:<18} {finding.found}", file=sys.stderr if json else sys.stdout, flush=True)
        findings.append(finding)
    if json and of_folder:
        print_json({"folder": str(file), "findings": [asdict(finding) for finding in findings]})
    elif json:
        print_json({finding.what: {"right": finding.right, "found": finding.found} for finding in findings})
    if not all(finding.right for finding in findings):
        raise typer.Exit(1)


@tracking_app.command("sync")
def sync(folder: Folder) -> None:
    """Carry over to the tracking server what it does not have yet."""
    from medtune.config.write import without_password
    from medtune.search.folder import SweepFolder
    from medtune.tracking.mirror import AtWork, drain
    from medtune.tracking.refusals import Refused
    from medtune.tracking.server import tracking_uri

    opened = SweepFolder.open(folder)
    uri = without_password(tracking_uri(opened.config().tracking, opened.path))
    try:
        reached = drain(opened)
    except (AtWork, Refused) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    if not reached:
        print(f"{uri} cannot be reached, as said above; say this again when it is back", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{uri} has everything")
