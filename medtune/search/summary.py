"""What a sweep has found so far, from its folder alone."""

from collections import Counter
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.data.catalogue import describe
from medtune.evaluation.intervals import Interval, auroc_interval
from medtune.evaluation.metrics import probabilities
from medtune.search.entries import Entry, State, best_entry, broken_by
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.run import DEFAULT_TRIAL

STATES: tuple[State, ...] = ("complete", "pruned", "failed", "unfinished")


class Summary:
    """Counts, the best trial and the untuned default."""

    def __init__(self, folder: SweepFolder, config: SweepConfig) -> None:
        self.folder, self.config = folder, config
        self.ledger = Ledger(folder, config)
        self.entries = self.ledger.entries()
        counted = Counter(entry.state for entry in self.entries)
        self.counts = {state: counted[state] for state in STATES}
        self.best = best_entry(self.entries, config.direction)
        self.default = next((entry for entry in self.entries if entry.number == DEFAULT_TRIAL), None)

    def numbers(self, entry: Entry | None) -> dict[str, Any]:
        """The trial's number, its best epoch and its metrics there; empty where it has none."""
        if entry is None or entry.best_epoch is None:
            return {}
        records = {record["epoch"]: record for record in self.folder.epochs(entry.number)}
        metrics = {key: value for key, value in records[entry.best_epoch].items() if key.startswith("val/")}
        return {"trial": entry.number, "epoch": entry.best_epoch, **metrics}

    def broken(self, entry: Entry | None) -> list[str]:
        """The constraints that a trial breaks at its best epoch, in words."""
        numbers, constraints = self.numbers(entry), self.config.search.constraints
        words = []
        for name, over in broken_by(numbers, constraints).items() if numbers else ():
            metric, side = name.split()
            if over > 0:
                limit = f"{'at most' if side == 'max' else 'at least'} {constraints[metric][side]:g}"  # type: ignore[index]
                words.append(f"{metric} {numbers[metric]:.3g} is not {limit}")
        return words

    def auroc(self, entry: Entry | None) -> Interval | None:
        """The trial's validation AUROC at its best epoch, with a 95 % interval; None for a cross-validated one, whose
        AUROC is a mean over folds: the logits of several models are not on one scale."""
        if entry is None or "val/auroc_std" in self.numbers(entry):
            return None
        predictions = self.folder.predictions_of(entry.number, entry.best_epoch)
        if predictions is None:
            return None
        (logits, labels), task = predictions, describe(self.config.data).task
        return auroc_interval(probabilities(logits, task), labels, task)

    def as_json(self) -> dict[str, Any]:
        """What `sweep`, `resume` and `status` print with `--json`, but for the address of the tracking server."""
        best, interval = self.numbers(self.best), self.auroc(self.best)
        if best and interval:
            best |= {"val/auroc/low": interval.low, "val/auroc/high": interval.high}
        if best and self.config.search.constraints:
            best["feasible"] = not self.broken(self.best)
        return {
            "sweep": self.config.sweep,
            "folder": str(self.folder.path),
            "trials": self.counts,
            "best": best or None,
            "default": self.numbers(self.default) or None,
        }
