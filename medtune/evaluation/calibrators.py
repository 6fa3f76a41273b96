"""Calibrators: fitted on the logits of validation, they turn logits into probabilities that come true as often as said.

Shapes as in `metrics`: logits and probabilities are (cases, classes), labels (cases,), (cases, 1), or (cases, labels)
for multilabel. A calibrator is a few numbers, saved with a model's weights and read back with
`calibrator_from_json`. `fit` and `apply` raise ValueError for shapes and labels that do not fit and for logits that are
not finite. A class that is missing, a single case and perfectly separated cases all give a calibrator.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from medtune.evaluation.metrics import Floats, Integers, check_shapes, nll, one_vs_rest, probabilities
from medtune.task import Task

Array = NDArray[np.float64]
COLDEST, HOTTEST = 0.05, 20.0


class Calibrator(ABC):
    """Logits to probabilities, in a way that was learned. Its fields are numbers, or tuples of them."""

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, logits: Floats, labels: Integers, task: Task) -> Self: ...

    @abstractmethod
    def apply(self, logits: Floats, task: Task) -> Array:
        """Probabilities (cases, classes); rows sum to 1 but for multilabel."""

    def as_json(self) -> dict[str, Any]:
        """`kind`, and what `calibrator_from_json` needs."""
        return {"kind": self.kind, **{name: _lists(value) for name, value in vars(self).items()}}


@dataclass(frozen=True)
class Uncalibrated(Calibrator):
    """The model's own probabilities: softmax, or the sigmoid of each label."""

    kind: ClassVar[str] = "none"

    @classmethod
    def fit(cls, logits: Floats, labels: Integers, task: Task) -> Self:
        checked_logits(logits, labels, task)
        return cls()

    def apply(self, logits: Floats, task: Task) -> Array:
        return probabilities(logits, task)


@dataclass(frozen=True)
class Temperature(Calibrator):
    """All logits divided by one number (Guo et al. 2017, section 4.2); the order of the classes stays as it was.

    Multilabel has one temperature for all labels. It is where the NLL is least, between .05 and 20: cases that are all
    right would want 0, and `at_bound` says so. Where no temperature is better than 1, it is 1.
    """

    kind: ClassVar[str] = "temperature"
    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"a temperature of {self.temperature}: it must be above 0 and finite")

    @classmethod
    def fit(cls, logits: Floats, labels: Integers, task: Task) -> Self:
        logits, labels = checked_logits(logits, labels, task)

        def loss(log_temperature: float) -> float:
            return nll(logits / math.exp(log_temperature), labels, task)

        ends = math.log(COLDEST), math.log(HOTTEST)
        # the NLL is convex in 1 / temperature, and so has one valley; the search itself never tries the ends
        found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9}).x
        # of equals the first: below some temperature an NLL can be 0 to the last bit
        best = min((0.0, *ends, float(found)), key=loss)
        return cls({ends[0]: COLDEST, ends[1]: HOTTEST}.get(best, math.exp(best)))

    @property
    def at_bound(self) -> bool:
        return self.temperature in (COLDEST, HOTTEST)

    def apply(self, logits: Floats, task: Task) -> Array:
        return probabilities(logits.astype(np.float64) / self.temperature, task)

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "at_bound": self.at_bound}


