"""What a sweep would do: its space in words, its trials, and the time that it takes, from a few timed batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtune.config.default import Point, default_point, trial_config
from medtune.config.space import Choice, Distribution, Range, distributions, grid, resolve
from medtune.config.sweep import Asha, Hyperband, SweepConfig
from medtune.config.trial import TrialConfig
from medtune.data.catalogue import describe
from medtune.search.resources import Share
from medtune.search.sweep import load_search_data, longest

TIMED_POINTS = 6  # besides the default
TIMED_BATCHES = 3
START_UP = 8.0  # seconds until the first epoch: Ray, and torch in each worker


@dataclass(frozen=True)
class Estimate:
    """Seconds. `expected`: with what pruning usually saves; `at_most`: every trial to its last epoch."""

    an_epoch: float
    expected: float
    at_most: float


def describe_space(space: Mapping[str, Any]) -> list[str]:
    """A line for each distribution, in the order of the file."""
    return [f"{path}: {_in_words(distribution)}" for path, distribution in distributions(space)]


def _in_words(distribution: Distribution) -> str:
    if isinstance(distribution, Range):
        kind = "a whole number" if distribution.integer else "a number"
        scale = ", on a log scale" if distribution.log else ""
        step = f", in steps of {distribution.step:g}" if distribution.step else ""
        return f"{kind} from {distribution.low:g} to {distribution.high:g}{scale}{step}"
    return "one of " + ", ".join(_option(option) for option in distribution.options)


def _option(option: Any) -> str:
    if isinstance(option, Mapping):
        return str(option.get("name", "a mapping"))
    if isinstance(option, Choice | Range):
        return _in_words(option)
    return str(option).lower() if isinstance(option, bool) else str(option)


def wanted_trials(config: SweepConfig) -> int:
    """How many trials there will be: a grid may have fewer points than are asked for."""
    if config.search.sampler != "grid":
        return config.search.trials
    return min(config.search.trials, sum(1 for _ in grid(config.trial)))


def expected_epochs(config: SweepConfig, epochs: int) -> float:
    """Epochs of a trial on average, if successive halving keeps one in `reduction_factor` at each rung."""
    pruning = config.pruning
    if not isinstance(pruning, Asha | Hyperband):
        return float(epochs)
    total, rung, kept = 0.0, 0.0, 1.0
    for milestone in [*_rungs(pruning, epochs), float(epochs)]:
        total += kept * (milestone - rung)
        rung, kept = milestone, kept / pruning.reduction_factor
    return total


def _rungs(pruning: Asha | Hyperband, epochs: int) -> Iterator[float]:
    milestone = float(pruning.grace_epochs)
    while milestone < epochs:
        yield milestone
        milestone *= pruning.reduction_factor


def estimate(config: SweepConfig, share: Share) -> Estimate:
    """Times a few batches of the default and of some random points on one worker's share of this machine."""
    trials, epochs = wanted_trials(config), longest(config.trial)
    seconds = float(np.mean(list(_epoch_seconds(config, share))))
    at_once = min(share.concurrent, trials)
    expected = START_UP + seconds * expected_epochs(config, epochs) * trials / at_once
    return Estimate(seconds, expected, START_UP + seconds * epochs * trials / at_once)


def _epoch_seconds(config: SweepConfig, share: Share) -> Iterator[float]:
    from medtune.data.batches import to_device
    from medtune.training.device import use_threads

    use_threads(share.cpus)
    data = load_search_data(config)
    train = to_device(data.train, share.device, data.rgb)
    for point in [default_point(config.trial), *_random_points(config)]:
        yield _timed(trial_config(config.trial, point), config, train, len(data.val))


def _timed(trial: TrialConfig, config: SweepConfig, train: Any, val_cases: int) -> float:
    """Seconds of an epoch of a trial. Evaluation costs about a third of training, for each case; in a cross-validation
    each is trained on once for every fold but its own."""
    from medtune.training.device import resolve_precision
    from medtune.training.loop import Training

    info = describe(config.data)
    precision = resolve_precision(trial.precision, train.images.device.type)
    training = Training(trial, info.task, len(info.classes), train, config.seed, precision)
    seconds, images = training.time_batches(TIMED_BATCHES)
    everyone = len(train) + val_cases
    cases = len(train) + val_cases / 3 if trial.folds is None else everyone * (trial.folds - 1 + 1 / 3)
    return seconds / images * cases


def _random_points(config: SweepConfig) -> Iterator[Point]:
    generator = np.random.default_rng(config.seed)
    for _ in range(TIMED_POINTS if any(distributions(config.trial)) else 0):
        point: Point = {}

        def pick(path: str, distribution: Distribution, point: Point = point) -> Any:
            point[path] = _draw(distribution, generator)
            return point[path]

        resolve(config.trial, pick)
        yield point


def _draw(distribution: Distribution, generator: np.random.Generator) -> Any:
    if isinstance(distribution, Choice):
        return int(generator.integers(len(distribution.options)))
    if distribution.log:
        drawn = np.exp(generator.uniform(np.log(distribution.low), np.log(distribution.high)))
    else:
        drawn = generator.uniform(distribution.low, distribution.high)
    return distribution.clip(float(drawn))
