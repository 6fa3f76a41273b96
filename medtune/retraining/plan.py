"""What is retrained: which trials, for how long, how often, and on what."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from medtune.config.default import trial_config
from medtune.config.sweep import SweepConfig, TrainOn
from medtune.config.trial import MultiStep, Plateau, TrialConfig
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.run import DEFAULT_TRIAL
from medtune.search.sweep import check_data
from medtune.selection.ensembles import Ensemble, Kind
from medtune.training.schedules import plateaus

MODEL, DEFAULT = "model", "default"  # the folders of what was chosen, and of the untuned default


@dataclass(frozen=True)
class Part:
    """One training of a plan. config: of the trial, for a single model. takes: the epochs whose weights become members
    of the model, each with its weight. It ends after the last of them; the schedule is that of `config.epochs`."""

    trial: int
    config: TrialConfig
    takes: Mapping[int, float]


@dataclass(frozen=True)
class Plan:
    """What is trained. kind: single, bagged or greedy. parts: the trainings of each model, the one of the greatest
    weight first. default: the untuned default, trained the same way, to be compared with. seeds: how many models, each
    from another seed. select: last, or best: the weights of the best epoch on validation, whatever the parts say."""

    kind: Kind
    parts: tuple[Part, ...]
    default: Part | None
    seeds: int
    train_on: TrainOn
    select: Literal["last", "best"]

    @property
    def models(self) -> list[str]:
        """The names of their folders, in the order of the seeds."""
        return [MODEL if index == 0 else f"{MODEL}-{index}" for index in range(self.seeds)]

    @property
    def everything(self) -> list[str]:
        """The names of all folders that it fills: the models' and the untuned default's."""
        return [*self.models, *([DEFAULT] if self.default else [])]

    @property
    def chosen(self) -> str:
        """What is trained, in words."""
        (first, *others) = self.parts
        if others or len(first.takes) > 1:
            return f"{self.kind} ensemble of the trials {', '.join(str(part.trial) for part in self.parts)}"
        how = "up to epoch" if self.select == "last" else "at its best epoch of"
        return f"trial {first.trial} {how} {max(first.takes) if self.select == 'last' else first.config.epochs}"

    @property
    def trial(self) -> int:
        """The one of the greatest weight."""
        return self.parts[0].trial


def plan_retrain(
    folder: SweepFolder,
    config: SweepConfig,
    chosen: Ensemble,
    seeds: int | None = None,
    epochs: int | None = None,
    train_on: TrainOn | None = None,
    with_default: bool = True,
) -> Plan:
    """chosen: trials at their epochs; one member is a single model. epochs: of every training, unless as chosen.

    An ensemble takes the epochs that were chosen, whatever `retrain.select` says. Raises FolderError where the data has
    changed, or where `retrain.select: best` is to do without validation.
    """
    check_data(folder, config)
    how, ledger = config.retrain, Ledger(folder, config)
    train_on, select = train_on or how.train_on, how.select if len(chosen.members) == 1 else "last"
    if select == "best" and train_on != "train":
        raise FolderError("retrain.select: best needs validation, so that all of it cannot be trained on")

    def part(trial: int, takes: Mapping[int, float]) -> Part:
        trained = _alone(trial_config(config.trial, ledger.point(trial)), folder.epochs(trial), train_on)
        if select == "last":
            trained = without_patience(trained)
        wanted = epochs or how.epochs
        if wanted is not None:
            trained, takes = trained.model_copy(update={"epochs": wanted}), {wanted: sum(takes.values())}
        return Part(trial, trained, takes)

    weights: dict[int, dict[int, float]] = {}
    for member in chosen.members:
        weights.setdefault(member.trial, {})[member.epoch] = member.weight
    parts = sorted((part(*each) for each in weights.items()), key=lambda one: -sum(one.takes.values()))
    tuned = [one.trial for one in parts] != [DEFAULT_TRIAL]
    until = next((entry.best_epoch for entry in ledger.entries() if entry.number == DEFAULT_TRIAL), None)
    return Plan(
        kind=chosen.kind,
        parts=tuple(parts),
        default=part(DEFAULT_TRIAL, {until: 1.0}) if with_default and tuned and until else None,
        seeds=seeds or how.seeds,
        train_on=train_on,
        select=select,
    )


def _alone(trial: TrialConfig, records: list[dict[str, Any]], train_on: TrainOn) -> TrialConfig:
    """The configuration for a single model; a plateau that has no validation to look at falls where the trial's did."""
    trial = trial.model_copy(update={"folds": None})
    if not isinstance(trial.schedule, Plateau) or train_on == "train":
        return trial
    falls = plateaus(trial.schedule, [record[trial.schedule.metric] for record in records])
    milestones = tuple(epoch / trial.epochs for epoch in falls)
    schedule = MultiStep(milestones=milestones, gamma=trial.schedule.gamma, warmup=trial.schedule.warmup)
    return trial.model_copy(update={"schedule": schedule})


def without_patience(trial: TrialConfig) -> TrialConfig:
    """For a training whose last epoch is given."""
    early_stopping = trial.early_stopping.model_copy(update={"patience": None})
    return trial.model_copy(update={"early_stopping": early_stopping})


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """As `retrain/plan.json` has it."""

    def part(one: Part) -> dict[str, Any]:
        return {"trial": one.trial, "config": one.config.model_dump(mode="json"), "takes": dict(one.takes)}

    return {
        **asdict(replace(plan, parts=(), default=None)),
        "parts": [part(one) for one in plan.parts],
        "default": plan.default and part(plan.default),
    }


def plan_before(folder: SweepFolder) -> Plan | None:
    """The plan that was retrained last; None where there is none that this version can read."""
    with contextlib.suppress(FolderError):
        return plan_of(folder)
    return None


def plan_of(folder: SweepFolder) -> Plan:
    """The plan that was retrained last. Raises FolderError where there is none."""
    path = folder.retrained / "plan.json"
    if not path.exists():
        raise FolderError(
            f"{folder.path} has no retrained model: `medtune retrain {folder.path}` comes before the test"
        )
    saved = json.loads(path.read_text())

    def part(one: dict[str, Any]) -> Part:
        takes = {int(epoch): weight for epoch, weight in one["takes"].items()}
        return Part(one["trial"], TrialConfig.model_validate(one["config"]), takes)

    try:
        default = saved["default"] and part(saved["default"])
        return Plan(**{**saved, "parts": tuple(map(part, saved["parts"])), "default": default})
    except (KeyError, TypeError):
        raise FolderError(
            f"{path} was written by an earlier medtune: `medtune retrain {folder.path}` makes the models anew"
        ) from None
