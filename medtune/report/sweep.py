"""The report of a sweep: what was searched, what won, how sure that is, and how to get it again."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medtune.config.write import sweep_text, without_password
from medtune.data.catalogue import describe
from medtune.data.splits import data_md5
from medtune.frames import HIGH, LOW, Sweep
from medtune.report.document import Block, Bullets, Commands, Document, Picture, Section, Table, Text
from medtune.report.evaluation import evaluation_sections, points_table
from medtune.report.words import interval, number
from medtune.search.entries import ranked
from medtune.search.plan import describe_space
from medtune.search.run import DEFAULT_TRIAL

SHOWN_TRIALS = 10


def sweep_document(sweep: Sweep, evaluation: Mapping[str, Any], pictures: Path, overview: Path) -> Document:
    """evaluation: of the best trial, as `evaluation.json` has it, and `pictures` the folder of its figures; overview:
    that of the whole sweep's. A figure that is not there is left out."""
    info = describe(sweep.config.data)
    return Document(
        f"Sweep {sweep.config.sweep}: {info.title}",
        list(_verdict(sweep, evaluation)),
        [
            Section("What was searched", list(_searched(sweep))),
            Section("What won", list(_won(sweep))),
            Section("How the search went", list(_overview(overview))),
            *evaluation_sections(evaluation, pictures),
            Section("The sealed test", list(_test(sweep))),
            Section("What it cost", list(_cost(sweep))),
            Section("How to get it again", list(_again(sweep))),
        ],
    )


def _verdict(sweep: Sweep, evaluation: Mapping[str, Any]) -> Iterator[Block]:
    best, counts = sweep.trials.loc[evaluation["trial"]], sweep.trials["state"].value_counts()
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    yield Text(f"{len(sweep.trials)} trials ({states}); chosen by {sweep.metric}.")
    yield Text(
        f"Best: trial {best['number']} at epoch {best['best_epoch']}, validation AUROC "
        f"{interval(evaluation['discrimination']['auroc'])} on {evaluation['cases']:,} cases. {_optimism(sweep)}"
    )
    against = evaluation["against"]
    if against and against["auroc"]["value"] is not None:
        difference = against["auroc"]
        sure = (
            "better than"
            if difference["low"] > 0
            else "worse than"
            if difference["high"] < 0
            else "not told apart from"
        )
        p = number(difference["p"])
        yield Text(
            f"AUROC less that of the untuned default (trial {against['trial']}): {interval(difference)}, p = {p}. "
            f"On these cases the winner is {sure} the default, before the luck of the choice is counted."
        )
    if best["number"] == DEFAULT_TRIAL:
        yield Text("That is the untuned default itself: of the trials that ended, tuning found none that is better.")
    yield Text(_test_line(sweep), "plain" if sweep.test else "pale")


def _optimism(sweep: Sweep) -> str:
    looks = len(sweep.epochs)
    return (
        f"That is the best of {looks:,} looks at the same cases, {len(sweep.trials)} trials and each of their epochs: "
        "it reads higher than a new set of cases would, and the interval knows nothing of it."
    )


def _test_line(sweep: Sweep) -> str:
    if sweep.test is None:
        return "The test split is still sealed: nothing in this report has seen it."
    test = sweep.test
    opened = "once" if sweep.looks == 1 else f"{sweep.looks} times"
    return (
        f"Sealed test, opened {opened}, look {test['looks']}: AUROC {interval(test['auroc'])} on "
        f"{test['cases']:,} cases."
    )


def _searched(sweep: Sweep) -> Iterator[Block]:
    config, info = sweep.config, describe(sweep.config.data)
    cases = ", ".join(f"{split} {count:,}" for split, count in info.cases.items())
    if config.data.train_fraction < 1:
        cases += f"; searched on {config.data.train_fraction:.0%} of train"
    yield Table(
        ["", ""],
        [
            ["data", f"{info.title} ({config.data.title}), {config.data.side} px"],
            ["task", f"{info.task}: {', '.join(info.classes)}"],
            ["cases", cases],
            ["licence", info.licence],
            ["search", f"{config.search.sampler}, {config.search.trials} trials, by {config.search.metric}"],
            ["pruning", config.pruning.name],
        ],
    )
    yield Text("The space, a line for each dimension:")
    yield Bullets(describe_space(config.trial))
    if info.traps:
        yield Text("What is known to be wrong with this data:")
        yield Bullets(info.traps)


