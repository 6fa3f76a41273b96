"""The verbs of a sweep that has trials: its winner retrained, the test opened, all of it evaluated and reported."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from medtune.cli.arguments import Again, Folder, Json
from medtune.cli.model import model_folder


def select(
    folder: Folder,
    finalists: Annotated[
        int | None, typer.Option(min=0, help="so many of the best are trained again, and decide; 0: none that did")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="fresh ones for each finalist")] = 3,
    json: Json = False,
) -> None:
    """Say which trial to believe, and what its score is worth. No look at the test; no training without --finalists."""
    from medtune.cli.text import command, ensemble_option, going_on, say, selection_lines, show
    from medtune.search.folder import SweepFolder

    opened = SweepFolder.open(folder)
    opened.lock()
    from medtune.tracking.selected import select_tracked

    with going_on(opened.path, "select"):
        found = select_tracked(opened, opened.config_of_trials(), finalists, seeds, say)
    lines = [*selection_lines(found), f"next     {command('retrain', opened.path)}"]
    if option := ensemble_option(found):
        lines.append(f"or       {command('retrain', opened.path)} {option}")
    show(lines, found, json)


def retrain(
    folder: Folder,
    trial: Annotated[int | None, typer.Option(min=0, help="its number; what `select` says unless given")] = None,
    ensemble: Annotated[int | None, typer.Option(min=2, help="of so many trials at the most")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="the ensemble by greedy search, not by bagging")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="how many models; as the file says unless given")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="the chosen epoch unless given")] = None,
    train_on: Annotated[str | None, typer.Option(help="train or train+val; as the file says unless given")] = None,
    default: Annotated[bool, typer.Option(help="train the untuned default too, to be compared with")] = True,
    test_curves: Annotated[
        bool, typer.Option("--test-curves", help="once the test is open: train, val and test after every epoch")
    ] = False,
    again: Again = False,
    json: Json = False,
) -> None:
    """Train what was chosen on the full train set: the winner, another trial, or an ensemble."""
    from medtune.search.folder import SweepFolder

    if test_curves and (trial, ensemble, seeds, epochs, train_on, greedy, default) != (*(None,) * 5, False, True):
        raise typer.BadParameter("--test-curves trains what was retrained last: leave the other options out")
    if again and not test_curves:
        raise typer.BadParameter("--again is for --test-curves: nothing else of a retraining looks at the test")
    if greedy and ensemble is None:
        raise typer.BadParameter("--greedy says how an ensemble is chosen: give --ensemble K too")
    if trial is not None and ensemble is not None:
        raise typer.BadParameter("--trial is one model and --ensemble is several: leave one of them out")
    if train_on not in (None, "train", "train+val"):
        raise typer.BadParameter(f"--train-on {train_on}: write train, or train+val")
    opened = SweepFolder.open(folder)
    opened.lock()
    config = opened.config_of_trials()
    if test_curves:
        return _test_curves(opened, config, again, json)
    from medtune.cli.text import command, going_on, say, show
    from medtune.retraining.plan import plan_before, plan_retrain
    from medtune.select import ensemble as ensemble_of
    from medtune.select import one_trial, winner
    from medtune.tracking.retrained import retrain_tracked

    if ensemble is not None:
        chosen = ensemble_of(opened, config, "greedy" if greedy else "bagged", ensemble)
    else:
        chosen = winner(opened, config, say) if trial is None else one_trial(opened, config, trial)
    plan = plan_retrain(opened, config, chosen, seeds, epochs, cast(Any, train_on), default)
    beside = " and the untuned default" if plan.default else ""
    say(f"{plan.chosen}{beside} on {plan.train_on}, seeds: {plan.seeds}")
    if (before := plan_before(opened)) not in (None, plan):
        say(f"what was retrained before makes way: {before.chosen}")
    with going_on(opened.path, "retrain"):
        paths = retrain_tracked(opened, config, plan, say)
    shown = [str(path) for path in paths]
    result = {"chosen": plan.chosen, "trial": plan.trial, "train_on": plan.train_on, "models": shown}
    show([*(f"model    {path}" for path in shown), f"next     {command('test', opened.path)}"], result, json)


def _test_curves(folder: Any, config: Any, again: bool, json: bool) -> None:
    """Draws the curves of the first retrained model, and says where they are."""
    from medtune.cli.text import curves_lines, say, show
    from medtune.tracking.retrained import curves_tracked

    result = curves_tracked(folder, config, say, again)
    show(curves_lines(result), result, json)


def test(
    folder: Folder,
    again: Again = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="make it the champion of the registry, whatever the other one has")
    ] = False,
    json: Json = False,
) -> None:
    """Open the sealed test for the retrained model, which becomes the champion of the registry unless it is worse."""
    from medtune.cli.text import show, test_lines
    from medtune.search.folder import SweepFolder

    opened = SweepFolder.open(folder)
    opened.lock()
    from medtune.tracking.registry import in_words
    from medtune.tracking.retrained import test_tracked

    result = test_tracked(opened, opened.config_of_trials(), again, promote)
    show([*test_lines(result), in_words(result["registry"])], result, json)


def evaluate(
    folder: Folder,
    trial: Annotated[int | None, typer.Option(min=0, help="its number; the best one unless given")] = None,
    against: Annotated[int | None, typer.Option(min=0, help="a trial to compare it with; 0 unless given")] = None,
    test: Annotated[bool, typer.Option("--test", help="the retrained model on the test, once that is open")] = False,
    again: Again = False,
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

    found = evaluate_tracked(opened, opened.config_of_trials(), trial, against, test, again, say)
    show(evaluation_lines(found), found, json)


def report(
    folder: Folder,
    label_efficiency: Annotated[
        bool, typer.Option("--label-efficiency", help="of a sweep over data.labels: what few labels are worth")
    ] = False,
    test: Annotated[bool, typer.Option("--test", help="of that, on the test, which is opened for it")] = False,
    again: Again = False,
    json: Json = False,
) -> None:
    """Write what a reader gets: report.html, which needs nothing beside itself, and report.md."""
    from medtune.cli.text import say, show
    from medtune.search.folder import SweepFolder

    if (test or again) and not (label_efficiency and (test or not again)):
        raise typer.BadParameter(
            "--test is for --label-efficiency, and --again for --test: `medtune test` opens it else"
        )
    opened = SweepFolder.open(folder)
    opened.lock()
    from medtune.tracking.evaluated import label_efficiency_tracked, report_tracked

    config = opened.config_of_trials()
    if label_efficiency:
        html, markdown = label_efficiency_tracked(opened, config, test, again)
    else:
        html, markdown = report_tracked(opened, config, say)
    show([f"report   {html}", f"report   {markdown}"], {"html": str(html), "markdown": str(markdown)}, json)


def predict(
    model: Annotated[
        str,
        typer.Argument(help="a folder such as runs/NAME/retrain/model, or models:/NAME@champion", show_default=False),
    ],
    images: Annotated[list[Path], typer.Argument(help="pictures, folders of pictures, .npz files", show_default=False)],
    array: Annotated[str | None, typer.Option(help="which array of each .npz; its only images unless given")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="where models:/ is: an address, or a folder")] = None,
    out: Annotated[Path | None, typer.Option(help="a CSV file; stdout unless given", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="a JSON object a line in the place of CSV")] = False,
) -> None:
    """Ask a model about pictures: calibrated probabilities, a decision, and whether they are like its data."""
    from medtune.cli.text import answer_line, head_of_answers
    from medtune.trained.inputs import sources
    from medtune.trained.pictures import Predictor

    given, total, bad = sources(images, array), 0, 0
    predictor = Predictor(model_folder(model, tracking_uri))
    with out.open("w", newline="") if out else contextlib.nullcontext(sys.stdout) as file:
        if not json:
            file.write(head_of_answers(predictor.classes))
        for answer in predictor.answers(given):
            total += 1
            if answer.why:
                bad += 1
                print(f"{answer.path}: {answer.why}", file=sys.stderr)
            else:
                file.write(answer_line(answer, predictor.rule, json))
    if bad:
        print(f"{bad} of {total} pictures could not be read; the others were answered", file=sys.stderr)
        raise typer.Exit(1)
