"""What the epochs of a space cost on this machine, from a few timed batches."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtune.config.default import Point, default_point, trial_config
from medtune.config.space import Choice, Distribution, distributions, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.trial import TrialConfig
from medtune.data.catalogue import describe
from medtune.search.loading import load_search_data
from medtune.search.resources import Share

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

    def epoch(self, trial: TrialConfig) -> float:
        """Seconds of an epoch. In a cross-validation each case is trained on once for every fold but its own."""
        everyone = self.train + self.val
        cases = self.train + self.val * EVALUATION
        if trial.folds is not None:
            cases = everyone * (trial.folds - 1 + EVALUATION)
        return self._image(trial) * cases

    def _image(self, trial: TrialConfig) -> float:
        """Of the timed trials that are most like this one: of the same model and batch size, or the same model."""
        model = [timed for timed in self.timed if timed.model == trial.model.name]
        both = [timed for timed in model if timed.batch_size == trial.batch_size]
        return float(np.mean([timed.seconds for timed in both or model or self.timed]))


def measure(config: SweepConfig, share: Share) -> Costs:
    """Times a few batches of the default and of some random points on one worker's share of this machine."""
    from medtune.data.batches import to_device
    from medtune.training.device import use_threads

    use_threads(share.cpus)
    data = load_search_data(config)
    train = to_device(data.train, share.device, data.rgb)
    wall, processor = time.perf_counter(), time.process_time()
    timed = tuple(_timed(trial, config, train) for trial in points_to_time(config))
    slowness = (time.perf_counter() - wall) / (time.process_time() - processor)
    slowness = max(1.0, slowness) if share.device == "cpu" else 1.0  # a GPU is waited for
    return Costs(timed, len(data.train.labels), len(data.val.labels), slowness)


def points_to_time(config: SweepConfig) -> list[TrialConfig]:
    """The default, and random points, first one of each model and batch size that there is."""
    space = config.trial
    first = trial_config(space, default_point(space))
    if not any(distributions(space)):
        return [first]
    generator = np.random.default_rng(config.seed)
    drawn = [trial_config(space, draw_point(space, generator)) for _ in range(LOOKED_AT)]
    return _new_kinds_first([first, *drawn])[: 1 + TIMED_POINTS]


def _new_kinds_first(trials: Iterable[TrialConfig]) -> list[TrialConfig]:
    """The first trial of each model, then of each model and batch size, then the others."""
    groups: tuple[list[TrialConfig], ...] = ([], [], [])
    seen: set[Any] = set()
    for trial in trials:
        model, both = trial.model.name, (trial.model.name, trial.batch_size)
        groups[0 if model not in seen else 1 if both not in seen else 2].append(trial)
        seen |= {model, both}
    return [trial for group in groups for trial in group]


def _timed(trial: TrialConfig, config: SweepConfig, train: Any) -> Timed:
    from medtune.training.device import resolve_precision
    from medtune.training.loop import Training

    info = describe(config.data)
    precision = resolve_precision(trial.precision, train.images.device.type)
    training = Training(trial, info.task, len(info.classes), train, config.seed, precision)
    seconds, images = training.time_batches(TIMED_BATCHES)
    return Timed(trial.model.name, trial.batch_size, seconds / images)


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
