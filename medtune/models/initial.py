"""How the weights begin. Each number is drawn from a generator that is passed, in the order of the modules."""

import math

import torch
from torch import Tensor, nn

from medtune.models.classifier import Encoder

LAYER_SCALE = 1e-6  # Liu et al. 2022 (ConvNeXt): each block begins as the identity


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Fills every parameter and buffer. A backbone with layer norm begins as ConvNeXt and DeiT do, with truncated
    normals; all others as He et al. 2015 (fan out); a linear layer LeCun-like uniform."""
    if isinstance(model, Encoder):
        model.mean.fill_(0.5)
        model.std.fill_(0.5)
    elif any(isinstance(module, nn.LayerNorm) for module in model.modules()):
        return _truncated_normals(model, generator)
    elif isinstance(model, nn.Conv2d):
        _he(model, generator)
    elif isinstance(model, nn.Linear):
        bound = 1 / math.sqrt(model.in_features)
        nn.init.uniform_(model.weight, -bound, bound, generator=generator)
        nn.init.uniform_(model.bias, -bound, bound, generator=generator)
    elif isinstance(model, nn.BatchNorm1d | nn.BatchNorm2d):
        model.reset_parameters()  # the identity; draws nothing
    for part in model.children():
        initialise(part, generator)


@torch.no_grad()
def _he(conv: nn.Conv2d, generator: torch.Generator) -> None:
    """He et al. 2015, fan out. Of grouped channels only those of the own group count (Tan and Le 2019)."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    if conv.groups > 1:
        conv.weight.mul_(math.sqrt(conv.groups))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _truncated_normals(net: nn.Module, generator: torch.Generator) -> None:
    """Standard deviation .02 (Touvron et al. 2021, Liu et al. 2022); biases 0, norms the identity. A transformer's
    patches have that of their fan in (Dosovitskiy et al. 2021), or small patches would begin near 0."""
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name == "layer_scale":
                nn.init.constant_(parameter, LAYER_SCALE)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(parameter)
            elif isinstance(module, nn.Conv2d) and hasattr(net, "class_token"):
                _truncated_normal(parameter, 1 / math.sqrt(parameter[0].numel()), generator)
            else:
                _truncated_normal(parameter, 0.02, generator)


@torch.no_grad()
def _truncated_normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    """Cut at two standard deviations: what is beyond is drawn again, five times as fast as torch's inverse of erf."""
    nn.init.normal_(parameter, generator=generator)
    while (beyond := parameter.abs() > 2).any():
        parameter[beyond] = torch.randn(int(beyond.sum()), generator=generator)
    parameter.mul_(std)