@dataclass(frozen=True)
class VectorScaling(Calibrator):
    """Each logit times a scale plus a bias of its class (Guo et al. 2017, section 4.2) or label (Platt 1999).

    Two numbers a class are many on few cases, and the bias of a missing class would be minus infinity: scale and bias
    have a normal prior around 1 and 0 with standard deviation 1, half of the squared distance beside the summed NLL,
    which fades as cases come. Of .1 to 10 times that, 1 and 3 did best on new cases, with 78 and 400 to fit on.
    """

    kind: ClassVar[str] = "vector"
    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.bias) or not all(map(math.isfinite, (*self.scale, *self.bias))):
            raise ValueError("vector scaling needs a finite scale and bias for each class")

    @classmethod
    def fit(cls, logits: Floats, labels: Integers, task: Task) -> Self:
        logits, labels = checked_logits(logits, labels, task)
        cases, classes = logits.shape
        true, terms = (labels, cases * classes) if task == "multilabel" else (np.eye(classes)[labels], cases)
        identity = np.repeat([1.0, 0.0], classes)

        def loss(parameters: Array) -> tuple[float, Array]:
            scaled = logits * parameters[:classes] + parameters[classes:]
            residual, away = probabilities(scaled, task) - true, parameters - identity
            gradient = np.concatenate([(residual * logits).sum(axis=0), residual.sum(axis=0)]) + away
            return (nll(scaled, labels, task) * terms + away @ away / 2) / cases, gradient / cases

        exact = {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8}
        found = minimize(loss, identity, jac=True, method="L-BFGS-B", options=exact).x
        best = found if loss(found)[0] <= loss(identity)[0] else identity
        return cls(tuple(best[:classes].tolist()), tuple(best[classes:].tolist()))

    def apply(self, logits: Floats, task: Task) -> Array:
        _check_classes(logits, len(self.scale))
        return probabilities(logits.astype(np.float64) * np.array(self.scale) + np.array(self.bias), task)


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """The best rising steps from probability to frequency (Zadrozny & Elkan 2002), linear between the breakpoints.

    Binary: of class 1; multi-class and ordinal: each class against the rest, then divided by their sum; multilabel:
    each label. Where the steps say never or always among n cases, 1 / (n + 2) is left for the other (Laplace's rule),
    so that a single surprise is not infinitely bad. It joins cases that had different probabilities, which can cost
    AUROC, and wants more cases than the others: some hundreds a class.
    """

    kind: ClassVar[str] = "isotonic"
    before: tuple[tuple[float, ...], ...]  # (problems, breakpoints), of which each problem has its own number
    after: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.before or [*map(len, self.before)] != [*map(len, self.after)] or not all(self.before):
            raise ValueError("isotonic calibration needs a probability for each breakpoint, and one of them at least")
        rising = all(low < high for curve in self.before for low, high in pairwise(curve))
        if not rising or not all(0 <= number <= 1 for curve in (*self.before, *self.after) for number in curve):
            raise ValueError("the breakpoints of isotonic calibration must rise, and all of its numbers lie in 0..1")

    @classmethod
    def fit(cls, logits: Floats, labels: Integers, task: Task) -> Self:
        from sklearn.isotonic import IsotonicRegression  # which applying does not need

        logits, labels = checked_logits(logits, labels, task)
        least = 1 / (len(logits) + 2)
        before, after = [], []
        for scores, positive in zip(*one_vs_rest(probabilities(logits, task), labels, task), strict=True):
            steps = IsotonicRegression(y_min=0, y_max=1).fit(scores, positive.astype(np.float64))
            before.append(tuple(steps.X_thresholds_.tolist()))
            after.append(tuple(np.clip(steps.y_thresholds_, least, 1 - least).tolist()))
        return cls(tuple(before), tuple(after))

    def apply(self, logits: Floats, task: Task) -> Array:
        _check_classes(logits, 2 if task == "binary" else len(self.before))
        raw = probabilities(logits, task)
        columns = raw[:, 1:] if task == "binary" else raw
        mapped = np.stack([np.interp(*curve) for curve in zip(columns.T, self.before, self.after, strict=True)], axis=1)
        if task == "multilabel":
            return mapped
        return np.hstack([1 - mapped, mapped]) if task == "binary" else mapped / mapped.sum(axis=1, keepdims=True)


CALIBRATORS: dict[str, type[Calibrator]] = {c.kind: c for c in (Uncalibrated, Temperature, VectorScaling, Isotonic)}


def calibrator_class(kind: object) -> type[Calibrator]:
    if not isinstance(kind, str) or kind not in CALIBRATORS:
        raise ValueError(f"a calibrator of kind {kind!r}: known are {', '.join(CALIBRATORS)}")
    return CALIBRATORS[kind]


def calibrator_from_json(saved: Mapping[str, Any]) -> Calibrator:
    """The calibrator of `as_json`. Raises ValueError for an unknown kind, and for numbers that are missing or wrong."""
    made = calibrator_class(saved.get("kind"))
    try:
        return made(**{field.name: _numbers(saved[field.name]) for field in fields(made)})  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise ValueError(f"a calibrator of kind {made.kind} is not whole: {error}") from error


def _lists(value: Any) -> Any:
    """As JSON gives them back."""
    return list(map(_lists, value)) if isinstance(value, tuple) else value


def _numbers(saved: Any) -> Any:
    return tuple(map(_numbers, saved)) if isinstance(saved, list | tuple) else float(saved)


def checked_logits(logits: Floats, labels: Integers, task: Task) -> tuple[Array, Integers]:
    labels = check_shapes(logits, labels, task)
    probabilities(logits, task)  # raises where a logit is not finite
    return logits.astype(np.float64), labels


def _check_classes(logits: Floats, classes: int) -> None:
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise ValueError(f"logits of shape {logits.shape}: the calibrator was fitted on {classes} classes")
