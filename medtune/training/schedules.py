"""Learning-rate schedules as plain functions of how far the training is: nothing to save, nothing to restore."""

import math
from collections.abc import Sequence

from medtune.config.trial import (
    METRICS,
    Constant,
    Cosine,
    Cyclic,
    LearningRateSchedule,
    MultiStep,
    OneCycle,
    Plateau,
    Schedule,
    Step,
    WarmRestarts,
)
from medtune.training.progress import EpochRecord, Objective


def lr_factor(
    schedule: LearningRateSchedule, step: int, steps_per_epoch: int, epochs: int, past: Sequence[EpochRecord] = ()
) -> float:
    """What the optimizer's lr is multiplied with at a step.

    step: 0 to steps_per_epoch * epochs - 1. past: the epochs before, which a plateau looks at. Steps, milestones and
    plateaus fall between epochs, the other curves are smooth.
    """
    steps = steps_per_epoch * epochs
    if isinstance(schedule, Plateau):
        factor = schedule.gamma ** len(plateaus(schedule, [record.values[schedule.metric] for record in past]))
    else:
        factor = _curve(schedule, step / steps, (step // steps_per_epoch) / epochs)
    if isinstance(schedule, Schedule) and schedule.warmup:
        factor *= min(1.0, (step + 1) / (schedule.warmup * steps))
    return factor


def plateaus(schedule: Plateau, values: Sequence[float]) -> list[int]:
    """After which epochs, counted from 1, the lr falls: when more than `patience` in a row had no better value."""
    objective = Objective(schedule.metric, METRICS[schedule.metric])
    best: float | None = None
    falls, waited = [], 0
    for epoch, value in enumerate(values, start=1):
        if objective.better(value, best):
            best, waited = value, 0
        else:
            waited += 1
        if waited > schedule.patience:
            falls.append(epoch)
            waited = 0
    return falls


def _curve(schedule: LearningRateSchedule, progress: float, epoch_progress: float) -> float:
    match schedule:
        case Cosine():
            return _cosine(1.0, schedule.final, progress)
        case Step():
            # 1e-9: 0.3 * 10 epochs must be passed at the third, although 3 / 10 / 0.3 is a little below 1
            return schedule.gamma ** math.floor(epoch_progress / schedule.every + 1e-9)
        case MultiStep():
            return schedule.gamma ** sum(epoch_progress + 1e-9 >= milestone for milestone in schedule.milestones)
        case Cyclic():
            phase = progress * schedule.cycles % 1
            return schedule.low + (1 - schedule.low) * (1 - abs(2 * phase - 1))  # Smith 2017, "triangular"
        case WarmRestarts():
            return _cosine(1.0, schedule.final, _since_restart(schedule, progress))
        case OneCycle():
            return _one_cycle(schedule, progress)
        case Constant() | Plateau():
            return 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _since_restart(schedule: WarmRestarts, progress: float) -> float:
    """How much of the current period is behind, 0 to 1 (Loshchilov & Hutter 2017)."""
    start, length = 0.0, schedule.first
    while progress >= start + length - 1e-9:
        start, length = start + length, length * schedule.growth
    return max(0.0, progress - start) / length


def _one_cycle(schedule: OneCycle, progress: float) -> float:
    """Up by a cosine to the lr at `peak`, then down by another (Smith & Topin 2018)."""
    if progress < schedule.peak:
        return _cosine(schedule.start_factor, 1.0, progress / schedule.peak)
    return _cosine(1.0, schedule.final_factor, (progress - schedule.peak) / (1 - schedule.peak))
