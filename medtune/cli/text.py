"""Results in words."""

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from medtune.config.kinds import PRETRAIN, section_of
from medtune.config.problems import listed
from medtune.config.trial import METRICS
from medtune.evaluation.intervals import Interval
from medtune.models.pretrained import FOLDER, encoder_in
from medtune.report.words import believed, interval, number

if TYPE_CHECKING:
    from medtune.search.summary import Summary
    from medtune.search.usage import Usage
    from medtune.trained.decision import DecisionRule
    from medtune.trained.pictures import Answer  # which imports torch


def print_json(result: dict[str, Any]) -> None:
    """One object, as the last line of stdout; NaN, which JSON does not have, becomes null."""
    print(json.dumps(_finite(result)))


def show(lines: Sequence[str], result: dict[str, Any], as_json: bool) -> None:
    """Lines for people; with `--json` these go to stderr, and the object is the last line of stdout."""
    print("\n".join(lines), file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print_json(result)


def say(text: str) -> None:
    """How far a verb is."""
    print(text, file=sys.stderr, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_finite(below) for below in value]
    return None if isinstance(value, float) and value != value else value


def command(verb: str, path: Path) -> str:
    """A command of ours that works when it is pasted: begun as this process was, from where we are."""
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{'uv run ' if 'UV' in os.environ else ''}medtune {verb} {shown}"


def next_line(summary: "Summary") -> str:
    """What to do with a sweep that has ended."""
    path = summary.folder.path
    if section_of(summary.config.trial) != PRETRAIN:
        return f"next     {command('select', path)}"
    if encoder_in(path) is None:
        return "encoder  none: the weights of the best trial were not kept; write keep: {weights: 1} or more"
    return f"encoder  {path / FOLDER}; begin with it by trial.model.weights: {path}"


def summary_lines(summary: "Summary") -> list[str]:
    """What came of a sweep."""
    probed = "k-NN probe, " if section_of(summary.config.trial) == PRETRAIN else ""
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
    lines = [f"{summary.config.sweep}: {sum(summary.counts.values())} trials ({counts})"]
    for label, entry in (("best", summary.best), ("default", summary.default)):
        numbers, interval = summary.numbers(entry), summary.auroc(entry)
        if numbers:
            lines.append(
                f"{label:<8} trial {numbers['trial']}, epoch {numbers['epoch']}: {probed}{_metrics(numbers, interval)}"
            )
        if label == "best" and (broken := summary.broken(entry)):
            lines.append(f"         breaks a constraint, as all do so far: {', '.join(broken)}")
    if summary.best is None:
        lines.append("best     none: no trial has a value")
    return lines


def _metrics(numbers: dict[str, Any], interval: Interval | None) -> str:
    auroc = with_interval(interval) if interval else f"{numbers['val/auroc']:.3f}"
    if "val/auroc_std" in numbers:
        auroc += f" (deviation {numbers['val/auroc_std']:.3f} over the folds)"
    return f"val AUROC {auroc}, accuracy {numbers['val/accuracy']:.3f}, ECE {numbers['val/ece']:.3f}"


def with_interval(interval: Interval) -> str:
    return f"{interval.value:.3f} (95 % {interval.low:.3f} to {interval.high:.3f})"


def machine_lines(used: "Usage") -> list[str]:
    """What a sweep runs on, a line for each machine and each of its GPUs, and what it has cost."""
    lines = []
    for machine in used.machines:
        busy = f"CPU {machine['cpu']:.0%}, memory {machine['memory']:.0%}"
        lines.append(f"machine  {machine['name']}: {_has(machine)}, {busy}; {_running(machine)}")
        for index, gpu in enumerate(machine["devices"]):
            memory = f"{gpu['used'] / 1e9:.1f} of {gpu['memory'] / 1e9:.0f} GB"
            lines.append(f"         GPU {index}, {gpu['name']}: busy {gpu['busy']:.0%}, {memory}; {_running(gpu)}")
    if used.starting:
        lines.append(f"starting {listed(used.starting)}")
    lines += [f"refused  {fault}" for fault in used.refused]
    if used.price is not None:
        lines.append(f"price    {used.price:.2f} so far, for {used.hours:.2f} machine hours")
    return lines


def _has(machine: dict[str, Any]) -> str:
    gpus = f", {machine['gpus']} GPU{'s' if machine['gpus'] > 1 else ''}" if machine["gpus"] else ""
    return f"{machine['cpus']} CPU{'' if machine['cpus'] == 1 else 's'}{gpus}"


def _running(place: dict[str, Any]) -> str:
    trials = place["trials"]
    return f"trial{'s' if len(trials) > 1 else ''} {listed(trials)}" if trials else "no trial"


@contextlib.contextmanager
def going_on(path: Path, verb: str) -> Iterator[None]:
    """Says after Ctrl-C that nothing is lost, and exits with 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted: what was trained is kept, and the same command goes on ({command(verb, path)} …)")
        raise typer.Exit(130) from None


def selection_lines(found: dict[str, Any]) -> list[str]:
    """Who won, what that is worth, and who else could have."""
    metric, raw, worth = found["metric"], found["raw_interval"], found["corrected_interval"]
    lines = [
        f"best     trial {found['raw_winner']}, the best of {found['candidates']:,} candidates "
        f"(a trial at one epoch) on {found['cases']:,} cases",
        f"reads    {metric} {interval(raw)}",
        f"is worth {_worth(worth, found['optimism'], METRICS[metric])}",
        f"tied     {_some(found['tie'])} of {len(found['trials'])} trials cannot be told from the best",
        f"thrifty  trial {found['thrifty']} is the cheapest of those about as good, by {found['cost']}",
    ]
    if found["note"]:
        lines.append(f"note     {found['note']}")
    if left_out := found["left_out"]:
        reasons = ", ".join(sorted(set(left_out.values())))
        lines.append(f"left out {_some([*left_out])}: {reasons}")
    for one in found["finalists"]:
        each = ", ".join(map(number, one["values"]))  # type: ignore[arg-type]
        came = "; ".join(one["failed"].values()) or f"mean {number(one['mean'])} ({each})"
        lines.append(f"finalist trial {one['trial']}, epoch {one['epoch']}: {came}")
    lines.append(f"winner   trial {found['winner']}, epoch {found['epoch']}")
    advice, option = found["ensembles"], ensemble_option(found)
    how = f" (`retrain {option}`)" if option else ""
    return [*lines, f"advice   {advice['recommended']}{how}: {advice['why']}"]


def ensemble_option(found: dict[str, Any]) -> str:
    """What `retrain` is to be told for what a selection recommends; nothing for the single winner."""
    kind = found["ensembles"]["recommended"]
    size = found["ensembles"]["options"][kind]["trials"]
    return {"single": "", "bagged": f"--ensemble {size}", "greedy": f"--ensemble {size} --greedy"}[kind]


def _worth(worth: dict[str, Any], optimism: float | None, direction: str) -> str:
    if optimism is None:
        return interval(worth)
    flattered = (optimism > 0) == (direction == "max")
    return (
        f"{interval(worth)}: chosen among so many, it reads {abs(optimism):.3f} too {'well' if flattered else 'badly'}"
    )


def _against_default(difference: dict[str, Any]) -> str:
    if difference["value"] is None:
        return ""
    if difference["low"] <= 0 <= difference["high"]:
        return ", not told apart: tuning has gained nothing that these cases could show"
    return ", better" if difference["low"] > 0 else ", worse: take the default, or another trial on other test cases"


SHOWN = 8  # numbers of trials in a line


def _some(trials: Sequence[Any]) -> str:
    shown = ", ".join(map(str, trials[:SHOWN]))
    return f"{len(trials)} ({shown}{', …' if len(trials) > SHOWN else ''})"


def test_lines(result: dict[str, Any]) -> list[str]:
    """What the sealed test said."""
    lines = [f"test, {result['cases']} cases, {result['label']}; {result['chosen']}"]
    lines += [f"{label:<8} {interval(result[name])}" for name, label in (("auroc", "AUROC"), ("accuracy", "accuracy"))]
    lines.append(f"ECE      {result['ece']['words']}")
    if (kind := result["calibrator"]["kind"]) != "none":
        after = result["calibrated"]
        lines.append(f"by the {kind} calibrator of validation, as `predict` uses it:")
        lines.append(f"accuracy {interval(after['accuracy'])}")
        lines.append(f"ECE      {after['ece']['words']}")
    if default := result["default"]:
        lines.append(f"untuned default: AUROC {interval(default['auroc'])}, accuracy {interval(default['accuracy'])}")
        for name, label in (("auroc", "AUROC"), ("accuracy", "accuracy")):
            difference = default["difference"][name]
            lines.append(f"{label} less the default's: {interval(difference)}{_against_default(difference)}")
    seeds = result["seeds"]["auroc"]["each"]
    if len(seeds) > 1:
        each = ", ".join(number(value) or "undefined" for value in seeds)
        mean = number(result["seeds"]["auroc"]["mean"]) or "undefined"
        lines.append(f"over {len(seeds)} seeds: mean AUROC {mean} ({each})")
    return lines


def evaluation_lines(found: dict[str, Any]) -> list[str]:
    """The few numbers of an evaluation that a person looks for, and where the rest is."""
    read = next(iter(found["calibration"].values()))
    lines = [
        found["about"],
        f"AUROC    {interval(found['discrimination']['auroc'])}",
        f"accuracy {interval(found['discrimination']['accuracy'])}",
        f"ECE      {read['words']}",
    ]
    if against := found["against"]:
        lines.append(f"AUROC less that of trial {against['trial']}: {interval(against['auroc'])}")
    decided = found["recalibration"]["decided"]
    if decided["kind"] != "none":
        after = found["recalibration"]["after"][decided["kind"]]
        ece = f"{number(after['ece']['value'])}, truth {believed(after['ece'])}"
        lines.append(f"by {decided['kind']}: ECE {ece}, NLL {interval(after['nll'])}")
    lines += [f"left out {what}" for what in _left_out(found)]
    return [*lines, f"figures  {found['folder']}"]


def _left_out(found: dict[str, Any]) -> list[str]:
    """Each reason once, with all that it is the reason for."""
    parts = {**found["uncertainty"], "robustness": found["robustness"], "Grad-CAM": found["grad_cam"]}
    reasons: dict[str, list[str]] = {}
    for name, part in parts.items():
        if "undefined" in part:
            reasons.setdefault(part["undefined"], []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def curves_lines(result: dict[str, Any]) -> list[str]:
    """Where the learning curves are."""
    told = f"trial {result['trial']}, {result['epochs']} epochs, look {result['looks']} at the test"
    return [told, f"curves   {result['curves']}", f"picture  {result['picture']}"]


def head_of_answers(classes: Sequence[str]) -> str:
    """The first line of the CSV of `medtune predict`."""
    return _csv(["file", "index", *classes, "decision", "distance", "outlier"])


def answer_line(answer: "Answer", rule: "DecisionRule", as_json: bool) -> str:
    """What a model said of a picture, as a line of CSV or as a JSON object, with what it was decided by."""
    if as_json:
        told = {
            "file": str(answer.path),
            "index": answer.index,
            "probabilities": dict(zip(rule.classes, answer.probabilities, strict=True)),
            "decision": answer.decision,
            "rule": rule.rule,
            "thresholds": rule.thresholds,
            "distance": answer.distance,
            "outlier": answer.outlier,
        }
        return json.dumps(told) + "\n"
    shown = [f"{value:.6f}" for value in answer.probabilities]
    far = {None: "", False: "no", True: "yes"}[answer.outlier]
    place = "" if answer.index is None else str(answer.index)
    return _csv([str(answer.path), place, *shown, answer.decision, number(answer.distance), far])


def _csv(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
