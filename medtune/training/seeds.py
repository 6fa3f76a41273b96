"""Where every random number of a trial comes from."""

import numpy as np

FINALISTS = 2**30  # trial numbers below are the sweep's, those from here on the finalists'
RETRAINED = 2**31  # and from here on the retrained models'


def trial_seed(sweep_seed: int, trial: int) -> int:
    """The seed of a trial: the same whichever worker runs it, and in whatever order."""
    return int(np.random.SeedSequence([sweep_seed, trial]).generate_state(1)[0])


def fold_seed(seed: int, fold: int) -> int:
    """The seed of a fold's model within a cross-validated trial."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])