def _won(sweep: Sweep) -> Iterator[Block]:
    best = sweep.best
    assert best is not None  # there is an evaluation
    default = sweep.trials.loc[DEFAULT_TRIAL]
    rows = [[name, _shown(best[name]), _shown(default[name])] for name in sweep.swept]
    yield Table(["", f"trial {best['number']}", "default"], rows)
    first = [entry.number for entry in ranked(sweep.entries, sweep.config.direction)[:SHOWN_TRIALS]]
    yield Text(
        "The trials in the order in which they are chosen, and how little their intervals tell them apart. Complete "
        "ones come first: a pruned one was stopped before its last epoch, and cannot win, however high it was."
    )
    yield Table(
        ["trial", "state", "epoch", "val AUROC", "95 %", "val ECE", "accuracy"],
        [
            [
                str(row["number"]),
                row["state"],
                str(row["best_epoch"]),
                number(row["val/auroc"]),
                "" if math.isnan(row[LOW]) else f"{number(row[LOW])} to {number(row[HIGH])}",
                number(row["val/ece"]),
                number(row["val/accuracy"]),
            ]
            for _, row in sweep.trials.loc[first].iterrows()
        ],
    )


def _shown(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.lower() if text in ("True", "False") else text


OVERVIEW = {
    "history": "The value of each trial in the order in which they were tried, and the best so far.",
    "rungs": "Every trial's curve; where it ends early, the pruner stopped it.",
    "importance": "How much of the spread of the values each dimension accounts for.",
    "parallel": "Each line is a trial, through its values in every dimension.",
    "slices": "The value against each dimension alone.",
    "pareto": "AUROC against calibration error; on the line nothing is better in both.",
}


def _overview(folder: Path) -> Iterator[Block]:
    for name, words in OVERVIEW.items():
        path = folder / f"{name}.png"
        if path.exists():
            yield Picture(path.read_bytes(), f"overview-{name}", words, [Text(words, "pale")])


def _test(sweep: Sweep) -> Iterator[Block]:
    yield Text(_test_line(sweep))
    if sweep.test is None:
        yield Text(
            "It is opened once, by `medtune test`, for the retrained model. Every look is counted, since a second "
            "choice made after a look would make the test one more validation set.",
            "pale",
        )
        return
    test = sweep.test
    rows = [[label, interval(test[name])] for name, label in (("auroc", "AUROC"), ("accuracy", "accuracy"))]
    yield Table(["", "test"], rows)
    yield Text(f"ECE: {test['ece']['words']}.")
    if test["calibrator"]["kind"] != "none":
        after = test["calibrated"]
        yield Text(
            f"After the {test['calibrator']['kind']} calibrator of validation: accuracy {interval(after['accuracy'])}, "
            f"ECE {after['ece']['words']}."
        )
    yield Text("What the thresholds do that were chosen on validation:")
    yield points_table(test["operating_points"], describe(sweep.config.data).classes)
    each = test["seeds"]["auroc"]["each"]
    if len(each) > 1:
        yield Text(f"Over {len(each)} seeds the AUROC is {', '.join(map(number, each))}.")


def _cost(sweep: Sweep) -> Iterator[Block]:
    trials, epochs = sweep.trials, sweep.epochs
    wall = (epochs["at"].max() - epochs["at"].min()).total_seconds() if len(epochs) else 0.0
    rows = [
        ["epochs trained", f"{len(epochs):,}"],
        ["seconds in training, all workers", f"{trials['seconds'].sum():,.0f}"],
        ["seconds from the first epoch to the last", f"{wall:,.0f}"],
        *([state, f"{count}"] for state, count in trials["state"].value_counts().items()),
    ]
    yield Table(["", ""], rows)


def _again(sweep: Sweep) -> Iterator[Block]:
    config = sweep.config
    yield Text(
        "With this file, the same versions and the same kind of processor a trial of the same configuration gives the "
        "same numbers. Which configurations come up depends on the order in which trials end, where several run at "
        "once; with `--set resources.max_concurrent=1` the whole sweep is the same."
    )
    yield Commands([f"medtune sweep {config.sweep}.yaml", f"medtune report runs/{config.sweep}"])
    rows = [["seed", str(config.seed)], ["MD5 of the data", data_md5(config.data)]]
    rows += [[name, version] for name, version in _versions(sweep).items()]
    yield Table(["", ""], rows)
    yield Text(f"{config.sweep}.yaml:")
    yield Commands(without_password(sweep_text(config)).splitlines())


def _versions(sweep: Sweep) -> dict[str, str]:
    """Of the packages that change a number, as the best trial was trained with."""
    best = sweep.best
    return {} if best is None else dict(sweep.folder.used(int(best["number"]))["versions"])
