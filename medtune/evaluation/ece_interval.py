"""The ECE of `metrics.ece` with an interval, and what a perfectly calibrated model would measure: the calibration error
that is shown everywhere, from `calibration_error`, where the others are.

Takes probabilities (cases, classes) and labels as `metrics` has them, and raises ValueError where `metrics` would.
"""

import numpy as np

from medtune.evaluation.calibration import Kind, looked_at, put_in_bins
from medtune.evaluation.calibration_error import calibration_estimate
from medtune.evaluation.intervals import Interval
from medtune.evaluation.metrics import BINS, Floats, Integers, check_range
from medtune.evaluation.perfect_calibration import errors_if_perfect
from medtune.task import Task


def ece_kind(task: Task) -> Kind:
    """The kind that `metrics.ece` is: of the top label, or for multilabel of each label's positive class."""
    return Kind("positive-class" if task == "multilabel" else "top-label", BINS, "width")


def ece_interval(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """ECE as `metrics.ece` gives it, with the interval of `calibration_estimates`, stretched where it does not hold
    the ECE itself, which reads too much on few cases. `low` is 0 when the model cannot be told from a calibrated one.
    """
    estimate = calibration_estimate(probabilities, labels, task, ece_kind(task), generator, level, resamples)
    return Interval(estimate.value, min(estimate.low, estimate.value), max(estimate.high, estimate.value))


def ece_of_perfect(probabilities: Floats, task: Task, generator: np.random.Generator, resamples: int = 400) -> float:
    """The mean ECE of a perfectly calibrated model with these confidences on as many cases: what ECE reads for nothing.

    From labels drawn as the confidences say (Brocker & Smith 2007), for multilabel each label on its own.
    """
    check_range(probabilities)
    classes = looked_at(probabilities, task, ece_kind(task))
    confidence = np.take_along_axis(probabilities, classes, axis=1)
    shown = put_in_bins(confidence, np.zeros(confidence.shape, np.bool_), ece_kind(task))
    (errors,) = errors_if_perfect(probabilities, None, task, [(shown, classes)], generator, resamples)
    return float(errors.mean())
