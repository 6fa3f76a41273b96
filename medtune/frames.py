"""A sweep as data frames, from its folder alone: what notebooks and pictures of a whole sweep begin with."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medtune.config.default import Point, settings_at, swept_values
from medtune.config.sweep import SweepConfig
from medtune.config.trial import METRICS
from medtune.data.catalogue import dataset_info
from medtune.evaluation.intervals import Interval, auroc_interval
from medtune.evaluation.metrics import probabilities
from medtune.search.dimensions import Scale, dimensions, scale_of
from medtune.search.entries import Entry, best_entry
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.reading import read_ledger
from medtune.task import Task
from medtune.training.predictions import logits_of_epoch

OWN = ("number", "state", "value", "best_epoch", "epochs", "seconds", "note")  # columns that are not swept
LOW, HIGH = "val/auroc/low", "val/auroc/high"
_NO_INTERVAL = Interval.undefined("the trial left no predictions of its best epoch")


def load_sweep(folder: str | Path) -> "Sweep":
    """A sweep as it stands now: finished, killed or running. Nothing in the folder changes, and the test split is not
    read. Raises FolderError where there is no sweep."""
    opened = SweepFolder.open(Path(folder))
    config = opened.config()
    return Sweep(opened, config, *read_ledger(opened, config))


@dataclass(frozen=True, repr=False)
class Sweep:
    """What was tried and what came of it. The frames are made when they are first asked for, and then kept: load the
    sweep again to see what a running one has done since.

    entries: the trials as the ledger has them. points: by trial, what the sampler drew, as `config.default` has it.
    looks: how often the test has been opened.
    """

    folder: SweepFolder
    config: SweepConfig
    entries: Sequence[Entry]
    points: Mapping[int, Point]
    looks: int

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial, by number: `number`, `state`, `value` (the metric at the best epoch so far), `best_epoch`,
        `epochs` (how many were trained), `seconds` (in which they were), `note` (why it failed); the swept values by
        dotted name as in MLflow, empty where the trial has none; `val/auroc` and the other metrics of validation at the
        best epoch, and `val/auroc/low` and `val/auroc/high`, the ends of a 95 % interval.

        A swept `epochs` is the column `trial.epochs`. A cross-validated trial has no interval.
        """
        # named, so that a sweep without a trial has them too
        columns = [*OWN, *self.swept, "val/auroc", LOW, HIGH, *METRICS]
        rows = [self._row(entry) for entry in self.entries]
        frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*columns, *(key for row in rows for key in row)])))
        kinds = {"number": int, "best_epoch": "Int64", "epochs": int}
        kinds |= dict.fromkeys(("value", "seconds", LOW, HIGH, *METRICS), float)
        return frame.astype(kinds).set_index(frame["number"].rename(None))

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row an epoch: `trial`, `epoch`, `at` (when it ended, UTC), and the metrics, `train/loss` to `lr`."""
        rows = [{"trial": entry.number, **record} for entry in self.entries for record in self._records[entry.number]]
        columns = ["trial", "epoch", "at", self.metric]
        frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*columns, *(key for row in rows for key in row)])))
        frame = frame.astype({"trial": int, "epoch": int, "at": float, self.metric: float})
        return frame.assign(at=pd.to_datetime(frame["at"], unit="s", utc=True))

    @property
    def metric(self) -> str:
        return self.config.search.metric

    @property
    def best(self) -> pd.Series | None:
        """The row of the best trial; None where no trial has a value. It is the best of many on one validation split:
        its value is more luck than it looks, and only the sealed test says how much."""
        entry = best_entry(self.entries, self.config.direction)
        return None if entry is None else self.trials.loc[entry.number]

    @property
    def best_so_far(self) -> pd.Series:
        """Of each trial, by number, the value of the best one up to it; NaN where there was none yet."""
        best: Entry | None = None
        values = {}
        for entry in self.entries:
            best = best_entry([best, entry] if best else [entry], self.config.direction)
            values[entry.number] = best.value if best else math.nan
        return pd.Series(values, name="best_so_far", dtype=float)

    def importance(self, seed: int = 0) -> pd.DataFrame:
        """How much of the difference between trials each swept dimension explains: a row each, the most important
        first, with `dimension` (with its branch), `name` (without), `importance` (a share, 0 to 1), `noise` (what
        random numbers get), `trials`, `up_to_epoch` (where the trials were compared; empty: each at its best) and `why`
        (it is undefined). Some seconds for some hundred trials. See `search.importance`."""
        from medtune.search.importance import comparable_values, importances

        epoch, values = comparable_values(self.entries, self.config.direction)
        values = {number: value for number, value in values.items() if number in self.points}
        found = importances(self.config.trial, [self.points[n] for n in values], list(values.values()), seed)
        rows = [(x.dimension.label, x.dimension.name, x.value, x.noise, x.trials, epoch, x.why) for x in found]
        columns = ["dimension", "name", "importance", "noise", "trials", "up_to_epoch", "why"]
        return pd.DataFrame(rows, columns=columns).astype({"up_to_epoch": "Int64"})

    @property
    def test(self) -> dict[str, Any] | None:
        """What `medtune test` measured; None while the test is sealed."""
        path = self.folder.path / "test.json"
        return json.loads(path.read_text()) if path.exists() else None

    @cached_property
    def swept(self) -> list[str]:
        """The columns of `trials` that the sweep varied, in the order of the file."""
        names = dict.fromkeys(name for values in self._swept_values.values() for name in values)
        order = [dimension.name for dimension in dimensions(self.config.trial)]
        return sorted(names, key=lambda name: _place_in(order, _in_the_file(name)))

    @cached_property
    def scales(self) -> dict[str, Scale]:
        """How the values of each swept column are laid out: linear, log or choice."""
        known = dimensions(self.config.trial)
        return {name: scale_of(_in_the_file(name), known) for name in self.swept}

    @cached_property
    def task(self) -> Task:
        if self.config.data.folder is None:
            return dataset_info(self.config.data.dataset).task
        predictions = next(filter(None, map(self.folder.predictions, self.points)), None)
        classes = 2 if predictions is None else predictions["logits"].shape[-1]
        return "binary" if classes == 2 else "multiclass"  # the pictures themselves need not be here

    def predictions(self, trial: int, epoch: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Logits (cases, classes) and labels, (cases,) or (cases, labels), of validation after an epoch, the best one
        unless another is given. Raises FolderError where the trial left none of it: a trial that has not ended has not,
        and where all epochs together are over 2 MB only the best one is kept."""
        kept = self.folder.predictions(trial)
        wanted = epoch or self._best_epoch(trial)
        if kept is None or wanted is None:
            raise FolderError(
                f"trial {trial} of {self.folder.path} has left no predictions: it has not ended, or failed"
            )
        if wanted not in kept["epochs"]:
            raise FolderError(
                f"trial {trial} has kept the predictions of epoch {kept['epochs'].tolist()}, not of {wanted}"
            )
        return logits_of_epoch(kept, wanted), kept["labels"]

    def probabilities(self, trial: int, epoch: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The same, as probabilities. Raises also ValueError where a training has diverged."""
        logits, labels = self.predictions(trial, epoch)
        return probabilities(logits, self.task), labels

    def __repr__(self) -> str:
        best = best_entry(self.entries, self.config.direction)
        told = f", best {self.metric} {best.value:.3f} (trial {best.number})" if best else ""
        return f"<Sweep {self.config.sweep}: {len(self.entries)} trials{told}, {self.folder.path}>"

    @cached_property
    def _records(self) -> dict[int, list[dict[str, Any]]]:
        return {entry.number: self.folder.epochs(entry.number) for entry in self.entries}

    @cached_property
    def _swept_values(self) -> dict[int, dict[str, Any]]:
        space = self.config.trial
        drawn = {number: swept_values(space, point, settings_at(space, point)) for number, point in self.points.items()}
        return {number: {_column(name): value for name, value in values.items()} for number, values in drawn.items()}

    def _row(self, entry: Entry) -> dict[str, Any]:
        records = self._records[entry.number]
        best = next((record for record in records if record["epoch"] == entry.best_epoch), {})
        metrics = {key: value for key, value in best.items() if key.startswith("val/")}
        interval = _NO_INTERVAL if "val/auroc_std" in metrics else self._interval(entry)
        return {
            "number": entry.number,
            "state": entry.state,
            "value": entry.value,
            "best_epoch": entry.best_epoch,
            "epochs": len(records),
            "seconds": sum(record.get("epoch_seconds", 0.0) for record in records),
            "note": entry.note,
            **self._swept_values.get(entry.number, {}),
            **metrics,
            LOW: interval.low,
            HIGH: interval.high,
        }

    def _interval(self, entry: Entry) -> Interval:
        try:
            return auroc_interval(*self.probabilities(entry.number), self.task)
        except (FolderError, ValueError):
            return _NO_INTERVAL

    def _best_epoch(self, trial: int) -> int | None:
        return next((entry.best_epoch for entry in self.entries if entry.number == trial), None)


def _column(name: str) -> str:
    return f"trial.{name}" if name in OWN else name


def _in_the_file(column: str) -> str:
    return column.removeprefix("trial.")


def _place_in(order: Sequence[str], name: str) -> int:
    """Of `optimizer.name`, which the choice `optimizer` gives, the place of that choice."""
    while name and name not in order:
        name = name.rpartition(".")[0]
    return order.index(name) if name else len(order)
