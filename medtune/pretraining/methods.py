"""The methods by which an encoder learns without labels: what stands behind it, and the loss of a batch of views."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtune.config.pretrain import MoCo, Projector, SimCLR, VICReg
from medtune.models.classifier import Encoder
from medtune.models.initial import initialise
from medtune.pretraining.losses import in_batch_nce, info_nce, nt_xent, vicreg


def projector(features: int, config: Projector) -> nn.Sequential:
    """A linear layer, batch norm, ReLU and a linear layer, whose weights are yet to be drawn."""
    with torch.device("meta"):  # which draws no number
        empty = nn.Sequential(
            nn.Linear(features, config.hidden),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.features),
        )
    return empty.to_empty(device="cpu")


class Contrast(nn.Module):
    """SimCLR: a projector behind the encoder. The other methods are made of it.

    The views of a batch stand one after the other: row i and row i + N are of the same image.
    """

    def __init__(self, config: SimCLR | MoCo | VICReg, encoder: Encoder, behind: Projector, generator: torch.Generator):
        super().__init__()
        self.config = config
        self.projector = projector(encoder.width, behind)
        initialise(self.projector, generator)

    def embed(self, features: Tensor) -> Tensor:
        """What the loss sees of features, with a gradient."""
        return self.projector(features)

    def keys(self, views: Tensor) -> Tensor | None:
        """What the loss holds the embeddings against, without a gradient; None where that is themselves."""
        return None

    def loss(self, embedded: Tensor, keys: Tensor | None) -> Tensor:
        assert isinstance(self.config, SimCLR)
        first, second = embedded.chunk(2)
        return nt_xent(first, second, self.config.temperature)

    def stepped(self, encoder: Encoder, keys: Tensor | None) -> None:
        """After a step of the optimizer."""


class Regularised(Contrast):
    """VICReg."""

    def loss(self, embedded: Tensor, keys: Tensor | None) -> Tensor:
        assert isinstance(self.config, VICReg)
        first, second = embedded.chunk(2)
        return vicreg(first, second, self.config)


class Momentum(Contrast):
    """MoCo: the keys are of a slow copy of encoder and projector. Both views are queries, of the other one's key."""

    queue: Tensor
    oldest: Tensor

    def __init__(self, config: MoCo, encoder: Encoder, behind: Projector, generator: torch.Generator) -> None:
        super().__init__(config, encoder, behind, generator)
        self.slow = nn.Sequential(deepcopy(encoder), deepcopy(self.projector)).requires_grad_(False)
        self.predictor = None if config.queue else projector(behind.features, behind)
        if self.predictor is not None:
            initialise(self.predictor, generator)
        self.momentum, self.temperature = config.momentum, config.temperature
        fresh = torch.randn(config.queue, behind.features, generator=generator)
        self.register_buffer("queue", F.normalize(fresh, dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    def embed(self, features: Tensor) -> Tensor:
        projected = self.projector(features)
        return projected if self.predictor is None else self.predictor(projected)

    @torch.no_grad()
    def keys(self, views: Tensor) -> Tensor:
        return self.slow(views)

    def loss(self, embedded: Tensor, keys: Tensor | None) -> Tensor:
        assert keys is not None
        others = keys.roll(len(keys) // 2, dims=0)
        if len(self.queue):
            return info_nce(embedded, others, self.queue, self.temperature)
        pairs = zip(embedded.chunk(2), others.chunk(2), strict=True)
        first, second = (in_batch_nce(query, key, self.temperature) for query, key in pairs)
        return first + second

    @torch.no_grad()
    def stepped(self, encoder: Encoder, keys: Tensor | None) -> None:
        """The slow copy follows, and the first views' keys take the place of the oldest."""
        assert keys is not None
        for slow, fast in zip(self.slow, (encoder, self.projector), strict=True):
            for mean, value in zip(slow.parameters(), fast.parameters(), strict=True):
                mean.lerp_(value, 1 - self.momentum)
        if length := len(self.queue):
            newest = F.normalize(keys[: len(keys) // 2], dim=1)[-length:]
            places = (self.oldest + torch.arange(len(newest), device=newest.device)) % length
            self.queue[places] = newest.to(self.queue.dtype)
            self.oldest.add_(len(newest)).remainder_(length)


def build_method(
    config: SimCLR | MoCo | VICReg, encoder: Encoder, behind: Projector, generator: torch.Generator
) -> Contrast:
    """On the CPU, with weights and a queue drawn from a CPU generator."""
    match config:
        case SimCLR():
            return Contrast(config, encoder, behind, generator)
        case MoCo():
            return Momentum(config, encoder, behind, generator)
        case VICReg():
            return Regularised(config, encoder, behind, generator)
