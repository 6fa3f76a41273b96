"""All that the predictions of one model on some cases say, put together: what `medtune evaluate` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtune.evaluation.calibration import KINDS, usual_kind
from medtune.evaluation.calibration_error import Estimate, calibration_estimate, calibration_estimates
from medtune.evaluation.calibrators import Calibrator, Uncalibrated, calibrator_from_json
from medtune.evaluation.coverage import CoverageCurve, coverage_curve
from medtune.evaluation.discrimination import Discrimination, discrimination
from medtune.evaluation.intervals import Interval, accuracy_interval
from medtune.evaluation.label_noise import Suspects, label_issues
from medtune.evaluation.metrics import Floats, Integers, check_shapes, one_vs_rest, probabilities
from medtune.evaluation.mistakes import Decisions, confident_mistakes
from medtune.evaluation.net_benefit import DecisionCurve, decision_curves
from medtune.evaluation.proper_scores import ProperScores, proper_scores
from medtune.evaluation.recalibration import Choice, choose
from medtune.evaluation.thresholds import (
    Report,
    Threshold,
    choose_thresholds,
    cross_fitted_report,
    report_thresholds,
    thresholds_from_json,
)
from medtune.task import Task

MOST = 20  # mistakes and suspects that are listed


@dataclass(frozen=True)
class Decided:
    """What was chosen on validation, and is used on other cases: saved with a retrained model.

    thresholds: of the probabilities after the calibrator."""

    calibrator: Calibrator
    thresholds: Sequence[Threshold]

    def as_json(self) -> dict[str, Any]:
        return {"calibrator": self.calibrator.as_json(), "thresholds": [one.as_json() for one in self.thresholds]}


def decided_from_json(saved: Mapping[str, Any]) -> Decided:
    """Of `as_json`. Raises ValueError for what is missing or unknown."""
    try:
        return Decided(calibrator_from_json(saved["calibrator"]), thresholds_from_json(saved["thresholds"]))
    except KeyError as error:
        raise ValueError(f"what was decided is not whole: {error}") from error


def decide(logits: Floats, labels: Integers, task: Task, generator: np.random.Generator) -> tuple[Decided, Choice]:
    """A calibrator by cross-fitting, and thresholds of what it makes of these cases. Raises ValueError as `choose`."""
    choice = choose(logits, labels, task, generator)
    thresholds = choose_thresholds(choice.calibrator.apply(logits, task), labels, task)
    return Decided(choice.calibrator, thresholds), choice


@dataclass(frozen=True)
class Recalibrated:
    """The same cases after a calibrator that did not see them. probabilities: (cases, classes)."""

    probabilities: Floats
    accuracy: Interval
    ece: Estimate
    scores: ProperScores

    def as_json(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy.as_json(),
            "ece": self.ece.as_json(),
            "nll": self.scores.nll.as_json(),
            "brier": self.scores.brier.as_json(),
        }


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it does on cases that it was not chosen on."""

    threshold: Threshold
    report: Report

    def as_json(self) -> dict[str, Any]:
        return {"target": str(self.threshold.target), **self.report.as_json(), **self.threshold.as_json()}


@dataclass(frozen=True)
class Appraisal:
    """probabilities: the model's own, (cases, classes); calibrated: what the chosen calibrator makes of them,
    cross-fitted where it was chosen here. recalibrated: by the calibrator's kind. `decided` is what would be used on
    other cases, or was brought along from them, and then `choice` is None."""

    task: Task
    classes: Sequence[str]
    labels: Integers
    probabilities: Floats
    calibrated: Floats
    discrimination: Discrimination
    calibration: Mapping[str, Estimate]
    scores: ProperScores
    recalibrated: Mapping[str, Recalibrated]
    decided: Decided
    choice: Choice | None
    operating_points: Sequence[OperatingPoint]
    decision_curves: Sequence[DecisionCurve]
    coverage: CoverageCurve
    mistakes: Decisions
    suspects: Suspects

    def as_json(self) -> dict[str, Any]:
        return {
            "cases": len(self.labels),
            "task": self.task,
            "classes": list(self.classes),
            "discrimination": self.discrimination.as_json(),
            "calibration": {name: estimate.as_json() for name, estimate in self.calibration.items()},
            "scores": self.scores.as_json(),
            "recalibration": {
                "decided": self.decided.calibrator.as_json(),
                **({"choice": self.choice.as_json()} if self.choice else {}),
                "after": {kind: one.as_json() for kind, one in self.recalibrated.items()},
            },
            "operating_points": [point.as_json() for point in self.operating_points],
            "decision_curves": [curve.as_json() for curve in self.decision_curves],
            "coverage": self.coverage.as_json(),
            "mistakes": [mistake.as_json() for mistake in self.mistakes],
            "label_noise": {
                "suspects": len(self.suspects),
                "first": [suspect.as_json() for suspect in list(self.suspects)[:MOST]],
            },
        }


