from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from medtune.config.trial import Optimizer
from medtune.training.optimizers import build_optimizer, set_lr

OF_TORCH = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
GIVEN = [
    (
        {"name": "adam", "lr": 0.02, "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.95},
        {"lr": 0.02, "weight_decay": 0.3, "betas": (0.8, 0.95), "fused": True},
    ),
    (
        {"name": "adamw", "lr": 0.02, "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.95},
        {"lr": 0.02, "weight_decay": 0.3, "betas": (0.8, 0.95), "fused": True},
    ),
    (
        {"name": "sgd", "lr": 0.02, "weight_decay": 0.3, "momentum": 0.7, "nesterov": False},
        {"lr": 0.02, "weight_decay": 0.3, "momentum": 0.7, "dampening": 0, "nesterov": False, "fused": True},
    ),
    (
        {"name": "rmsprop", "lr": 0.02, "weight_decay": 0.3, "momentum": 0.7, "alpha": 0.9},
        {"lr": 0.02, "weight_decay": 0.3, "momentum": 0.7, "alpha": 0.9, "centered": False},
    ),
]
DEFAULTS = [
    ("adam", {"lr": 1e-3, "weight_decay": 0, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}),
    ("adamw", {"lr": 1e-3, "weight_decay": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}),
    ("sgd", {"lr": 1e-2, "weight_decay": 0, "momentum": 0.9, "dampening": 0, "nesterov": True}),
    ("rmsprop", {"lr": 1e-3, "weight_decay": 0, "momentum": 0, "alpha": 0.99}),
]


def group(parameter: nn.Parameter, lr_scale: float = 1.0, decays: bool = True) -> dict[str, Any]:
    return {"params": [parameter], "lr_scale": lr_scale, "decays": decays}


def build(**keys: Any) -> torch.optim.Optimizer:
    config = TypeAdapter[Optimizer](Optimizer).validate_python(keys)
    return build_optimizer(config, [group(nn.Parameter(torch.ones(3)))])


def settings(optimizer: torch.optim.Optimizer, like: dict[str, Any]) -> dict[str, Any]:
    (group,) = optimizer.param_groups
    return {key: group[key] for key in like}


@pytest.mark.parametrize(("given", "expected"), GIVEN, ids=OF_TORCH)
def test_every_key_reaches_the_optimizer(given: dict[str, Any], expected: dict[str, Any]) -> None:
    optimizer = build(**given)
    assert type(optimizer) is OF_TORCH[given["name"]]
    assert settings(optimizer, expected) == expected


@pytest.mark.parametrize(("name", "expected"), DEFAULTS, ids=OF_TORCH)
def test_the_defaults(name: str, expected: dict[str, Any]) -> None:
    assert settings(build(name=name), expected) == expected


def test_nesterov_is_off_where_there_is_no_momentum() -> None:
    assert build(name="sgd", momentum=0.0, nesterov=True).param_groups[0]["nesterov"] is False


@pytest.mark.parametrize("name", OF_TORCH)
def test_set_lr_changes_the_size_of_the_next_step(name: str) -> None:
    steps = []
    for lr in (1e-3, 2e-3):
        optimizer = build(name=name)
        (parameter,) = optimizer.param_groups[0]["params"]
        set_lr(optimizer, lr)
        parameter.grad = torch.tensor([1.0, -2.0, 3.0])
        optimizer.step()
        steps.append((parameter.detach() - 1)[1].item())
    assert steps[1] == pytest.approx(2 * steps[0], rel=1e-2) and steps[0] > 0


@pytest.mark.parametrize("name", OF_TORCH)
def test_a_group_has_its_own_lr_and_may_be_spared_the_decay(name: str) -> None:
    config = TypeAdapter[Optimizer](Optimizer).validate_python({"name": name, "lr": 0.1, "weight_decay": 0.3})
    slow, spared = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = build_optimizer(config, [group(slow, lr_scale=0.1), group(spared, decays=False)])
    set_lr(optimizer, 0.5)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.05, 0.3), (0.5, 0.0)]
