"""From calibrated probabilities to a decision, by the thresholds that were chosen on validation.

Two classes: class 1 where its probability is at its threshold or above it. Labels: each that is at its own. Several
classes, graded or not: the likeliest. Of the saved thresholds Youden's is taken, the highest sum of sensitivity and
specificity (Youden 1950), because it favours neither; where validation gave none, it is .5.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medtune.evaluation.appraisal import Decided
from medtune.evaluation.metrics import Floats
from medtune.evaluation.thresholds import Target
from medtune.task import Task

RULE = Target("youden")
LIKELIEST = "likeliest class"
HALF = math.nextafter(0.5, 1)  # a tie goes to class 0, as `metrics.accuracy` has it


@dataclass(frozen=True)
class DecisionRule:
    """cuts: by class or label, the calibrated probability from which on it is decided for; none where the likeliest
    class is. rule: how they were chosen, in words."""

    classes: Sequence[str]
    task: Task
    rule: str
    cuts: Mapping[int, float]

    def decisions(self, probabilities: Floats) -> list[str]:
        """A class for each case, or its labels joined by ` + `, and `none`. probabilities: (cases, classes)."""
        if self.task == "multilabel":
            called = probabilities >= np.array([self.cuts[label] for label in range(len(self.classes))])
            return [" + ".join(self.classes[int(label)] for label in np.flatnonzero(row)) or "none" for row in called]
        if self.task == "binary":
            return [self.classes[int(value >= self.cuts[1])] for value in probabilities[:, 1]]
        return [self.classes[int(index)] for index in probabilities.argmax(axis=1)]

    @property
    def thresholds(self) -> dict[str, float]:
        """By the name of the class or label."""
        return {self.classes[index]: cut for index, cut in self.cuts.items()}


def decision_rule(decided: Decided, task: Task, classes: Sequence[str]) -> DecisionRule:
    """What is decided by with a model of this task."""
    if task not in ("binary", "multilabel"):
        return DecisionRule(classes, task, LIKELIEST, {})
    problems = [1] if task == "binary" else range(len(classes))
    found = {one.problem: one.threshold for one in decided.thresholds if one.target == RULE and not one.why}
    lacking = [problem for problem in problems if problem not in found]
    rule = str(RULE) if not lacking else "above 0.5" if len(lacking) == len(problems) else f"{RULE}, else above 0.5"
    return DecisionRule(classes, task, rule, {problem: found.get(problem, HALF) for problem in problems})
