"""The choice among the trials of a sweep: from their saved predictions to `selection.json`, without training."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
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

Cost = Literal["parameters", "seconds an epoch"]
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
        eligible = set(self.selection.eligible.trials.tolist())
        return [(one.trial, one.epoch) for one in self.selection.standings if one.trial in eligible]

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
    """Chooses, and writes nothing. Raises FolderError where no trial has left predictions yet, or where the metric is
    undefined on the cases."""
    entries = _entries(folder, config)
    candidates, left_out = candidates_of(folder, config, entries)
    say(f"{len(candidates):,} candidates, {candidates.logits.shape[1]:,} cases, {RESAMPLES:,} resamples")
    cost, costs = _costs(folder, config, set(candidates.trials.tolist()))
    selection = _choose(folder, config, candidates, costs)
    say("ensembles")
    complete = {entry.number for entry in entries if entry.state == "complete"}
    worth, generator = selection.corrected.value, np.random.default_rng(SEED)
    recommendation = recommend(selection.eligible, selection.draws, worth, complete, generator)
    return Chosen(selection, recommendation, cost, _ended(entries), left_out)


def _choose(
    folder: SweepFolder, config: SweepConfig, candidates: Candidates, costs: Mapping[int, float] | None = None
) -> Selection:
    try:
        return choose(candidates, RESAMPLES, SEED, costs, config.search.constraints)
    except ValueError as error:
        raise FolderError(f"{folder.path}: nothing can be chosen, because {error}") from error


def write_selection(folder: SweepFolder, chosen: Chosen) -> None:
    text = json.dumps(chosen.as_json(), indent=1, allow_nan=False) + "\n"
    write_whole(folder.path / "selection.json", text.encode())


def current_selection(folder: SweepFolder, config: SweepConfig, say: Say = lambda text: None) -> dict[str, Any]:
    """What `selection.json` holds, chosen anew where trials have ended since, or where nothing has been chosen yet."""
    if saved := saved_selection(folder, config):
        return saved
    chosen = select(folder, config, say)
    write_selection(folder, chosen)
    return chosen.as_json()


def saved_selection(folder: SweepFolder, config: SweepConfig) -> dict[str, Any] | None:
    """What `selection.json` holds, unless there is none, or trials have ended since."""
    path = folder.path / "selection.json"
    saved: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return saved if saved and saved["ended"] == _ended(_entries(folder, config)) else None


def saved_finalists(folder: SweepFolder, config: SweepConfig) -> list[Finalist]:
    """Those that have decided already, the best first; none where trials have ended since."""
    saved = saved_selection(folder, config) or {"finalists": []}
    return [Finalist.from_json(one) for one in saved["finalists"]]


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
    selection = _choose(folder, config, candidates)
    complete = {entry.number for entry in entries if entry.state == "complete"}
    if kind == "greedy":
        return greedy(selection.eligible, np.random.default_rng(SEED), most, complete)
    return bagged(selection.eligible, selection.draws, complete, most)


def candidates_of(
    folder: SweepFolder, config: SweepConfig, entries: Sequence[Entry]
) -> tuple[Candidates, dict[int, str]]:
    """Every epoch of every trial that has ended and whose predictions were kept, and the trials that are left out, with
    the reason. Where `search.best_epoch` chooses the epochs by another metric, each trial is there at its best one.
    Where trials were validated on different cases, those on the same cases as most.

    Raises FolderError where there is none.
    """
    ended = [entry for entry in entries if entry.state not in ("failed", "unfinished")]
    kept = {entry.number: folder.predictions(entry.number) for entry in ended}
    cases = Counter(found["labels"].tobytes() for found in kept.values() if found is not None and len(found["epochs"]))
    if not cases:
        raise FolderError(
            f"{folder.path} has no trial that ended with predictions: `medtune resume {folder.path}` goes on with it"
        )
    ((most, _),) = cases.most_common(1)
    trials, epochs, logits, left_out = [], [], [], {}
    for entry in ended:
        found = kept[entry.number]
        if found is None or not len(found["epochs"]):
            left_out[entry.number] = "it has left no predictions"
        elif found["labels"].tobytes() != most:
            left_out[entry.number] = "it was validated on other cases than most"
        else:
            labels = found["labels"]
            for epoch, of_epoch in zip(found["epochs"].tolist(), found["logits"], strict=True):
                at_best = config.epoch_metric == config.search.metric or epoch == entry.best_epoch
                if at_best and np.isfinite(of_epoch).all():
                    trials.append(entry.number)
                    epochs.append(epoch)
                    logits.append(of_epoch)
    if not trials:
        raise FolderError(f"{folder.path}: the predictions of every trial hold values that are no numbers")
    task = describe(config.data).task
    numbers = np.array(trials, np.intp), np.array(epochs, np.intp)
    return Candidates(*numbers, np.stack(logits), labels, task, config.search.metric), left_out


def _entries(folder: SweepFolder, config: SweepConfig) -> list[Entry]:
    return Ledger(folder, config).entries()


def _ended(entries: Sequence[Entry]) -> dict[str, int]:
    return dict(sorted(Counter(entry.state for entry in entries if entry.state != "unfinished").items()))


def _costs(folder: SweepFolder, config: SweepConfig, trials: set[int]) -> tuple[Cost, dict[int, float]]:
    """What each trial costs: parameters where the models differ in them, else seconds an epoch."""
    ledger, info = Ledger(folder, config), describe(config.data)
    channels = 3 if config.data.as_rgb else info.channels
    points = {number: trial_config(config.trial, ledger.point(number)).model for number in sorted(trials)}
    builds = {number: model.model_copy(update=NOT_BUILT).model_dump_json() for number, model in points.items()}
    sizes = {
        build: parameters(ModelConfig.model_validate_json(build), channels, len(info.classes), config.data.side)
        for build in set(builds.values())
    }
    if len(set(sizes.values())) > 1:
        return "parameters", {number: float(sizes[build]) for number, build in builds.items()}
    seconds = {number: [record["epoch_seconds"] for record in folder.epochs(number)] for number in sorted(trials)}
    return "seconds an epoch", {number: median(each) for number, each in seconds.items() if each}
