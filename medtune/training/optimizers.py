"""The optimizers of the sweep file."""

from collections.abc import Iterable
from typing import Any

import torch

from medtune.config.trial import SGD, Adam, AdamW, Optimizer, RMSprop


def build_optimizer(config: Optimizer, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    """Fused where torch has it: one pass over memory a step in the place of several.

    groups: as `models.finetune.parameter_groups` gives them.
    """
    parameters = [
        {
            "params": group["params"],
            "lr_scale": group["lr_scale"],
            "weight_decay": config.weight_decay if group["decays"] else 0.0,
        }
        for group in groups
    ]
    match config:
        case Adam():
            return torch.optim.Adam(parameters, config.lr, (config.beta1, config.beta2), fused=True)
        case AdamW():
            return torch.optim.AdamW(parameters, config.lr, (config.beta1, config.beta2), fused=True)
        case SGD():
            nesterov = config.nesterov and config.momentum > 0
            return torch.optim.SGD(parameters, config.lr, config.momentum, nesterov=nesterov, fused=True)
        case RMSprop():
            return torch.optim.RMSprop(parameters, config.lr, config.alpha, momentum=config.momentum)


def make_ready(optimizer: torch.optim.Optimizer) -> None:
    """Gives a momentum of zero to what has none yet: fused SGD takes no layer that begins to train beside others that
    have one, and a first step from zero is the same."""
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            state = optimizer.state[parameter]
            if parameter.requires_grad and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
