"""What the epochs of a space cost on this machine, from a few timed batches."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medtune.config.default import Point, default_point, settings_at
from medtune.config.kinds import Settings
from medtune.config.pretrain import PretrainConfig
from medtune.config.space import Choice, Distribution, distributions, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.trial import TrialConfig
from medtune.data.catalogue import describe
from medtune.search.loading import load_search_data
from medtune.search.resources import Share
from medtune.search.worker import build_training

if TYPE_CHECKING:
    from medtune.data.batches import DeviceSplits
    from medtune.training.progress import Progress

TIMED_POINTS = 6  # besides the default
TIMED_BATCHES = 3
LOOKED_AT = 200  # random points, of which those are timed that differ most in what they cost
EVALUATION = 1 / 3  # of training, for each case: there is no backward pass


@dataclass(frozen=True)
class Timed:
    """What an image of a training step costs in a trial of this model and batch size, in seconds."""

    model: str
    batch_size: int
    seconds: float


@dataclass(frozen=True)
class Costs:
    """What was timed, and how many cases there are to train on and to validate on. slowness: wall seconds for each of
    the processor's, more than 1 where others use it too."""

    timed: tuple[Timed, ...]
    train: int
    val: int
    slowness: float = 1.0

    def epoch(self, trial: Settings) -> float:
        """Seconds of an epoch. In a cross-validation each case is trained on once for every fold but its own; in a
        pretraining, the k-NN probe looks at train too."""
        everyone = self.train + self.val
        if isinstance(trial, PretrainConfig):
            cases = (self.train if trial.images == "train" else everyone) + everyone * EVALUATION
        elif trial.folds is not None:
            cases = everyone * (trial.folds - 1 + EVALUATION)
        else:
            cases = self.train * (trial.labels.fraction if trial.labels else 1) + self.val * EVALUATION
        return self._image(trial) * cases

    def _image(self, trial: Settings) -> float:
        """Of the timed trials that are most like this one: of the same model and batch size, or the same model."""
        model = [timed for timed in self.timed if timed.model == _kind(trial)]
        both = [timed for timed in model if timed.batch_size == trial.batch_size]
        return float(np.mean([timed.seconds for timed in both or model or self.timed]))


def measure(config: SweepConfig, share: Share) -> Costs:
    """Times a few batches of the default and of some random points on one worker's share of this machine."""
    from medtune.training.device import use_threads

    use_threads(share.cpus)
    data = load_search_data(config)
    splits = data.on_device(share.device)
    wall, processor = time.perf_counter(), time.process_time()
    timed = tuple(_timed(trial, config, splits) for trial in points_to_time(config))
    slowness = (time.perf_counter() - wall) / (time.process_time() - processor)
    slowness = max(1.0, slowness) if share.device == "cpu" else 1.0  # a GPU is waited for
    return Costs(timed, len(data.train.labels), len(data.val.labels), slowness)


def points_to_time(config: SweepConfig) -> list[Settings]:
    """The default, and random points, first one of each model and batch size that there is."""
    space = config.trial
    first = settings_at(space, default_point(space))
    if not any(distributions(space)):
        return [first]
    generator = np.random.default_rng(config.seed)
    drawn = [settings_at(space, draw_point(space, generator)) for _ in range(LOOKED_AT)]
    return _new_kinds_first([first, *drawn])[: 1 + TIMED_POINTS]


def _new_kinds_first(trials: Iterable[Settings]) -> list[Settings]:
    """The first trial of each model, then of each model and batch size, then the others."""
    groups: tuple[list[Settings], ...] = ([], [], [])
    seen: set[Any] = set()
    for trial in trials:
        model, both = _kind(trial), (_kind(trial), trial.batch_size)
        groups[0 if model not in seen else 1 if both not in seen else 2].append(trial)
        seen |= {model, both}
    return [trial for group in groups for trial in group]


def _timed(trial: Settings, config: SweepConfig, splits: "DeviceSplits") -> Timed:
    seconds, images = training_to_time(trial, config, splits).time_batches(TIMED_BATCHES)
    return Timed(_kind(trial), trial.batch_size, seconds / images)


def _kind(trial: Settings) -> str:
    """What trials must have in common for an image to cost the same: the network, and whether it is only read."""
    probe = isinstance(trial, TrialConfig) and trial.model.finetune == "probe"
    return f"{trial.model.name}, probed" if probe else trial.model.name


def training_to_time(trial: Settings, config: SweepConfig, splits: "DeviceSplits") -> "Progress":
    """With all labels, so that there are batches enough."""
    from medtune.training.device import resolve_precision
    from medtune.training.progress import Objective

    info = describe(config.data)
    precision = resolve_precision(trial.precision, splits.train.device.type)
    whole, objective = trial.model_copy(update={"labels": None}), Objective(config.search.metric, config.direction)
    return build_training(whole, info.task, len(info.classes), splits, config.seed, precision, objective)


def draw_point(space: Mapping[str, Any], generator: np.random.Generator) -> Point:
    """A random point of a space, every distribution drawn evenly on its scale."""
    point: Point = {}

    def pick(path: str, distribution: Distribution) -> Any:
        point[path] = _draw(distribution, generator)
        return point[path]

    resolve(space, pick)
    return point


def _draw(distribution: Distribution, generator: np.random.Generator) -> Any:
    if isinstance(distribution, Choice):
        return int(generator.integers(len(distribution.options)))
    if distribution.log:
        drawn = np.exp(generator.uniform(np.log(distribution.low), np.log(distribution.high)))
    else:
        drawn = generator.uniform(distribution.low, distribution.high)
    return distribution.clip(float(drawn))
