"""A model in numbers: its layers, what they give, their parameters and the work of one image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medtune.config.trial import ModelConfig
from medtune.models.build import empty_model
from medtune.models.finetune import layers
from medtune.models.words import kind


@dataclass(frozen=True)
class Layer:
    """output: the shape for one image, without the cases; empty where the layer is not called by itself."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Description:
    """layers: those of the backbone, by the names that `model.finetune` takes, then those after it.
    multiply_adds: of one image, in convolutions, linear layers and attention."""

    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int


def parameters(config: ModelConfig, channels: int, classes: int, size: int) -> int:
    """How many a model has. Raises DataError where there is no such model."""
    return _parameters(empty_model(config, channels, classes, size).to("meta"))


def describe(config: ModelConfig, channels: int, classes: int, size: int) -> Description:
    """Computes no number and loads no weights. Raises DataError where there is no such model."""
    model = empty_model(config, channels, classes, size).to("meta").eval()
    parts = {name: model.backbone.get_submodule(name) for name in layers(model.backbone)}
    parts |= {name: part for name, part in (("hidden", model.hidden), ("head", model.head)) if part is not None}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, part in parts.items():
        part.register_forward_hook(_note(shapes, name))
    with FlopCounterMode(display=False) as counter:
        features = model.backbone(torch.empty(1, channels, size, size, device="meta"))
        model.head(features if model.hidden is None else model.hidden(features))
    return Description(
        tuple(Layer(name, kind(part), shapes.get(name, ()), _parameters(part)) for name, part in parts.items()),
        _parameters(model),
        counter.get_total_flops() // 2,
    )


def _note(shapes: dict[str, tuple[int, ...]], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[name] = tuple(output.shape[1:])

    return note


def _parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
