"""One model or several: what each way of choosing is worth, from validation alone, and which of them that speaks for.

Each way is judged on cases that it has not chosen by, and those are the ones that a resample leaves out.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtune.selection.candidates import Candidates, Draws
from medtune.selection.ensembles import Ensemble, Kind, bagged_votes, greedy_votes, logits_of, single
from medtune.selection.scores import resampled_values

TRIALS = 5  # of an ensemble, unless another number is asked for: more cost more trainings, and predict no better

ENSEMBLES: tuple[Kind, ...] = ("bagged", "greedy")


@dataclass(frozen=True)
class Option:
    """A way of choosing, what it chose, and what is to be expected of the metric on new cases: NaN where that is
    undefined."""

    ensemble: Ensemble
    estimate: float

    def as_json(self) -> dict[str, Any]:
        """`estimate` null where it is undefined; `trials`: how many trainings it takes."""
        estimate = None if math.isnan(self.estimate) else self.estimate
        return {"estimate": estimate, "trials": len(self.ensemble.trials), **self.ensemble.as_json()}


@dataclass(frozen=True)
class Recommendation:
    """kind: which of the options is recommended; why: in words. The choice stays the user's."""

    kind: Kind
    why: str
    options: Mapping[Kind, Option]

    @property
    def ensemble(self) -> Ensemble:
        """What is recommended."""
        return self.options[self.kind].ensemble

    def as_json(self) -> dict[str, Any]:
        """`recommended`, `why`, and `options` by kind, each with `estimate`, `trials`, `kind` and `members`."""
        options = {kind: option.as_json() for kind, option in self.options.items()}
        return {"recommended": self.kind, "why": self.why, "options": options}


def recommend(
    candidates: Candidates,
    draws: Draws,
    worth: float,
    complete: Set[int],
    generator: np.random.Generator,
    most: int | None = TRIALS,
) -> Recommendation:
    """What the evidence supports: the bagged ensemble, unless the greedy one is better by more than the standard error
    of their difference; and that one, unless the single winner is. Ensembles are of `most` trials at the most.

    The order has reasons, as validation sets seldom tell the three apart: by a proper score a mean of models is never
    worse than they are on average; and the bagged one goes by the metric itself, while the greedy one is led astray
    where trials differ in calibration. The ensembles' estimate is the out-of-bag one. The test has no part in it.

    worth: what the single winner is worth, `Corrected.value`; NaN where that is undefined. complete: the trials that
    ran to their end.
    """
    one = Option(single(candidates), worth)
    options: dict[Kind, Option] = {"single": one}
    for votes in (bagged_votes(candidates, draws, complete), greedy_votes(candidates, generator, complete)):
        options[votes.kind] = Option(votes.ensemble(most), candidates.sign * votes.goodness(most))
    return Recommendation(*_judged(options, candidates, draws), options)


def _judged(options: Mapping[Kind, Option], candidates: Candidates, draws: Draws) -> tuple[Kind, str]:
    several = [kind for kind in ENSEMBLES if options[kind].ensemble.kind != "single"]
    if not several:
        return "single", "one trial wins on every resample, and there is nothing to average"
    if any(math.isnan(options[kind].estimate) for kind in ("single", *several)):
        return "single", "a class has too few cases to judge an ensemble on some that it was not chosen by"
    if candidates.metric == "val/ece":  # an ensemble's estimate is that of all cases, see `corrected`
        return "single", "what the single winner is worth is an ECE of fewer cases, which reads higher than one of all"

    def gain(kind: Kind, other: Kind) -> tuple[float, float]:
        """Of the other, and its standard error."""
        difference = candidates.sign * (options[other].estimate - options[kind].estimate)
        return difference, _error_of_difference(options[kind].ensemble, options[other].ensemble, candidates, draws)

    kind = several[0]
    for other in several[1:]:
        difference, error = gain(kind, other)
        kind = other if difference > error else kind
    best, one = options[kind], options["single"]
    difference, error = gain(kind, "single")
    word = "worse" if difference > 0 else "better"
    text = (
        f"the {kind} ensemble of {len(best.ensemble.trials)} trials reads {_short(best.estimate)} out of bag, "
        f"the single winner {_short(one.estimate)}: {_short(abs(difference))} {word} (standard error {_short(error)})"
    )
    if difference > error:
        return "single", f"{text}, and so the single winner is taken"
    return kind, text if difference < 0 else f"{text}, within the error; a mean depends less on luck"


def _error_of_difference(one: Ensemble, other: Ensemble, candidates: Candidates, draws: Draws) -> float:
    """The standard error of the difference between two models on these cases, by the paired bootstrap."""
    shown = np.stack([logits_of(model.probabilities(candidates), candidates.task) for model in (one, other)])
    values = resampled_values(
        shown.astype(np.float32), candidates.labels, candidates.task, candidates.metric, draws.resamples.counts
    )
    return float(np.nanstd(values[:, 1] - values[:, 0], dtype=np.float64))


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
