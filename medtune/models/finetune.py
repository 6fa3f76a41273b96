"""Which layers train, from which epoch on, and how fast."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from medtune.config.problems import nearest
from medtune.config.trial import ModelConfig
from medtune.models.classifier import Classifier

Finetune = Literal["all", "head", "probe"] | Mapping[str, str | int]

BODY = 0.85  # a part with more of the backbone's parameters than this is no layer but what holds the layers


def layers(backbone: nn.Module) -> list[str]:
    """The names of the layers that have parameters, in their order: layer4, features.denseblock4, …"""
    whole = sum(parameter.numel() for parameter in backbone.parameters())
    found = []
    for name, part in backbone.named_children():
        size = sum(parameter.numel() for parameter in part.parameters())
        if size > BODY * whole and any(True for _ in part.children()):
            found += [f"{name}.{below}" for below in layers(part)]
        elif size:
            found.append(name)
    return found


def trained_from(finetune: Finetune, epoch: int) -> str | tuple[str, ...]:
    """What trains in an epoch, counted from 1: `all`, `head`, or the layers from each of which on all trains."""
    if isinstance(finetune, str):
        return finetune
    return tuple(layer for layer, since in _begins(finetune) if since <= epoch) or "head"


def _begins(finetune: Finetune) -> list[tuple[str, int]]:
    """The layers that are named, with the epoch from which each and all that follows it trains."""
    if isinstance(finetune, str):
        return []
    return [(since, 1) if isinstance(since, str) else (layer, since) for layer, since in finetune.items()]


def set_trained(model: Classifier, config: ModelConfig, epoch: int) -> None:
    """Lets train what `config.finetune` says for an epoch, counted from 1; the head and the dense layer always do.

    To be called after each `model.train()`: it brings the batch norms of the layers that do not train back to
    evaluation mode, so that their statistics stay. Raises ValueError where there is no such layer.
    """
    if config.finetune == "all":
        return
    names = [name for name, _ in model.backbone.named_parameters()]
    starts = {layer: _start(model.backbone, names, layer) for layer, _ in _begins(config.finetune)}
    now = trained_from(config.finetune, epoch)
    first = len(names) if now == "head" else min(starts[layer] for layer in now)
    for index, parameter in enumerate(model.backbone.parameters()):
        parameter.requires_grad_(index >= first)
        if index < first:
            parameter.grad = None  # else the optimizer would go on with the last one
    for module in model.backbone.modules():
        own = list(module.parameters(recurse=False))
        if getattr(module, "running_mean", None) is not None and own and not any(p.requires_grad for p in own):
            module.eval()


def _start(backbone: nn.Module, names: Sequence[str], layer: str) -> int:
    """The index of a layer's first parameter."""
    for index, name in enumerate(names):
        if name == layer or name.startswith(f"{layer}."):
            return index
    known = layers(backbone)
    meant = nearest(layer, known)
    hint = f"did you mean {meant}? " if meant else ""
    raise ValueError(f"model.finetune: no layer {layer}; {hint}there are {', '.join(known)}, and the layers within")


def parameter_groups(model: Classifier, config: ModelConfig, decay_norms: bool) -> list[dict[str, Any]]:
    """Groups for an optimizer: `params`, `lr_scale` to multiply the lr by, and `decays`, whether weight decay is for
    them. decay_norms False: norms and biases, all that has one dimension, do not decay. A single group, in the order
    of `model.parameters()`, where all are treated alike."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = config.backbone_lr if name.startswith("backbone.") else 1.0
        groups.setdefault((scale, decay_norms or parameter.ndim > 1), []).append(parameter)
    return [{"params": params, "lr_scale": scale, "decays": decays} for (scale, decays), params in groups.items()]
