"""Learning-rate schedules as plain functions of how far the training is: nothing to save, nothing to restore."""

import math

from medtune.config.trial import Constant, Cosine, LearningRateSchedule, MultiStep, OneCycle, Schedule, Step


def lr_factor(schedule: LearningRateSchedule, step: int, steps_per_epoch: int, epochs: int) -> float:
    """What the optimizer's lr is multiplied with at a step.

    step: 0 to steps_per_epoch * epochs - 1. Steps and milestones fall between epochs, the other curves are smooth.
    """
    steps = steps_per_epoch * epochs
    epoch_progress = (step // steps_per_epoch) / epochs
    factor = _curve(schedule, step / steps, epoch_progress)
    if isinstance(schedule, Schedule) and schedule.warmup:
        factor *= min(1.0, (step + 1) / (schedule.warmup * steps))
    return factor


def _curve(schedule: LearningRateSchedule, progress: float, epoch_progress: float) -> float:
    match schedule:
        case Constant():
            return 1.0
        case Cosine():
            return _cosine(1.0, schedule.final, progress)
        case Step():
            # 1e-9: 0.3 * 10 epochs must be passed at the third, although 3 / 10 / 0.3 is a little below 1
            return schedule.gamma ** math.floor(epoch_progress / schedule.every + 1e-9)
        case MultiStep():
            return schedule.gamma ** sum(epoch_progress + 1e-9 >= milestone for milestone in schedule.milestones)
        case OneCycle():
            return _one_cycle(schedule, progress)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(schedule: OneCycle, progress: float) -> float:
    """Up by a cosine to the lr at `peak`, then down by another (Smith & Topin 2018)."""
    if progress < schedule.peak:
        return _cosine(schedule.start_factor, 1.0, progress / schedule.peak)
    return _cosine(1.0, schedule.final_factor, (progress - schedule.peak) / (1 - schedule.peak))
