"""The verbs. Each imports what it needs itself, so that a wrong file is refused before Ray or torch are there."""

import sys
import time
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


@app.command()
def sweep(
    file: File,
    set_: Sets = None,
    folder: Annotated[Path | None, typer.Option(help="where the sweep goes; runs/NAME unless given")] = None,
    json: Json = False,
) -> None:
    """Run a sweep."""
    from medtune.config.read import read_sweep

    config = read_sweep(file, set_ or [])
    from medtune.search.sweep import create_sweep
    from medtune.tracking.earlier import sweeps_of_experiment

    _run(*create_sweep(config, folder, sweeps_of_experiment), json)


@app.command()
def resume(
    folder: Folder,
    trials: Annotated[int | None, typer.Option(min=1, help="how many in all, to make the sweep longer")] = None,
    json: Json = False,
) -> None:
    """Go on with a sweep that was killed or interrupted, or make a finished one longer."""
    from medtune.search.sweep import reopen_sweep

    _run(*reopen_sweep(folder, trials), json)


def _run(folder: Any, config: Any, json: bool) -> None:
    """Runs what the folder lacks, and says what came of it."""
    from medtune.cli.progress import watch
    from medtune.search.sweep import run_sweep
    from medtune.tracking.tracker import Tracker

    started = time.monotonic()
    with Tracker(folder, config) as tracker, watch(config.search.metric, config.direction) as progress:
        finished = run_sweep(folder, config, [tracker.watcher(), *_event_files(folder, config), progress])
    from medtune.cli.text import command, print_json, summary_lines
    from medtune.search.summary import Summary

    summary, seconds = Summary(folder, config), time.monotonic() - started
    text = [
        *summary_lines(summary),
        f"folder   {folder.path}, {seconds:.0f} s",
        f"browse   {command('ui', folder.path)}",
        f"next     {command('select', folder.path)}" if finished else f"go on    {command('resume', folder.path)}",
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
    """Say how far a sweep is, and what is best so far."""
    from medtune.cli.text import print_json, summary_lines
    from medtune.search.folder import SweepFolder
    from medtune.search.plan import wanted_trials
    from medtune.search.summary import Summary

    opened = SweepFolder.open(folder)
    config, running = opened.config(), opened.running
    summary = Summary(opened, config)
    ended = sum(summary.counts.values()) - summary.counts["unfinished"]
    complete = ended >= wanted_trials(config)
    word = "running" if running else "finished" if complete else f"stopped: `medtune resume {folder}` goes on with it"
    print("\n".join([*summary_lines(summary), f"state    {word}"]), file=sys.stderr if json else sys.stdout)
    if json:
        print_json({**summary.as_json(), "running": running, "wanted": wanted_trials(config)})


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
    file: Annotated[Path | None, typer.Argument(help="a sweep file, whose data and server are looked at too")] = None,
    set_: Sets = None,
    json: Json = False,
) -> None:
    """Look at versions, devices, threads, Ray, the tracking server and the data."""
    from medtune.config.read import read_sweep

    config = read_sweep(file, set_ or []) if file else None
    from medtune.cli.doctor import examine
    from medtune.cli.text import print_json

    findings = []
    for finding in examine(config):
        mark = "ok " if finding.right else "BAD"
        print(f"{mark} {finding.what:<18} {finding.found}", file=sys.stderr if json else sys.stdout, flush=True)
        findings.append(finding)
    if json:
        print_json({finding.what: {"right": finding.right, "found": finding.found} for finding in findings})
    if not all(finding.right for finding in findings):
        raise typer.Exit(1)


@tracking_app.command("sync")
def sync(folder: Folder) -> None:
    """Carry over to the tracking server what it does not have yet."""
    from medtune.config.write import without_password
    from medtune.search.folder import SweepFolder
    from medtune.tracking.mirror import drain
    from medtune.tracking.server import tracking_uri

    opened = SweepFolder.open(folder)
    uri = without_password(tracking_uri(opened.config().tracking, opened.path))
    if not drain(opened):
        print(f"{uri} cannot be reached; {opened.tracking / 'mirror.log'} says more", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{uri} has everything")
