"""Operating points: a threshold for a wanted sensitivity or specificity, and what it does on other cases.

Problems are those of `metrics.one_vs_rest`: class 1 for binary, each class against the rest, or each label. A case is
called positive when its score is at or above the threshold (`metrics.accuracy` gives a tie at .5 to class 0). Choose on
validation, report on the test; on the cases that a threshold was chosen on, `cross_fitted_report` is the honest one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medtune.data.folds import stratified_folds
from medtune.evaluation.intervals import Interval, f1_of, share_interval
from medtune.evaluation.metrics import Floats, Integers, check_probabilities, one_vs_rest
from medtune.task import Task

Rule = Literal["sensitivity", "specificity", "youden", "fixed"]
Positive = NDArray[np.bool_]
EVERYONE, NOBODY = 0.0, math.nextafter(1.0, 2.0)


@dataclass(frozen=True)
class Target:
    """What a threshold is for: at least so much sensitivity or specificity, the highest sum of the two (Youden 1950),
    or a threshold that is fixed beforehand. `value` is in 0..1, and None for Youden alone. Raises ValueError otherwise.
    """

    rule: Rule
    value: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ValueError(f"a target of rule {self.rule!r}: known are {', '.join(get_args(Rule))}")
        if (self.value is None) != (self.rule == "youden") or not (self.value is None or 0 <= self.value <= 1):
            raise ValueError(f"a target of {self.rule} {self.value}: a value in 0..1 is needed, and none for youden")

    def __str__(self) -> str:
        if self.value is None:
            return "Youden"
        return f"cut at {self.value:g}" if self.rule == "fixed" else f"{self.rule} ≥ {self.value:g}"


_WANTED = (0.8, 0.9, 0.95)
TARGETS: tuple[Target, ...] = (
    *(Target("sensitivity", value) for value in _WANTED),
    *(Target("specificity", value) for value in _WANTED),
    Target("youden"),
    Target("fixed", 0.5),
)


@dataclass(frozen=True)
class Threshold:
    """A threshold of one problem: class 1 for binary, else the class or label. `why` where there is none (NaN)."""

    problem: int
    target: Target
    threshold: float
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        said = {"problem": self.problem, "rule": self.target.rule, "value": self.target.value}
        return said | ({"threshold": None, "undefined": self.why} if self.why else {"threshold": self.threshold})


@dataclass(frozen=True)
class Report:
    """What a threshold does on some cases: counts, and rates with Wilson's interval (1927).

    ppv and npv hold for the share of positives among these cases. F1 is 2 J / (1 + J) of the share J of cases rightly
    called positive among those that are positive or called so, and its interval is that of J, mapped.
    """

    threshold: float
    tp: int
    fp: int
    tn: int
    fn: int
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    accuracy: Interval
    f1: Interval

    def as_json(self) -> dict[str, Any]:
        """Without the threshold where each fold had its own."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value.as_json() if isinstance(value, Interval) else value for name, value in said.items()}
        return {name: value for name, value in said.items() if name != "threshold" or not math.isnan(value)}


def choose_threshold(target: Target, scores: Floats, positive: Positive) -> tuple[float, str]:
    """The threshold of a target on scores in 0..1 and who is positive, both (cases,); NaN and why where it has none.

    For a sensitivity the highest threshold that reaches it, for a specificity the lowest; of equal sums of both the one
    with more sensitivity. It lies halfway between two scores, is 0 where everyone must be positive and the next number
    above 1 where nobody may be. Equal scores cannot be parted, so that a rate may lie far above the wanted one.
    """
    if target.value is not None and target.rule == "fixed":
        return target.value, ""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if missing := _missing(target.rule, positives, negatives):
        return math.nan, missing
    # cut i calls those from the i-th distinct score upwards positive; the last cut calls nobody
    distinct, place = np.unique(scores.astype(np.float64), return_inverse=True)
    tp, fp = (_from_here_up(place[side], len(distinct)) for side in (positive, ~positive))
    # a hair of tolerance, as 0.95 * 20 need not be 19
    if target.rule == "sensitivity":
        cut = np.flatnonzero(tp >= (target.value or 0) * positives - 1e-9)[-1]
    elif target.rule == "specificity":
        cut = np.flatnonzero(negatives - fp >= (target.value or 0) * negatives - 1e-9)[0]
    else:
        # whole numbers, so that equal sums are equal; argmax takes the first, which calls the most positive
        cut = np.argmax(tp * negatives - fp * positives)
    return _between(distinct, int(cut)), ""


def _missing(rule: Rule, positives: int, negatives: int) -> str:
    if positives == 0 and rule != "specificity":
        return "no case is positive"
    return "no case is negative" if negatives == 0 and rule != "sensitivity" else ""


def _from_here_up(place: NDArray[np.intp], distinct: int) -> NDArray[np.int64]:
    """How many lie at each distinct score or above it, and 0 for above all: (distinct + 1,)."""
    return np.append(np.bincount(place, minlength=distinct)[::-1].cumsum()[::-1], 0)


