"""A sweep played through on made learning curves, with the pruner that the real one will have.

A trial rises as `v(t) = 0.5 + (level - 0.5) (1 - exp(-t / pace)) + noise`, with t in parts of its epochs. Level is
normal with mean .85 and deviation .055, noise has deviation .03. The logarithm of pace is normal with mean log .1 and
deviation .93, and correlated with level by -.5: what gets far gets there fast. So chosen, the curves have the mean, the
spread and the rank correlations with the last epoch, epoch by epoch, that the validation AUROC of 600 random
configurations of a small CNN has on BreastMNIST. No trial diverges. A sampler that learns is not in it: it makes later
trials better, so that fewer of them are pruned.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtune.search.pruning import Pruner

LEVEL, LEVEL_SPREAD = 0.85, 0.055
PACE, PACE_SPREAD, FAST_AND_FAR = 0.1, 0.93, 0.5
NOISE = 0.03
START_UP = 14.0  # seconds until the first epoch: Ray, and torch in each worker; 8 to 21 on machines that were tried
TRIAL_START = 0.1  # seconds: a model, a first batch
EPOCH_END = 0.015  # seconds: checkpoint, report, what the driver says to it
SHUT_DOWN = 3.0  # seconds after the last epoch: the tracking server gets the rest, Ray ends


@dataclass(frozen=True)
class Planned:
    """A trial to be. seconds: of an epoch. patience: epochs without a better value; None: all of them."""

    epochs: int
    seconds: float
    patience: int | None = None


@dataclass(frozen=True)
class Rehearsal:
    """How it went. ends: seconds at which each trial ended, in this order, (trials,). seconds: of the whole sweep."""

    ends: NDArray[np.float64]
    pruned: int
    epochs: int
    seconds: float

    @property
    def complete(self) -> int:
        return len(self.ends) - self.pruned


def rehearse(
    trials: Sequence[Planned], workers: int, pruner: Pruner, generator: np.random.Generator, slowness: float = 1.0
) -> Rehearsal:
    """Trains all trials on so many workers, each worker one at a time, in the order of their numbers. The first trial,
    the default, is never pruned. pruner: a fresh one, for which more is better. slowness: of all that is no epoch."""
    curves = learning_curves([trial.epochs for trial in trials], generator)
    last = [_last_epoch(curve, trial) for curve, trial in zip(curves, trials, strict=True)]
    waiting = iter(range(len(trials)))
    ends, pruned, epochs = [], 0, 0
    queue: list[tuple[float, int, int]] = []  # when a trial will have trained which epoch

    def start(now: float) -> None:
        number = next(waiting, None)
        if number is not None:
            first = trials[number].seconds + slowness * (TRIAL_START + EPOCH_END)
            heapq.heappush(queue, (now + first, number, 1))

    for _ in range(workers):
        start(slowness * START_UP)
    while queue:
        now, number, epoch = heapq.heappop(queue)
        epochs += 1
        stop = pruner.stop(number, epoch, float(curves[number, epoch - 1])) and number > 0
        if epoch == last[number] or stop:
            pruned += epoch < last[number]
            ends.append(now)
            start(now)
        else:
            heapq.heappush(queue, (now + trials[number].seconds + slowness * EPOCH_END, number, epoch + 1))
    return Rehearsal(np.array(ends), pruned, epochs, ends[-1] + slowness * SHUT_DOWN)


def learning_curves(epochs: Sequence[int], generator: np.random.Generator) -> NDArray[np.float64]:
    """A value for each epoch of each trial, (trials, the most epochs); behind a trial's own epochs it means nothing."""
    most = max(epochs)
    quality, other = generator.standard_normal((2, len(epochs)))
    level = np.clip(LEVEL + LEVEL_SPREAD * quality, 0.5, 1)
    speed = FAST_AND_FAR * quality + np.sqrt(1 - FAST_AND_FAR**2) * other
    pace = np.asarray(epochs) * PACE * np.exp(-PACE_SPREAD * speed)
    risen = 1 - np.exp(-np.arange(1, most + 1) / pace[:, None])
    return 0.5 + (level - 0.5)[:, None] * risen + NOISE * generator.standard_normal(risen.shape)


def _last_epoch(curve: NDArray[np.float64], trial: Planned) -> int:
    """The epoch after which a trial ends by itself: its last, or when its patience is at an end."""
    if trial.patience is None:
        return trial.epochs
    own = curve[: trial.epochs]
    best = np.maximum.accumulate(own)
    improved = np.concatenate([[True], own[1:] > best[:-1]])
    best_epoch = np.maximum.accumulate(np.where(improved, np.arange(len(own)), 0))
    ends = np.flatnonzero(np.arange(len(own)) - best_epoch >= trial.patience)
    return int(ends[0]) + 1 if len(ends) else trial.epochs
