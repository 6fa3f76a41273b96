"""What two views of an image are held to, in float32: each takes (cases, features) and gives the mean loss.

Rows of the same number are views of the same image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from medtune.config.pretrain import VICReg

STEADY = 1e-4  # below the root of the variance, whose slope would be infinite at 0


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding the other view of an image among the 2N - 1 other views of the batch, by cosine
    (Chen et al. 2020, eq. 1)."""
    cases = len(first)
    views = F.normalize(torch.cat([first, second]), dim=1)
    logits = views @ views.T / temperature
    itself = torch.eye(2 * cases, dtype=torch.bool, device=views.device)
    other = torch.arange(2 * cases, device=views.device).roll(cases)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), other)


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding a query's key among the queue's (He et al. 2020, eq. 1).

    queue: (length, features), of length 1 each. key: has no gradient in the method; here it may."""
    query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def in_batch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """The same among the keys of the batch, times 2 t so that its slope does not depend on the temperature
    (Chen et al. 2021, MoCo v3, Algorithm 1)."""
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    return 2 * temperature * F.cross_entropy(logits, torch.arange(len(query), device=query.device))


def vicreg(first: Tensor, second: Tensor, config: VICReg) -> Tensor:
    """Mean squared distance of the views, how far each feature's standard deviation lies below 1, and the features'
    covariances (Bardes et al. 2022, Algorithm 1: its distance is a mean over the features too, unlike eq. 5)."""
    varied = _variance(first) + _variance(second)
    covaried = _covariance(first) + _covariance(second)
    return config.invariance * F.mse_loss(first, second) + config.variance * varied + config.covariance * covaried


def _variance(views: Tensor) -> Tensor:
    return F.relu(1 - torch.sqrt(views.var(dim=0) + STEADY)).mean()


def _covariance(views: Tensor) -> Tensor:
    centred = views - views.mean(dim=0)
    covariance = centred.T @ centred / (len(views) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / views.shape[1]


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of the two views on the unit sphere: 0 where they are the same (Wang & Isola 2020)."""
    return (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(dim=1).mean()


def uniformity(views: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs on the unit sphere: 0 where all are the same, and the
    lower the more evenly they lie (Wang & Isola 2020, t = 2)."""
    views = F.normalize(views, dim=1)
    first, second = torch.triu_indices(len(views), len(views), offset=1, device=views.device)
    squared = 2 - 2 * (views @ views.T)[first, second]  # torch.pdist is not on every device
    return squared.clamp(min=0).mul(-2).exp().mean().log()
