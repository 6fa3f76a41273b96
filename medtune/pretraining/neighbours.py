"""The k-NN probe: how well the nearest labelled cases tell a case's label, from features that nothing was fitted to."""

import torch
import torch.nn.functional as F
from torch import Tensor

from medtune.task import Task

TEMPERATURE = 0.07  # Wu et al. 2018, as the weighted votes of Caron et al. 2021 have it too
CASES = 256  # at once: the similarities of all with a large bank would be gigabytes


def neighbour_logits(
    bank: Tensor, labels: Tensor, features: Tensor, task: Task, classes: int, neighbours: int
) -> Tensor:
    """float32 logits (cases, classes): logarithms of the votes of the nearest labelled cases, by cosine.

    bank: (labelled, features), with labels int64 (labelled,), or float (labelled, labels) for multi-label, whose
    logit is that of the votes for it against those against it. features: (cases, features)."""
    voted = [_voted(bank, labels, some, task, classes, neighbours) for some in features.split(CASES)]
    return torch.cat(voted)


def _voted(bank: Tensor, labels: Tensor, features: Tensor, task: Task, classes: int, neighbours: int) -> Tensor:
    similar = F.normalize(features, dim=1) @ F.normalize(bank, dim=1).T
    nearest, which = similar.topk(min(neighbours, len(bank)), dim=1)
    votes = torch.exp((nearest - 1) / TEMPERATURE)
    multilabel = task == "multilabel"
    known = labels if multilabel else F.one_hot(labels, classes).float()
    # one more vote of the farthest neighbour, shared by all: the unheard-of is not impossible
    prior = votes[:, -1:] / (2 if multilabel else classes)
    heard = torch.einsum("nk,nkc->nc", votes, known[which])
    if multilabel:
        against = torch.einsum("nk,nkc->nc", votes, 1 - known[which])  # not by difference: that may be below 0
        return torch.log(heard + prior) - torch.log(against + prior)
    return torch.log((heard + prior) / (votes.sum(dim=1, keepdim=True) + prior * classes))
