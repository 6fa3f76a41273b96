"""The cheapest trial that is about as good as the best."""

from collections.abc import Mapping

import numpy as np

from medtune.selection.candidates import Candidates, Draws, best_of_trials

ERRORS = 0.25  # see `thrifty`
ONE = 1.0  # the usual rule


def thrifty(candidates: Candidates, draws: Draws, costs: Mapping[int, float], errors: float = ERRORS) -> int:
    """The index of the candidate of the cheapest trial that is not behind the best by more than some standard errors of
    its difference to it, paired over the resamples.

    One standard error is the rule of Breiman et al. 1984 for a path of ever simpler models, where neighbours are
    alike. Of unrelated trials it takes one that is truly worse: by .009 on 78 cases, and by .015 where cheap ones tend
    to be worse (docs/selection.md). A quarter of one costs less than .003 in all that was simulated: such a trial is as
    good or better in two of five resamples.

    costs: of each trial, such as its parameters or seconds; of equally cheap ones the better. A trial without a cost is
    not taken for another.
    """
    best, each = int(candidates.goodness.argmax()), best_of_trials(candidates)
    behind = candidates.goodness[best] - candidates.goodness[each]
    drawn = draws.in_bag[draws.defined]
    error = (drawn[:, [best]] - drawn[:, each]).std(axis=0) if len(drawn) else np.zeros(len(each))
    near = each[behind <= errors * error]
    cost = [costs.get(int(trial), np.inf) for trial in candidates.trials[near]]
    return int(near[np.lexsort((-candidates.goodness[near], cost))[0]])
