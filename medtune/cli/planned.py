"""What a sweep would take, in words and as JSON."""

from dataclasses import asdict
from typing import Any

from medtune.cli.progress import in_words
from medtune.search.plan import Budget, Estimate, Spread


def planned_lines(found: Estimate) -> list[str]:
    """The time, what would be stopped early, and what a budget would give."""
    return [_time(found), _trials(found), *(_budget(budget, found.trials) for budget in found.budgets)]


def _time(found: Estimate) -> str:
    low, high = in_words(found.seconds.low), in_words(found.seconds.high)
    mostly = f", mostly {low} to {high}" if low != high else ""
    most = f"at most {in_words(found.at_most)} ({found.an_epoch:.2g} s an epoch)"
    return f"time     about {in_words(found.expected)}{mostly}, {most}"


def _trials(found: Estimate) -> str:
    trials = f"{found.complete.median:.0f} complete, {found.pruned.median:.0f} pruned{_range(found.pruned)}"
    return f"trials   about {trials}; {found.epochs.median:.0f} epochs{_range(found.epochs)}"


def _budget(budget: Budget, trials: int) -> str:
    return f"budget   in {budget.hours:g} h: {budget.trials.median:.0f} of {trials} trials{_range(budget.trials)}"


def _range(spread: Spread) -> str:
    return "" if spread.low == spread.high else f" ({spread.low:.0f} to {spread.high:.0f})"


def as_json(found: Estimate) -> dict[str, Any]:
    """`seconds`; and `pruned`, `complete`, `epochs_trained` and each budget's trials with median, low and high."""
    seconds = {"epoch": found.an_epoch, "expected": found.expected, "at_most": found.at_most}
    return {
        "seconds": {**seconds, "low": found.seconds.low, "high": found.seconds.high},
        "pruned": asdict(found.pruned),
        "complete": asdict(found.complete),
        "epochs_trained": asdict(found.epochs),
        "budget": [{"hours": budget.hours, "trials": asdict(budget.trials)} for budget in found.budgets],
        "rehearsals": found.rehearsals,
    }
