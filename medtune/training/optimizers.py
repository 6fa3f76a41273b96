"""The optimizers of the sweep file."""

from collections.abc import Iterable

import torch
from torch import nn

from medtune.config.trial import SGD, Adam, AdamW, Optimizer, RMSprop


def build_optimizer(config: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Fused where torch has it: one pass over memory a step in the place of several."""
    match config:
        case Adam():
            betas = (config.beta1, config.beta2)
            return torch.optim.Adam(parameters, config.lr, betas, weight_decay=config.weight_decay, fused=True)
        case AdamW():
            betas = (config.beta1, config.beta2)
            return torch.optim.AdamW(parameters, config.lr, betas, weight_decay=config.weight_decay, fused=True)
        case SGD():
            nesterov = config.nesterov and config.momentum > 0
            return torch.optim.SGD(parameters, config.lr, config.momentum, 0, config.weight_decay, nesterov, fused=True)
        case RMSprop():
            return torch.optim.RMSprop(
                parameters, config.lr, config.alpha, weight_decay=config.weight_decay, momentum=config.momentum
            )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
