"""A running mean of a model's weights (Polyak & Juditsky 1992)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model whose weights and buffers follow it by an exponential mean, updated after every step.

    The decay rises with the steps, `min(decay, (1 + n) / (10 + n))`, because the mean of a short training would else be
    made of its first weights.
    """

    def towards(means: Sequence[Tensor], values: Sequence[Tensor], steps: Tensor | int) -> None:
        count = torch.as_tensor(steps)  # stays on its device: a number of it would be waited for
        weight = 1 - ((1 + count) / (10 + count)).clamp(max=decay)
        for mean, value in zip(means, values, strict=True):
            mean.lerp_(value, weight) if mean.is_floating_point() else mean.copy_(value)

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(towards), use_buffers=True)
