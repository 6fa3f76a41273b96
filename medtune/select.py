"""The choice among the trials of a sweep: from their saved predictions to `selection.json`, without training."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medtune.config.default import trial_config
from medtune.config.sweep import SweepConfig
from medtune.config.trial import ModelConfig
from medtune.data.catalogue import describe
from medtune.files import write_whole
from medtune.finalists import Finalist
from medtune.models.describe import parameters
from medtune.search.entries import Entry
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.selection.candidates import Candidates
from medtune.selection.choose import Selection, choose
from medtune.selection.ensembles import Ensemble, Kind, Member, bagged, greedy
from medtune.selection.recommendation import Recommendation, recommend

RESAMPLES = 1_000
SEED = 0

NOT_BUILT = {"dropout": 0.0, "weights": None, "finetune": "all", "backbone_lr": 1.0}  # changes no layer

Cost = Literal["parameters", "seconds"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Chosen:
    """A choice with its evidence. ended: how many trials there were of each state, by which it is known to be of today.
    left_out: trials that could not be compared, with the reason."""

    selection: Selection
    recommendation: Recommendation
    cost: Cost
    ended: Mapping[str, int]
    left_out: Mapping[int, str]
    finalists: Sequence[Finalist] = ()

    @property
    def best(self) -> list[tuple[int, int]]:
        """Each trial that may be chosen at its best epoch, the best first."""
        return [(standing.trial, standing.epoch) for standing in self.selection.standings if not standing.broken]

    def as_json(self) -> dict[str, Any]:
        found = self.selection.as_json()
        first = self.finalists[0] if self.finalists else None
        return {
            "format": 1,
            **found,
            "raw_winner": found["winner"],
            **({"winner": first.trial, "epoch": first.epoch} if first else {}),
            "finalists": [finalist.as_json() for finalist in self.finalists],
            "cost": self.cost,
            "ensembles": self.recommendation.as_json(),
            "left_out": dict(self.left_out),
            "ended": dict(self.ended),
        }


def select(folder: SweepFolder, config: SweepConfig, say: Say = lambda text: None) -> Chosen:
    """Chooses, and writes `selection.json`. Raises FolderError where no trial has left predictions yet, or where the
    metric is undefined on the cases."""
    entries = _entries(folder, config)
    candidates, left_out = candidates_of(folder, config, entries)
    say(f"{len(candidates):,} candidates, {candidates.logits.shape[1]:,} cases, {RESAMPLES:,} resamples")
    cost, costs = _costs(folder, config, set(candidates.trials.tolist()))
    try:
        selection = choose(candidates, RESAMPLES, SEED, costs, config.search.constraints)
    except ValueError as error:
        raise FolderError(f"{folder.path}: nothing can be chosen, because {error}") from error
    say("ensembles")
    complete = {entry.number for entry in entries if entry.state == "complete"}
    recommendation = recommend(selection.eligible, selection.draws, complete, np.random.default_rng(SEED))
    chosen = Chosen(selection, recommendation, cost, _ended(entries), left_out)
    write_selection(folder, chosen)
    return chosen


def write_selection(folder: SweepFolder, chosen: Chosen) -> None:
    text = json.dumps(chosen.as_json(), indent=1, allow_nan=False) + "\n"
    write_whole(folder.path / "selection.json", text.encode())


def current_selection(folder: SweepFolder, config: SweepConfig, say: Say = lambda text: None) -> dict[str, Any]:
    """What `selection.json` holds, chosen anew where trials have ended since, or where nothing has been chosen yet."""
    path = folder.path / "selection.json"
    if path.exists():
        saved: dict[str, Any] = json.loads(path.read_text())
        if saved["ended"] == _ended(_entries(folder, config)):
            return saved
    return select(folder, config, say).as_json()


def winner(folder: SweepFolder, config: SweepConfig, say: Say = lambda text: None) -> Ensemble:
    """The single model that the selection ends with: after finalists theirs. Raises FolderError as `select`."""
    found = current_selection(folder, config, say)
    return Ensemble("single", (Member(found["winner"], found["epoch"], 1.0),))


def one_trial(folder: SweepFolder, config: SweepConfig, number: int) -> Ensemble:
    """A trial at its best epoch. Raises FolderError where there is no such trial, or where it has no value."""
    entries = {entry.number: entry for entry in _entries(folder, config)}
    if number not in entries:
        raise FolderError(f"{folder.path} has no trial {number}: they are numbered 0 to {len(entries) - 1}")
    epoch = entries[number].best_epoch
    if epoch is None:
        raise FolderError(f"trial {number} of {folder.path} ({entries[number].state}) has no value: choose another")
    return Ensemble("single", (Member(number, epoch, 1.0),))


def ensemble(folder: SweepFolder, config: SweepConfig, kind: Kind, most: int) -> Ensemble:
    """Of so many trials at the most, from the candidates and resamples of `select`. Raises FolderError likewise."""
    entries = _entries(folder, config)
    candidates, _ = candidates_of(folder, config, entries)
    selection = choose(candidates, RESAMPLES, SEED, {}, config.search.constraints)
    complete = {entry.number for entry in entries if entry.state == "complete"}
    if kind == "greedy":
        return greedy(selection.eligible, np.random.default_rng(SEED), most, complete)
    return bagged(selection.eligible, selection.draws, complete, most)


def candidates_of(
    folder: SweepFolder, config: SweepConfig, entries: Sequence[Entry]
) -> tuple[Candidates, dict[int, str]]:
    """Every epoch of every trial that has ended and whose predictions were kept, and the trials that are left out, with
    the reason. Where `search.best_epoch` chooses the epochs by another metric, each trial is there at its best one.

    Raises FolderError where there is none.
    """
    trials, epochs, logits, left_out = [], [], [], {}
    labels: np.ndarray | None = None
    for entry in entries:
        if entry.state in ("failed", "unfinished"):
            continue
        kept = folder.predictions(entry.number)
        if kept is None or not len(kept["epochs"]):
            left_out[entry.number] = "it has left no predictions"
        elif labels is not None and not np.array_equal(kept["labels"], labels):
            left_out[entry.number] = "it was validated on other cases"
        else:
            labels = kept["labels"]
            by_epoch = dict(zip(kept["epochs"].tolist(), kept["logits"], strict=True))
            if config.epoch_metric != config.search.metric:
                by_epoch = {epoch: of_epoch for epoch, of_epoch in by_epoch.items() if epoch == entry.best_epoch}
            finite = {epoch: of_epoch for epoch, of_epoch in by_epoch.items() if np.isfinite(of_epoch).all()}
            trials += [entry.number] * len(finite)
            epochs += list(finite)
            logits += list(finite.values())
    if labels is None or not trials:
        raise FolderError(
            f"{folder.path} has no trial that ended with predictions: `medtune resume {folder.path}` goes on with it"
        )
    task = describe(config.data).task
    numbers = np.array(trials, np.intp), np.array(epochs, np.intp)
    return Candidates(*numbers, np.stack(logits), labels, task, config.search.metric), left_out


def _entries(folder: SweepFolder, config: SweepConfig) -> list[Entry]:
    return Ledger(folder.ledger, folder.sweep_id, config).entries()


def _ended(entries: Sequence[Entry]) -> dict[str, int]:
    return dict(sorted(Counter(entry.state for entry in entries if entry.state != "unfinished").items()))


def _costs(folder: SweepFolder, config: SweepConfig, trials: set[int]) -> tuple[Cost, dict[int, float]]:
    """What each trial costs: parameters where the models differ in them, else the seconds of its epochs."""
    ledger, info = Ledger(folder.ledger, folder.sweep_id, config), describe(config.data)
    channels = 3 if config.data.as_rgb else info.channels
    points = {number: trial_config(config.trial, ledger.point(number)).model for number in sorted(trials)}
    builds = {number: model.model_copy(update=NOT_BUILT).model_dump_json() for number, model in points.items()}
    sizes = {
        build: parameters(ModelConfig.model_validate_json(build), channels, len(info.classes), config.data.side)
        for build in set(builds.values())
    }
    if len(set(sizes.values())) > 1:
        return "parameters", {number: float(sizes[build]) for number, build in builds.items()}
    seconds = {number: sum(record["epoch_seconds"] for record in folder.epochs(number)) for number in sorted(trials)}
    return "seconds", seconds
