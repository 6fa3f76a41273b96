"""How well a model tells the classes apart: the numbers of its ranking and of its decisions, each with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.bootstrap import Sample, case_weights, mean_interval
from medtune.evaluation.intervals import (
    Interval,
    accuracy_interval,
    auroc_interval,
    auroc_intervals_per_class,
    f1_of,
    share_interval,
    wilson_interval,
)
from medtune.evaluation.metrics import Floats, Integers, check_probabilities, predicted_labels
from medtune.task import Task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClassDiscrimination:
    """One class against the rest, or one label. `cases` have it; recall is what medicine calls sensitivity."""

    name: str
    cases: int
    auroc: Interval
    average_precision: Interval
    precision: Interval
    recall: Interval
    specificity: Interval
    f1: Interval

    @property
    def sensitivity(self) -> Interval:
        return self.recall

    def as_json(self) -> dict[str, Any]:
        return _as_json(self)


@dataclass(frozen=True)
class Discrimination:
    """The task's numbers, means over classes or labels where they are macro, and those of each class.

    `quadratic_kappa` is there for ordinal only.
    """

    cases: int
    auroc: Interval
    average_precision: Interval
    accuracy: Interval
    balanced_accuracy: Interval
    macro_precision: Interval
    macro_recall: Interval
    macro_f1: Interval
    quadratic_kappa: Interval | None
    per_class: tuple[ClassDiscrimination, ...]

    def as_json(self) -> dict[str, Any]:
        return {**_as_json(self), "per_class": [one.as_json() for one in self.per_class]}


def _as_json(numbers: ClassDiscrimination | Discrimination) -> dict[str, Any]:
    there = {name: value for name, value in vars(numbers).items() if value is not None}
    return {name: value.as_json() if isinstance(value, Interval) else value for name, value in there.items()}


def discrimination(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    classes: Sequence[str],
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> Discrimination:
    """Every number of discrimination with its interval; decisions are the usual ones (argmax, or above .5).

    probabilities: (cases, classes); classes: a name for each. For binary both classes are listed, each as the positive
    one, AUROC and average precision of the task are those of class 1, and macro means are over both.

    AUROC: DeLong (`auroc_interval`). Accuracy: `accuracy_interval`. Precision, recall and specificity of a class are
    shares of cases: Wilson. F1 of a class is 2s / (1 + s) of the share s = true positives / (cases that are or were
    called positive), so Wilson's ends go through the same formula (Lam et al. 2023). Average precision, the macro means
    and kappa: a bootstrap over cases, and Wilson's interval in the place of what it cannot see, a class that is perfect
    or has one case; see `bootstrap.mean_interval`.

    Values are scikit-learn's where it gives them without a warning. Elsewhere they are undefined and say why: recall,
    F1 and average precision of a class without cases, precision of a class that was never predicted, and a macro mean
    with one of these in it. Raises ValueError as `metrics`, and where `classes` are not as many as the columns.
    """
    labels = check_probabilities(probabilities, labels, task)
    if len(classes) != probabilities.shape[1]:
        raise ValueError(f"{len(classes)} names of classes for probabilities of shape {probabilities.shape}")
    each_as: Task = "multiclass" if task == "binary" else task
    sample = Sample.of(probabilities, labels, each_as, predicted_labels(probabilities, task))
    draws = sample.draws(case_weights(len(labels), resamples, generator))
    numbers = _Numbers(
        sample, draws, _shares(sample, draws["average_precision"][0], _named(classes, task), level), level
    )
    ranked = numbers.average_precisions()
    return Discrimination(
        cases=len(labels),
        auroc=auroc_interval(probabilities, labels, task, level),
        average_precision=ranked[1] if task == "binary" else numbers.mean("average_precision"),
        accuracy=accuracy_interval(probabilities, labels, task, level),
        balanced_accuracy=numbers.mean(*(("recall", "specificity") if task == "multilabel" else ("recall",))),
        macro_precision=numbers.mean("precision"),
        macro_recall=numbers.mean("recall"),
        macro_f1=numbers.mean("f1"),
        quadratic_kappa=_kappa(draws["kappa"], numbers.few, level) if task == "ordinal" else None,
        per_class=numbers.per_class(classes, auroc_intervals_per_class(probabilities, labels, each_as, level), ranked),
    )


def _named(classes: Sequence[str], task: Task) -> list[str]:
    return [f"{'label' if task == 'multilabel' else 'class'} {name}" for name in classes]


@dataclass(frozen=True)
class _Numbers:
    """What the bootstrap drew of each number, (1 + resamples, classes), and its intervals as a share of cases."""

    sample: Sample
    draws: dict[str, Array]
    shares: dict[str, list[Interval]]
    level: float

    @property
    def few(self) -> NDArray[np.intp]:
        """Cases of each class's rarer side."""
        return np.minimum(self.sample.actual, len(self.sample.positive) - self.sample.actual)

    def mean(self, *names: str) -> Interval:
        """Over the classes, and over several numbers of each."""
        drawn = np.concatenate([self.draws[name] for name in names], axis=1)
        shares = [one for name in names for one in self.shares[name]]
        return mean_interval(drawn, shares, np.tile(self.few == 1, len(names)), self.level)

    def average_precisions(self) -> list[Interval]:
        """Of each class alone."""
        drawn, single = self.draws["average_precision"], self.few == 1
        shares = enumerate(self.shares["average_precision"])
        return [mean_interval(drawn[:, [k]], [one], single[[k]], self.level) for k, one in shares]

    def per_class(
        self, classes: Sequence[str], aurocs: Sequence[Interval], ranked: Sequence[Interval]
    ) -> tuple[ClassDiscrimination, ...]:
        return tuple(
            ClassDiscrimination(
                name=name,
                cases=int(self.sample.actual[k]),
                auroc=aurocs[k],
                average_precision=ranked[k],
                **{number: self.shares[number][k] for number in ("precision", "recall", "specificity", "f1")},
            )
            for k, name in enumerate(classes)
        )


