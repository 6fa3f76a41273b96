"""The verb that trains a trial again, and its words."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtune.cli.arguments import Json

if TYPE_CHECKING:
    from medtune.replay import Difference, Replayed, Values, Verdict  # which imports torch
    from medtune.search.record import Record


def replay(
    folder: Annotated[
        str, typer.Argument(help="of a sweep, or of a trial; or the MLflow run of a trial: runs:/ID, or its page")
    ],
    trial: Annotated[int | None, typer.Argument(min=0, help="its number, with the folder of a sweep")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="compare with what was recorded, to the last bit")] = False,
    data: Annotated[
        Path | None, typer.Option(help="the folder of the data here, where it is not the one of the record")
    ] = None,
    tracking: Annotated[
        str | None, typer.Option(help="the server of a run, or a folder with mlflow.db; runs/ unless given")
    ] = None,
    json: Json = False,
) -> None:
    """Train a trial again from its record alone, and say whether it is the same."""
    from medtune.cli.text import say, show

    record = _record(folder, trial, tracking)
    from medtune.replay import ReplayFailed, compare, device_here, reasons
    from medtune.replay import replay as train_again

    _say_where(record, device_here(record.used.device), say)
    started = time.monotonic()
    try:
        done = train_again(record, lambda epoch, values: say(_epoch_line(record, epoch, values)), data)
    except ReplayFailed as failed:
        say(str(failed))
        raise typer.Exit(1) from failed
    seconds = time.monotonic() - started
    verdict = compare(record, done) if verify else None
    why = reasons(record, done) if verdict and not verdict.identical else []
    lines = [*_table(record, done), *(_verdict_lines(verdict, why) if verdict else [])]
    show(lines, {**_as_json(record, done, verdict), "reasons": why, "seconds": seconds}, json)
    if verdict and not verdict.identical:
        raise typer.Exit(1)


def _record(folder: str, trial: int | None, tracking: str | None) -> "Record":
    if folder.startswith("runs:") or "://" in folder:
        from medtune.tracking.runs import record_of_run

        if trial is not None:
            raise typer.BadParameter("a run is of one trial: leave its number out")
        return record_of_run(folder, tracking)
    from medtune.search.record import record_in_folder

    return record_in_folder(Path(folder), trial)


def _say_where(record: "Record", device: str, say: Any) -> None:
    used = record.used
    epochs, threads = _counted(len(record.epochs), "epoch"), _counted(used.threads, "thread")
    say(f"{record.where}: {epochs}, seed {used.seed}, on {device} with {threads}")
    if device != used.device:
        say(f"it was trained on {used.device}, which is not here: the last digits will be others")


def _epoch_line(record: "Record", epoch: int, values: "Values") -> str:
    names = ("train/loss", record.used.objective.metric)
    before = record.epochs[epoch - 1]
    told = ", ".join(f"{name} {_number(values[name])}" for name in names)
    return f"epoch {epoch} of {len(record.epochs)}: {told}; recorded {', '.join(_number(before.get(n)) for n in names)}"


def _table(record: "Record", done: "Replayed") -> Iterator[str]:
    """Both curves in a few numbers, side by side."""
    from medtune.config.trial import METRICS
    from medtune.replay import best_epoch, recorded_epochs

    curves = (recorded_epochs(record), done.epochs)
    best = [best_epoch(record, curve) for curve in curves]
    at_best = [curve[epoch] if epoch else {} for curve, epoch in zip(curves, best, strict=True)]
    yield f"{'':<13}{'recorded':<11}replayed"
    yield f"{'epochs':<13}{len(curves[0]):<11}{len(curves[1])}"
    yield f"{'best epoch':<13}{best[0] or 'none':<11}{best[1] or 'none'}"
    yield from (f"{name:<13}{_number(at_best[0].get(name)):<11}{_number(at_best[1].get(name))}" for name in METRICS)


def _verdict_lines(verdict: "Verdict", why: list[str]) -> Iterator[str]:
    if verdict.identical:
        yield f"identical to the last bit: {_compared(verdict)}"
        return
    first = verdict.differences[0]
    yield f"differs first in epoch {first.epoch}, {_difference(first)}"
    yield from _most(verdict)
    yield from (f"because  {reason}" for reason in why)


def _most(verdict: "Verdict") -> Iterator[str]:
    from medtune.replay import LOGITS, largest

    numbers = [one for one in verdict.differences if one.metric != LOGITS]
    logits = [one for one in verdict.differences if one.metric == LOGITS]
    for found, many, what in ((numbers, verdict.numbers, "numbers"), (logits, verdict.logits, "epochs' logits")):
        if found:
            most = largest(found)
            yield f"in all   {len(found)} of {many} {what}, most in epoch {most.epoch}: {_difference(most)}"


def _difference(one: "Difference") -> str:
    return f"{one.metric}: {_exact(one.recorded)} recorded, {_exact(one.replayed)} replayed"


def _compared(verdict: "Verdict") -> str:
    epochs, logits = _counted(verdict.epochs, "epoch"), _counted(verdict.logits, "epoch")
    return f"{epochs}, {verdict.numbers} numbers, logits of {logits}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _as_json(record: "Record", done: "Replayed", verdict: "Verdict | None") -> dict[str, Any]:
    from medtune.replay import best_epoch

    best = best_epoch(record, done.epochs)
    values: Mapping[str, float] = done.epochs[best] if best else {}
    return {
        "trial": record.trial,
        "epochs": len(done.epochs),
        "identical": verdict.identical if verdict else None,
        "differences": [asdict(one) for one in verdict.differences] if verdict else [],
        "best": {"epoch": best, **{name: value for name, value in values.items() if name.startswith("val/")}},
    }


def _number(value: float | None) -> str:
    return "none" if value is None or value != value else f"{value:.6f}"


def _exact(value: float | None) -> str:
    """So that two that differ look different."""
    return "none" if value is None else "not defined" if value != value else repr(value)
