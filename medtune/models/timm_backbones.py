"""Backbones of the package timm, which is not needed for anything else: `timm/NAME`."""

from typing import Any

import torch
from torch import nn

from medtune.config.problems import nearest
from medtune.config.trial import TIMM
from medtune.data import DataError
from medtune.models import OTHERWISE


def timm_name(name: str) -> str:
    """What timm calls it. Raises DataError where timm is not installed, or has no such model."""
    try:
        import timm
    except ImportError as error:
        raise DataError(f"{name} needs the package timm: pip install 'medtune[timm]'") from error
    theirs = name.removeprefix(TIMM)
    if not timm.is_model(theirs):
        meant = nearest(theirs, timm.list_models())
        hint = f"nearest: {meant}" if meant else "`timm.list_models()` has them all"
        raise DataError(f"{name}: no such model in timm {timm.__version__}; {hint}")
    return theirs


def timm_backbone(name: str, channels: int, size: int, seed: int, pretrained: bool = False) -> tuple[nn.Module, int]:
    """The network without its head, on the CPU, and how many features it gives. Raises DataError where it cannot be.

    timm fills its weights in by torch's global generator: this lends it one that starts from `seed`, and afterwards
    the global one is as it was.
    """
    theirs = timm_name(name)
    net = _create(name, theirs, pretrained, seed, in_chans=channels, **_side(theirs, size))
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "drop_prob"):  # DropPath and DropBlock: they too would draw from the global generator
            module.drop_prob = 0.0  # type: ignore[assignment]
    return net, _features(name, net, channels, size)


def fetch_timm_weights(name: str) -> None:
    """Brings the published weights of a model into timm's cache. Raises DataError."""
    _create(name, timm_name(name), pretrained=True, seed=0)


def _create(name: str, theirs: str, pretrained: bool, seed: int, **options: Any) -> nn.Module:
    import timm

    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would reach the GPU's too
            return timm.create_model(theirs, pretrained=pretrained, num_classes=0, **options)
    except Exception as error:  # of many kinds: no such tag, no weights, no network, an image too small
        if pretrained:
            raise DataError(f"{name}: its ImageNet weights cannot be had ({_line(error)}); {OTHERWISE}") from error
        raise DataError(f"{name}: timm cannot build it with {options}: {_line(error)}") from error


def _side(theirs: str, size: int) -> dict[str, int]:
    """The images' side, for the models that must know it."""
    import timm

    published = timm.get_pretrained_cfg(theirs.partition(".")[0])
    return {"img_size": size} if published is not None and published.fixed_input_size else {}


def _features(name: str, net: nn.Module, channels: int, size: int) -> int:
    """How many come out for one image, in evaluation mode, so that nothing changes."""
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if patch and size % patch[0]:  # timm would cut off what is left over
        raise DataError(
            f"{name}: needs a multiple of {patch[0]} px a side, not {size}; data.resize brings images to it"
        )
    try:
        with torch.no_grad():
            out = net.eval()(torch.zeros(1, channels, size, size))
    except Exception as error:
        raise DataError(f"{name}: does not work at {size} px: {_line(error)}") from error
    net.train()
    if out.ndim != 2:
        raise DataError(f"{name}: gives features of shape {tuple(out.shape[1:])} and not a vector; take another model")
    return out.shape[1]


def timm_normalisation(net: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel that the published weights of a timm model are for."""
    return torch.tensor(net.pretrained_cfg["mean"]), torch.tensor(net.pretrained_cfg["std"])


def timm_classifiers(net: Any) -> tuple[str, ...]:
    """The names of the layers that a published file has for its classes."""
    names = net.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
