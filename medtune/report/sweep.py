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
SELECTION = "selection"  # the name of its figure


def sweep_document(
    sweep: Sweep, selection: Mapping[str, Any], evaluation: Mapping[str, Any], pictures: Path, overview: Path
) -> Document:
    """selection: as `selection.json` has it. evaluation: of its winner, as `evaluation.json` has it, and `pictures` the
    folder of its figures; overview: that of the whole sweep's. A figure that is not there is left out."""
    info = describe(sweep.config.data)
    return Document(
        f"Sweep {sweep.config.sweep}: {info.title}",
        list(_verdict(sweep, selection, evaluation)),
        [
            Section("What was searched", list(_searched(sweep))),
            Section("What won", list(_won(sweep, selection))),
            Section("What that is worth", list(_worth(selection, overview))),
            Section("How the search went", list(_overview(sweep, selection, overview))),
            *evaluation_sections(evaluation, pictures),
            Section("The sealed test", list(_test(sweep))),
            Section("What it cost", list(_cost(sweep))),
            Section("How to get it again", list(_again(sweep))),
        ],
    )


def _verdict(sweep: Sweep, selection: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Iterator[Block]:
    best, counts = sweep.trials.loc[evaluation["trial"]], sweep.trials["state"].value_counts()
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    yield Text(f"{len(sweep.trials)} trials ({states}); chosen by {sweep.metric}.")
    yield Text(
        f"Chosen: trial {best['number']} at epoch {evaluation['epoch']}, validation AUROC "
        f"{interval(evaluation['discrimination']['auroc'])} on {evaluation['cases']:,} cases."
    )
    yield Text(_optimism(selection))
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


def _optimism(selection: Mapping[str, Any]) -> str:
    """What the winner is worth, in a sentence."""
    many = (
        f"{selection['candidates']:,} candidates, a trial at one epoch each, on the same {selection['cases']:,} cases"
    )
    worth = selection["corrected_interval"]
    if worth["value"] is None:
        return f"Trial {selection['raw_winner']} reads best of {many}; what that luck is worth is {interval(worth)}."
    finalists = "; finalists on fresh seeds decided" if selection["finalists"] else ""
    return (
        f"Trial {selection['raw_winner']} reads best of {many}{finalists}. The best of many reads too well: after the "
        f"luck of the choice {selection['metric']} is {interval(worth)}, and {number(selection['optimism'])} of what "
        f"that trial reads is luck. {len(selection['tie'])} of {len(selection['trials'])} trials cannot be told from "
        "the best."
    )


def _test_line(sweep: Sweep) -> str:
    opened = "once" if sweep.looks == 1 else f"{sweep.looks} times"
    if sweep.looks == 0:
        return "The test split is still sealed: nothing in this report has seen it."
    if sweep.test is None:
        return f"The test split has been opened {opened}, but not for the models that are there now."
    test = sweep.test
    return (
        f"Sealed test, opened {opened}, {test['label']}: AUROC {interval(test['auroc'])} on {test['cases']:,} cases, "
        f"{test['chosen']}."
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


def _won(sweep: Sweep, selection: Mapping[str, Any]) -> Iterator[Block]:
    best = sweep.trials.loc[selection["winner"]]
    default = sweep.trials.loc[DEFAULT_TRIAL]
    rows = [[name, _shown(best[name]), _shown(default[name])] for name in sweep.swept]
    yield Table(["", f"trial {best['number']}", "default"], rows)
    first = [entry.number for entry in ranked(sweep.entries, sweep.config.direction)[:SHOWN_TRIALS]]
    yield Text("The best trials, those that ran to their end before those that were pruned:")
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


def _worth(selection: Mapping[str, Any], overview: Path) -> Iterator[Block]:
    advice = selection["ensembles"]
    yield Text(
        "Each resample of the cases has a winner of its own, which is scored on the cases that the resample left out; "
        f"the mean of that over {selection['resamples']:,} resamples (bootstrap bias correction, Tsamardinos et al. "
        "2018), and a part of what those winners lack of the one on all cases, as far as trials truly differ, is what "
        "the winner is worth. The interval of a single trial knows nothing of the choice."
    )
    if (overview / f"{SELECTION}.png").exists():
        yield Picture((overview / f"{SELECTION}.png").read_bytes(), SELECTION, "Who could have won")
    rows = [
        ["reads", interval(selection["raw_interval"])],
        ["is worth", interval(selection["corrected_interval"])],
        ["tied with the best", ", ".join(map(str, selection["tie"]))],
        [f"the cheapest of the near, by {selection['cost']}", f"trial {selection['thrifty']}"],
    ]
    rows += [
        [
            f"finalist {one['trial']}, epoch {one['epoch']}",
            f"mean {number(one['mean'])} over {len(one['values'])} seeds",
        ]
        for one in selection["finalists"]
    ]
    yield Table(["", selection["metric"]], rows)
    if selection["note"]:
        yield Text(selection["note"], "warning")
    if selection["left_out"]:
        yield Text("Trials that took no part:")
        yield Bullets([f"trial {trial}: {why}" for trial, why in selection["left_out"].items()])
    yield Text(f"Recommended: {advice['recommended']}. {advice['why'][:1].upper()}{advice['why'][1:]}.")


OVERVIEW = {
    "history": "The value of each trial in the order in which they were tried, and the best so far.",
    "rungs": "Every trial's curve; where it ends early, the pruner stopped it.",
    "importance": "How much of the spread of the values each dimension accounts for.",
    "parallel": "Each line is a trial, through its values in every dimension.",
    "slices": "The value against each dimension alone.",
    "pareto": "AUROC against calibration error; on the line nothing is better in both.",
}


def _overview(sweep: Sweep, selection: Mapping[str, Any], folder: Path) -> Iterator[Block]:
    best = sweep.best
    if best is not None and best["number"] != selection["winner"]:
        yield Text(
            f"In these pictures the best is the best complete trial, {best['number']}. What was chosen, trial "
            f"{selection['winner']}, was {sweep.trials.loc[selection['winner'], 'state']}: selection looks at every "
            "epoch of every trial, the pruned ones too."
        )
    for name, words in OVERVIEW.items():
        path = folder / f"{name}.png"
        if path.exists():
            yield Picture(path.read_bytes(), f"overview-{name}", words, [Text(words, "pale")])


def _test(sweep: Sweep) -> Iterator[Block]:
    yield Text(_test_line(sweep))
    if sweep.test is None:
        yield Text(
            "It is opened once, by `medtune test`, for the retrained model. Every look is counted, and a second one "
            "must be asked for, since a choice made after a look would make the test one more validation set.",
            "pale",
        )
        return
    test = sweep.test
    rows = [[label, interval(test[name])] for name, label in (("auroc", "AUROC"), ("accuracy", "accuracy"))]
    rows.insert(1, ["AUROC, bootstrap", interval(test["auroc_bootstrap"])])
    yield Table(["", "test"], rows)
    if default := test["default"]:
        yield Text(
            f"The untuned default, trained the same way: AUROC {interval(default['auroc'])}. What was chosen less "
            f"that: {interval(default['difference']['auroc'])}."
        )
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
