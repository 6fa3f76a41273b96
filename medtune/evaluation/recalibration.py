"""Which calibrator to use, and what it does to the very cases that it must be learned from, without the optimism.

Shapes as in `calibrators`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.data.folds import stratified_folds
from medtune.evaluation.calibrators import (
    CALIBRATORS,
    Array,
    Calibrator,
    Temperature,
    Uncalibrated,
    calibrator_class,
    checked_logits,
)
from medtune.evaluation.metrics import Floats, Integers, probabilities
from medtune.evaluation.proper_scores import case_nll
from medtune.task import Task


@dataclass(frozen=True)
class CrossFitted:
    """Probabilities (cases, classes), each case's from a calibrator that was fitted without it."""

    probabilities: Array
    folds: int
    notes: tuple[str, ...]  # what a reader should know, such as a class with fewer cases than folds


def cross_fitted(
    kind: str, logits: Floats, labels: Integers, task: Task, generator: np.random.Generator, folds: int = 5
) -> CrossFitted:
    """What a calibrator makes of the very cases that it must be learned from, without the optimism.

    Each fold's probabilities come from a calibrator fitted on the other folds, stratified by label; there are as many
    folds as cases where these are fewer. A single case keeps the model's own probabilities. Raises ValueError for an
    unknown kind and for fewer than two folds.
    """
    logits, labels = checked_logits(logits, labels, task)
    return _of_folds(calibrator_class(kind), logits, labels, task, _folds(labels, folds, generator))


def _folds(labels: Integers, folds: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    if folds < 2:
        raise ValueError(f"{folds} folds: cross-fitting needs two at least")
    if len(labels) == 1:
        return []
    return stratified_folds(labels.astype(np.int64), min(folds, len(labels)), int(generator.integers(2**32)))


def _of_folds(
    made: type[Calibrator], logits: Array, labels: Integers, task: Task, folds: Sequence[NDArray[np.int64]]
) -> CrossFitted:
    after = probabilities(logits, task)
    for fold in folds:
        others = np.setdiff1d(np.arange(len(labels)), fold)
        after[fold] = made.fit(logits[others], labels[others], task).apply(logits[fold], task)
    return CrossFitted(after, len(folds), _notes(labels, logits.shape[1], task, len(folds)))


def _notes(labels: Integers, classes: int, task: Task, folds: int) -> tuple[str, ...]:
    if not folds:
        return ("a single case cannot be cross-fitted: its probabilities are the model's own",)
    if task == "multilabel":
        of_one = labels.sum(axis=0)
        counts, what = np.minimum(of_one, len(labels) - of_one), "the rarer value of label"
    else:
        counts, what = np.bincount(labels, minlength=classes), "class"
    few = np.flatnonzero(counts < folds)
    return tuple(f"{what} {index} has {counts[index]} cases, fewer than the {folds} folds" for index in few)


@dataclass(frozen=True)
class Choice:
    """A calibrator fitted on all cases, why it is this kind, and what each kind that was tried made of the cases."""

    calibrator: Calibrator
    nll: dict[str, float]  # of each kind that was tried, cross-fitted, in nats
    fitted: dict[str, CrossFitted]  # the same folds for all

    @property
    def chosen(self) -> CrossFitted:
        """What its own kind made of the cases; of a single case, what there is."""
        return self.fitted.get(self.calibrator.kind, next(iter(self.fitted.values())))

    def as_json(self) -> dict[str, Any]:
        """What was tried and what was taken, without the probabilities."""
        notes = list(self.chosen.notes)
        if isinstance(self.calibrator, Temperature) and self.calibrator.at_bound:
            notes.append(f"the temperature ended at its bound, {self.calibrator.temperature}")
        said = {"nll": self.nll, "folds": self.chosen.folds, "notes": notes}
        return {"calibrator": self.calibrator.as_json(), **said}


def choose(
    logits: Floats,
    labels: Integers,
    task: Task,
    generator: np.random.Generator,
    folds: int = 5,
    kinds: Sequence[str] = tuple(CALIBRATORS),
) -> Choice:
    """The kind with the least cross-fitted NLL, all on the same folds.

    Temperature is taken where it is within one standard error, that of the paired differences: it has one number to
    get wrong, and the best of several looks better than it is. A single case says nothing: none is taken.
    Raises ValueError as `cross_fitted`, and where `kinds` is empty.
    """
    logits, labels = checked_logits(logits, labels, task)
    if not kinds:
        raise ValueError("no kind of calibrator to choose from")
    parts = _folds(labels, folds, generator)
    fitted = {kind: _of_folds(calibrator_class(kind), logits, labels, task, parts) for kind in kinds}
    # a colder temperature can make a probability exactly 0, which is bad enough without being infinite
    losses = {
        kind: np.minimum(case_nll(of.probabilities, labels, task), -math.log(np.finfo(float).tiny))
        for kind, of in fitted.items()
    }
    best = _best(losses) if parts else Uncalibrated.kind
    calibrator = calibrator_class(best).fit(logits, labels, task)
    means = {kind: float(loss.mean()) for kind, loss in losses.items()}
    return Choice(calibrator, means, fitted)


def _best(losses: Mapping[str, Array]) -> str:
    best = min(losses, key=lambda kind: float(losses[kind].mean()))
    if Temperature.kind in losses:
        worse = losses[Temperature.kind] - losses[best]
        if worse.mean() <= worse.std(ddof=1) / math.sqrt(len(worse)):
            return Temperature.kind
    return best
