"""Decisions by the thresholds that validation chose."""

import math

import numpy as np

from medtune.evaluation.appraisal import Decided
from medtune.evaluation.calibrators import Uncalibrated
from medtune.evaluation.thresholds import Target, Threshold
from medtune.trained.decision import decision_rule

YOUDEN = Target("youden")


def decided(*thresholds: Threshold) -> Decided:
    return Decided(Uncalibrated(), thresholds)


def test_two_classes_by_youdens_threshold_of_the_second() -> None:
    others = Threshold(1, Target("sensitivity", 0.9), 0.1), Threshold(1, Target("fixed", 0.5), 0.5)
    rule = decision_rule(decided(*others, Threshold(1, YOUDEN, 0.3)), "binary", ["no", "yes"])
    shown = np.array([[0.71, 0.29], [0.7, 0.3], [0.1, 0.9]])
    assert rule.decisions(shown) == ["no", "yes", "yes"]
    assert (rule.rule, rule.thresholds) == ("Youden", {"yes": 0.3})


def test_two_classes_without_it_by_one_half_where_a_tie_is_the_first() -> None:
    for known in (decided(), decided(Threshold(1, YOUDEN, math.nan, "no case is positive"))):
        rule = decision_rule(known, "binary", ["no", "yes"])
        assert rule.rule == "above 0.5"
        assert rule.decisions(np.array([[0.5, 0.5], [0.4999, 0.5001]])) == ["no", "yes"]


def test_labels_each_by_their_own() -> None:
    known = decided(Threshold(0, YOUDEN, 0.2), Threshold(1, YOUDEN, math.nan, "no case is positive"))
    rule = decision_rule(known, "multilabel", ["a", "b"])
    assert rule.rule == "Youden, else above 0.5" and rule.thresholds["a"] == 0.2
    assert rule.decisions(np.array([[0.2, 0.4], [0.3, 0.6], [0.1, 0.9], [0.1, 0.1]])) == ["a", "a + b", "b", "none"]


def test_of_several_classes_the_likeliest() -> None:
    known = decided(*(Threshold(label, YOUDEN, 0.01) for label in range(3)))
    for task in ("multiclass", "ordinal"):
        rule = decision_rule(known, task, ["a", "b", "c"])  # type: ignore[arg-type]
        assert rule.decisions(np.array([[0.2, 0.5, 0.3]])) == ["b"]
        assert (rule.rule, rule.thresholds) == ("likeliest class", {})