def appraise(
    logits: Floats, labels: Integers, task: Task, classes: Sequence[str], seed: int, decided: Decided | None = None
) -> Appraisal:
    """logits: float32 (cases, classes); labels: (cases,) or (cases, labels); classes: a name for each column.

    decided: what was chosen on other cases. Without it calibrators and thresholds are cross-fitted here, so that none
    is judged on cases that it has seen. Raises ValueError as `metrics`.
    """
    labels = check_shapes(logits, labels, task)
    generator = np.random.default_rng(seed)
    raw, choice = probabilities(logits, task), None
    if decided is None:
        decided, choice = decide(logits, labels, task, generator)
        after = {kind: of.probabilities for kind, of in choice.fitted.items() if kind != Uncalibrated.kind}
        calibrated = choice.chosen.probabilities
        points = _cross_fitted_points(decided.thresholds, calibrated, labels, task, generator)
    else:
        calibrated = decided.calibrator.apply(logits, task)
        after = {decided.calibrator.kind: calibrated}
        points = operating_points(decided, calibrated, labels, task)
    kinds = [kind for kind in KINDS.values() if kind.why_undefined(task) is None]
    return Appraisal(
        task=task,
        classes=classes,
        labels=labels,
        probabilities=raw,
        calibrated=calibrated,
        discrimination=discrimination(raw, labels, task, classes, generator),
        calibration=calibration_estimates(raw, labels, task, generator, kinds),
        scores=proper_scores(raw, labels, task, generator),
        recalibrated={kind: recalibrated(shown, labels, task, generator) for kind, shown in after.items()},
        decided=decided,
        choice=choice,
        operating_points=points,
        decision_curves=decision_curves(calibrated, labels, task, generator),
        coverage=coverage_curve(raw, labels, task, generator),
        mistakes=confident_mistakes(raw, labels, task, MOST),
        suspects=label_issues(raw, labels, task),
    )


def operating_points(decided: Decided, calibrated: Floats, labels: Integers, task: Task) -> list[OperatingPoint]:
    """What thresholds that were chosen on other cases do on these. calibrated: after the calibrator, (cases, classes).

    Raises ValueError as `metrics`."""
    reports = report_thresholds(decided.thresholds, calibrated, labels, task)
    return [OperatingPoint(*pair) for pair in zip(decided.thresholds, reports, strict=True)]


def recalibrated(shown: Floats, labels: Integers, task: Task, generator: np.random.Generator) -> Recalibrated:
    """What probabilities are worth after a calibrator: (cases, classes). Raises ValueError as `metrics`."""
    ece = calibration_estimate(shown, labels, task, usual_kind(task), generator)
    accuracy = accuracy_interval(shown, labels, task)
    return Recalibrated(shown, accuracy, ece, proper_scores(shown, labels, task, generator))


def _cross_fitted_points(
    thresholds: Sequence[Threshold], shown: Floats, labels: Integers, task: Task, generator: np.random.Generator
) -> list[OperatingPoint]:
    """Each with the threshold that is chosen on all cases, and the rates of those of the folds."""
    scores, positive = one_vs_rest(shown, labels, task)
    rows = [0 if task == "binary" else one.problem for one in thresholds]
    reports = [
        cross_fitted_report(one.target, scores[row], positive[row], generator)
        for row, one in zip(rows, thresholds, strict=True)
    ]
    return [OperatingPoint(*pair) for pair in zip(thresholds, reports, strict=True)]
