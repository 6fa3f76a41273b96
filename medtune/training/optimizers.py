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


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