def _shares(sample: Sample, ranked: Array, names: Sequence[str], level: float) -> dict[str, list[Interval]]:
    """Each class's numbers as shares of cases, with Wilson's intervals; average precision `ranked` (classes,) as if it
    were one, of as many cases as the rarer side has (after Boyd et al. 2013)."""
    every, hits, called, actual = len(sample.positive), sample.hits, sample.called, sample.actual
    union, rest = called + actual - hits, every - actual

    def share(part: Integers, whole: Integers, why: str) -> list[Interval]:
        each = zip(part, whole, names, strict=True)
        return [share_interval(some, of, why.format(name), level) for some, of, name in each]

    sides = [
        share_interval(value * rarer, rarer, f"{'every' if cases else 'no'} case has {name}", level)
        for value, rarer, cases, name in zip(ranked, np.minimum(actual, rest), actual, names, strict=True)
    ]
    return {
        "precision": share(hits, called, "no case was called {}"),
        "recall": share(hits, actual, "no case has {}"),
        "specificity": share(every - union, rest, "every case has {}"),
        "f1": [f1_of(one) for one in share(hits, union, "no case has {} or was called so")],
        "average_precision": sides,
    }


def _kappa(draws: Array, few: NDArray[np.intp], level: float) -> Interval:
    value = float(draws[0, 0])
    if np.isnan(value):
        return Interval.undefined("every case has one class and was called so")
    # -1..1 as if it were a share of as many cases as the smallest class has
    share = wilson_interval((1 + value) / 2, max(int(few.min()), 1), level)
    fallback = Interval(value, 2 * share.low - 1, 2 * share.high - 1)
    return mean_interval(draws, [fallback], np.array([False]), level, lowest=-1.0)
