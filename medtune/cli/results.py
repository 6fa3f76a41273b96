"""The verbs of a sweep that has trials: its winner retrained, the test opened, all of it evaluated and reported."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medtune.cli.arguments import Folder, Json


def retrain(
    folder: Folder,
    seeds: Annotated[int | None, typer.Option(min=1, help="how many models; as the file says unless given")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="the winner's best epoch unless given")] = None,
    test_curves: Annotated[
        bool, typer.Option("--test-curves", help="once the test is open: train, val and test after every epoch")
    ] = False,
    json: Json = False,
) -> None:
    """Train the best trial's configuration on the full train set."""
    from medtune.cli.text import command, print_json, say
    from medtune.search.folder import SweepFolder

    if test_curves and (seeds or epochs):
        raise typer.BadParameter("--test-curves trains what was retrained last: leave --seeds and --epochs out")
    opened = SweepFolder.open(folder)
    opened.lock()
    config = opened.config()
    if test_curves:
        return _test_curves(opened, config, json)
    from medtune.retrain import plan_retrain
    from medtune.tracking.retrained import retrain_tracked

    chosen = plan_retrain(opened, config, seeds, epochs)
    told = f"trial {chosen.trial} for {chosen.stop} epochs on {chosen.train_on}, {chosen.seeds} seeds"
    print(told, file=sys.stderr)
    paths = retrain_tracked(opened, config, chosen, say)
    shown = [str(path) for path in paths]
    if json:
        print_json({"trial": chosen.trial, "epochs": chosen.stop, "train_on": chosen.train_on, "models": shown})
    else:
        print("\n".join([*(f"model    {path}" for path in shown), f"next     {command('test', opened.path)}"]))


def _test_curves(folder: Any, config: Any, json: bool) -> None:
    """Draws the curves of the first retrained model, and says where they are."""
    from medtune.cli.text import curves_lines, print_json, say
    from medtune.tracking.retrained import curves_tracked

    result = curves_tracked(folder, config, say)
    if json:
        print_json(result)
    else:
        print("\n".join(curves_lines(result)))


def test(folder: Folder, json: Json = False) -> None:
    """Open the sealed test for the retrained model."""
    from medtune.cli.text import show, test_lines
    from medtune.search.folder import SweepFolder

    opened = SweepFolder.open(folder)
    opened.lock()
    from medtune.tracking.retrained import test_tracked

    result = test_tracked(opened, opened.config())
    show(test_lines(result), result, json)


def evaluate(
    folder: Folder,
    trial: Annotated[int | None, typer.Option(min=0, help="its number; the best one unless given")] = None,
    against: Annotated[int | None, typer.Option(min=0, help="a trial to compare it with; 0 unless given")] = None,
    test: Annotated[bool, typer.Option("--test", help="the retrained model on the test, once that is open")] = False,
    json: Json = False,
) -> None:
    """All that can be said of a trial: calibration, thresholds, errors, robustness; numbers and figures."""
    from medtune.cli.text import evaluation_lines, say, show
    from medtune.search.folder import SweepFolder

    if test and (trial, against) != (None, None):
        raise typer.BadParameter("--test is of the retrained model: leave --trial and --against out")
    opened = SweepFolder.open(folder)
    opened.lock()
    from medtune.tracking.evaluated import evaluate_tracked

    found = evaluate_tracked(opened, opened.config(), trial, against, test, say)
    show(evaluation_lines(found), found, json)


def report(folder: Folder, json: Json = False) -> None:
    """Write what a reader gets: report.html, which needs nothing beside itself, and report.md."""
    from medtune.cli.text import say, show
    from medtune.search.folder import SweepFolder

    opened = SweepFolder.open(folder)
    opened.lock()
    from medtune.tracking.evaluated import report_tracked

    html, markdown = report_tracked(opened, opened.config(), say)
    show([f"report   {html}", f"report   {markdown}"], {"html": str(html), "markdown": str(markdown)}, json)


def predict(
    model: Annotated[Path, typer.Argument(help="a folder with a model, such as runs/NAME/retrain/model")],
    images: Annotated[list[Path], typer.Argument(help="pictures, and folders of pictures")],
    out: Annotated[Path | None, typer.Option(help="a CSV file; stdout unless given", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="a JSON object a line in the place of CSV")] = False,
) -> None:
    """Ask a retrained model about pictures: recalibrated probabilities and a decision for each."""
    from medtune.cli.text import answer_line, head_of_answers
    from medtune.predict import Predictor, pictures_below

    predictor, paths, bad = Predictor(model), pictures_below(images), 0
    with out.open("w", newline="") if out else contextlib.nullcontext(sys.stdout) as file:
        if not json:
            file.write(head_of_answers(predictor.classes))
        for answer in predictor.answers(paths):
            if answer.why:
                bad += 1
                print(f"{answer.path}: {answer.why}", file=sys.stderr)
            else:
                file.write(answer_line(answer, predictor.classes, json))
    if bad:
        print(f"{bad} of {len(paths)} files could not be read; the others were answered", file=sys.stderr)
        raise typer.Exit(1)