def _between(distinct: NDArray[np.float64], cut: int) -> float:
    if cut == 0:
        return EVERYONE
    if cut == len(distinct):
        return NOBODY
    low, high = float(distinct[cut - 1]), float(distinct[cut])
    middle = low + (high - low) / 2
    # between neighbours among the floats there is nothing
    return middle if middle > low else high


def report(threshold: float, scores: Floats, positive: Positive) -> Report:
    """What a threshold does on scores and who is positive, both (cases,). Raises ValueError where it is NaN."""
    if math.isnan(threshold):
        raise ValueError("the threshold is not a number")
    return _report(threshold, _called(threshold, scores), positive)


def _called(threshold: float, scores: Floats) -> Positive:
    # numpy would round the threshold to the scores' precision, onto a score perhaps
    return np.asarray(scores.astype(np.float64) >= threshold)


def _report(threshold: float, called: Positive, positive: Positive) -> Report:
    tp, fp = int((called & positive).sum()), int((called & ~positive).sum())
    fn, tn = int(positive.sum()) - tp, int((~positive).sum()) - fp
    return Report(
        threshold,
        tp,
        fp,
        tn,
        fn,
        sensitivity=share_interval(tp, tp + fn, "no case is positive"),
        specificity=share_interval(tn, tn + fp, "no case is negative"),
        ppv=share_interval(tp, tp + fp, "no case is called positive"),
        npv=share_interval(tn, tn + fn, "no case is called negative"),
        accuracy=share_interval(tp + tn, len(positive), "there is no case"),
        f1=f1_of(share_interval(tp, tp + fp + fn, "no case is positive or called so")),
    )


def cross_fitted_report(
    target: Target, scores: Floats, positive: Positive, generator: np.random.Generator, folds: int = 5
) -> Report:
    """What thresholds for a target do on cases that they were not chosen on: each fold's comes from the other folds.

    The folds are stratified, and as many as cases where these are fewer. `threshold` is NaN: each fold has its own.
    All rates are undefined where some fold's others give no threshold, as with a single positive. Raises ValueError
    below two folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: cross-fitting needs two at least")
    size = len(scores)
    if size == 1:
        return _no_report("a single case cannot be cross-fitted")
    called = np.zeros(size, np.bool_)
    for fold in stratified_folds(positive.astype(np.int64), min(folds, size), int(generator.integers(2**32))):
        others = np.setdiff1d(np.arange(size), fold)
        threshold, why = choose_threshold(target, scores[others], positive[others])
        if why:
            return _no_report(f"no threshold without some of the cases: {why}")
        called[fold] = _called(threshold, scores[fold])
    return _report(math.nan, called, positive)


def _no_report(why: str) -> Report:
    return Report(math.nan, 0, 0, 0, 0, *[Interval.undefined(why)] * 6)


def choose_thresholds(
    probabilities: Floats, labels: Integers, task: Task, targets: Sequence[Target] = TARGETS
) -> list[Threshold]:
    """The thresholds of all targets for each problem in turn. Raises ValueError as `metrics`."""
    labels = check_probabilities(probabilities, labels, task)
    return [
        Threshold(problem, target, *choose_threshold(target, scores, positive))
        for problem, scores, positive in _problems(probabilities, labels, task)
        for target in targets
    ]


def report_thresholds(
    thresholds: Iterable[Threshold], probabilities: Floats, labels: Integers, task: Task
) -> list[Report]:
    """What each threshold does on these cases; undefined, with its reason, where it was never found.

    Raises ValueError as `metrics`, and for a threshold of a problem that is not there.
    """
    labels = check_probabilities(probabilities, labels, task)
    known = {problem: (scores, positive) for problem, scores, positive in _problems(probabilities, labels, task)}
    reports = []
    for chosen in thresholds:
        if chosen.problem not in known:
            raise ValueError(f"a threshold of class {chosen.problem}: there are {', '.join(map(str, known))}")
        reports.append(_no_report(chosen.why) if chosen.why else report(chosen.threshold, *known[chosen.problem]))
    return reports


def _problems(probabilities: Floats, labels: Integers, task: Task) -> Iterable[tuple[int, Floats, Positive]]:
    scores, positive = one_vs_rest(probabilities, labels, task)
    return zip([1] if task == "binary" else range(len(scores)), scores, positive, strict=True)


def thresholds_from_json(saved: Iterable[Mapping[str, Any]]) -> list[Threshold]:
    """The thresholds of `as_json`. Raises ValueError for an unknown rule and for what is missing or no number."""
    found = []
    for entry in saved:
        try:
            target = Target(entry["rule"], entry["value"])
            threshold = math.nan if entry["threshold"] is None else float(entry["threshold"])
            found.append(Threshold(int(entry["problem"]), target, threshold, entry.get("undefined", "")))
        except (KeyError, TypeError) as error:
            raise ValueError(f"a threshold is not whole: {error}") from error
    return found
