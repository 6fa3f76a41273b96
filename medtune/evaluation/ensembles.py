"""Several predictions of the same cases: their mean, and how much of the doubt is that they disagree.

The members are the models of a deep ensemble (Lakshminarayanan et al. 2017), the views of test-time augmentation or
the samples of MC dropout (Gal & Ghahramani 2016): (members, cases, classes) throughout. Entropies are in nats; for
multilabel each label has an entropy of its own, 0..ln 2, and their mean is taken.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from medtune.evaluation.metrics import Floats, check_range, probabilities
from medtune.task import Task

Doubles = NDArray[np.float64]

SMALLEST = 1e-30  # a probability of exactly 0 has no logit


@dataclass(frozen=True)
class Uncertainty:
    """In nats, each (cases,). `entropy` of the members' mean prediction: all of the doubt. `mutual_information` between
    the prediction and the member: the part of it that is disagreement, and that a better model could do without. The
    rest is what the members doubt on average."""

    entropy: Doubles
    mutual_information: Doubles

    def as_json(self) -> dict[str, Any]:
        """Their means over the cases."""
        return {"entropy": float(self.entropy.mean()), "mutual_information": float(self.mutual_information.mean())}


def member_probabilities(logits: Floats, task: Task) -> Doubles:
    """(members, cases, classes) to the same. Raises ValueError when a logit is not finite or there is no member."""
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(f"logits of shape {logits.shape}: (members, cases, classes) is needed, and none of them 0")
    return probabilities(logits.reshape(-1, logits.shape[2]), task).reshape(logits.shape)


def mean_probabilities(logits: Floats, task: Task, weights: Floats | None = None) -> Doubles:
    """The mean of the members' probabilities, (cases, classes): the mean of probabilities, and not of logits, as
    Lakshminarayanan et al. 2017 have it. weights: (members,), not negative; equal unless given. Raises ValueError as
    `member_probabilities` does."""
    return np.asarray(np.average(member_probabilities(logits, task), axis=0, weights=weights))


def mean_logits(logits: Floats, task: Task, weights: Floats | None = None) -> NDArray[np.float32]:
    """Logits (cases, classes) whose probabilities are `mean_probabilities`: what a calibrator of one model takes. Those
    of a single member are its own."""
    if len(logits) == 1:
        return logits[0].astype(np.float32)
    shown = mean_probabilities(logits, task, weights).clip(SMALLEST, None)
    odds = shown / (1 - shown).clip(SMALLEST, None) if task == "multilabel" else shown
    return np.asarray(np.log(odds), np.float32)


def uncertainty(logits: Floats, task: Task) -> Uncertainty:
    """Of each case, from the members' logits. Raises ValueError as `member_probabilities` does."""
    members = member_probabilities(logits, task)
    total = predictive_entropy(members.mean(axis=0), task)
    # Jensen's inequality; below 0 by rounding alone
    shared = (total - predictive_entropy(members, task).mean(axis=0)).clip(min=0)
    return Uncertainty(total, shared)


def predictive_entropy(probabilities: Floats, task: Task) -> Doubles:
    """Entropy in nats of probabilities (…, cases, classes): (…, cases). 0..ln(classes); 0 ln 0 is 0.

    Raises ValueError unless all lie in 0..1.
    """
    check_range(probabilities)
    chances = probabilities.astype(np.float64)
    if task == "multilabel":
        return np.asarray((entr(chances) + entr(1 - chances)).mean(axis=-1))
    return np.asarray(entr(chances).sum(axis=-1))
