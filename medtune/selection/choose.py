"""The choice: from candidates to the winner, what it is worth, and who else it could have been."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.evaluation.intervals import Interval
from medtune.search.entries import broken_by, violation
from medtune.selection.candidates import Candidates, Draws, best_of_trials, draw
from medtune.selection.corrected import Corrected, corrected
from medtune.selection.standing import Standing, front_of, intervals, wins_of_trials
from medtune.selection.thrifty import ONE, thrifty
from medtune.selection.tie_set import tie_set

Limits = Mapping[Any, Mapping[Any, float]]


@dataclass(frozen=True)
class Selection:
    """What is chosen, and what speaks for it.

    eligible: the candidates that the choice was made among. draws: how they do on resamples. winner, thrifty,
    one_standard_error: indices of the eligible: the best as it reads, the cheapest that is about as good, and the
    cheapest within one standard error, which is often truly worse: see `thrifty`. tie: the trials that cannot be told
    from the best, ascending. standings: of each trial, the best first. considered: how many candidates there were.
    note: what to know of the constraints, or nothing.
    """

    eligible: Candidates
    draws: Draws
    winner: int
    raw: Interval
    corrected: Corrected
    thrifty: int
    one_standard_error: int
    tie: tuple[int, ...]
    standings: tuple[Standing, ...]
    considered: int
    note: str = ""

    @property
    def trial(self) -> int:
        """The number of the winner's trial."""
        return int(self.eligible.trials[self.winner])

    @property
    def epoch(self) -> int:
        """The winner's."""
        return int(self.eligible.epochs[self.winner])

    def as_json(self) -> dict[str, Any]:
        """All of it in plain numbers, null where one is undefined; `winner`, `thrifty`, `one_standard_error`, `tie` and
        `pareto` are numbers of trials."""
        return {
            "winner": self.trial,
            "epoch": self.epoch,
            "metric": self.eligible.metric,
            **self.corrected.as_json(),
            "raw_interval": self.raw.as_json(),
            "tie": list(self.tie),
            "thrifty": int(self.eligible.trials[self.thrifty]),
            "one_standard_error": int(self.eligible.trials[self.one_standard_error]),
            "pareto": sorted(standing.trial for standing in self.standings if standing.front),
            "note": self.note or None,
            "cases": len(self.eligible.labels),
            "candidates": self.considered,
            "eligible": len(self.eligible),
            "resamples": len(self.draws.winners),
            "trials": [standing.as_json() for standing in self.standings],
        }


def choose(
    candidates: Candidates,
    resamples: int,
    seed: int,
    costs: Mapping[int, float] | None = None,
    constraints: Limits | None = None,
    level: float = 0.95,
) -> Selection:
    """The best candidate that keeps the constraints, what it is worth, who ties with it, and the cheapest of the near.

    costs: of each trial what is to be saved, such as parameters or seconds. constraints: as in the sweep file,
    `{"val/ece": {"max": 0.1}}`; where no candidate keeps them, those that break them least are eligible, and `note`
    says so. They are judged once, on all cases: what a candidate owes to luck in keeping them is not corrected
    for. Raises ValueError where there are no candidates, or where the metric is undefined on these cases.
    """
    if not len(candidates):
        raise ValueError("there is nothing to choose from: no trial has predictions")
    broken = [broken_by(metrics, constraints or {}) for metrics in candidates.metrics]
    eligible, note = _eligible(broken)
    among = candidates if eligible.all() else candidates.part(np.flatnonzero(eligible))
    draws = draw(among, resamples, np.random.default_rng(seed))
    winner, tie = int(among.goodness.argmax()), tie_set(among, draws, level)
    [raw] = intervals(among, np.array([winner]), draws.resamples.counts, level)
    shown = best_of_trials(candidates, behind=~eligible)
    return Selection(
        eligible=among,
        draws=draws,
        winner=winner,
        raw=raw,
        corrected=corrected(among, draws, tie, raw, level),
        thrifty=thrifty(among, draws, costs or {}),
        one_standard_error=thrifty(among, draws, costs or {}, ONE),
        tie=tuple(tie.tolist()),
        standings=_standings(
            candidates,
            shown,
            intervals(candidates, shown, draws.resamples.counts, level),
            front_of([candidates.metrics[index] for index in shown], eligible[shown]),
            [broken[index] for index in shown],
            wins_of_trials(among, draws),
            set(tie.tolist()),
            costs or {},
        ),
        considered=len(candidates),
        note=note,
    )


def _eligible(broken: Sequence[Mapping[str, float]]) -> tuple[NDArray[np.bool_], str]:
    """Who may be chosen, (candidates,), and what there is to say of it."""
    violations = np.array([violation(each) for each in broken])
    least = int(violations.argmin())
    if violations[least] == 0:
        return violations == 0, ""
    worst = ", ".join(f"{name} by {over:.3g}" for name, over in broken[least].items() if over > 0)
    return violations == violations[least], f"nothing keeps the constraints; the winner breaks them least: {worst}"


def _standings(
    candidates: Candidates,
    shown: NDArray[np.intp],
    reaches: Sequence[Interval],
    front: NDArray[np.bool_],
    broken: Sequence[Mapping[str, float]],
    wins: Mapping[int, float],
    tied: Set[int],
    costs: Mapping[int, float],
) -> tuple[Standing, ...]:
    """Of each trial at its best epoch, of those that are eligible where there are any: first who keeps the constraints,
    then the best, then the lowest number. All but the last three are of the candidates `shown`."""
    standings = []
    for place, index in enumerate(shown):
        trial = int(candidates.trials[index])
        standing = Standing(
            trial=trial,
            epoch=int(candidates.epochs[index]),
            value=float(candidates.metrics[index][candidates.metric]),
            interval=reaches[place],
            wins=wins.get(trial, 0.0),
            tied=trial in tied,
            broken={name: over for name, over in broken[place].items() if over > 0},
            front=bool(front[place]),
            cost=costs.get(trial),
        )
        standings.append(standing)
    return tuple(sorted(standings, key=lambda one: (violation(one.broken), -candidates.sign * one.value, one.trial)))
