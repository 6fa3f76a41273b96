"""A model or an encoder by its name, with weights that depend on a generator alone, or on a file."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from medtune.config.trial import TIMM, EncoderConfig, ModelConfig
from medtune.models import IMAGENET
from medtune.models.backbones import build_backbone
from medtune.models.classifier import Classifier, Encoder
from medtune.models.initial import initialise
from medtune.models.timm_backbones import timm_backbone
from medtune.models.weights import load_pretrained

M = TypeVar("M", bound=Encoder)
Around = Callable[[nn.Module, int], M]  # what is made of a backbone, and of how many features it gives


def empty_model(config: ModelConfig, channels: int, classes: int, size: int) -> Classifier:
    """The model on the CPU with weights yet to be filled in; takes no random number from anywhere."""
    around = _classifier(config, channels, classes)
    if config.name.startswith(TIMM):
        return _of_timm(config, channels, size, around, seed=0)
    return _empty(config, channels, size, around)


def build_model(config: ModelConfig, channels: int, classes: int, size: int, generator: torch.Generator) -> Classifier:
    """A model for images of `channels` and `size` pixels a side, with fresh weights drawn from a CPU generator, over
    which those of `config.weights` are laid. Raises DataError where these are not there or do not fit."""
    return _built(config, channels, size, generator, _classifier(config, channels, classes))


def build_encoder(config: EncoderConfig, channels: int, size: int, generator: torch.Generator) -> Encoder:
    """The same without a head."""
    return _built(config, channels, size, generator, partial(Encoder, channels=channels))


def _classifier(config: ModelConfig, channels: int, classes: int) -> Around[Classifier]:
    return partial(Classifier, classes=classes, dropout=config.dropout, channels=channels, hidden=config.hidden)


def _built(config: EncoderConfig, channels: int, size: int, generator: torch.Generator, around: Around[M]) -> M:
    if config.name.startswith(TIMM):
        seed = int(torch.randint(2**62, (), generator=generator))
        model = _of_timm(config, channels, size, around, seed, pretrained=config.weights == IMAGENET)
        for name, part in model.named_children():
            if name != "backbone":
                initialise(part, generator)
    else:
        model = _empty(config, channels, size, around)
        initialise(model, generator)
    if config.weights is not None:
        load_pretrained(model, config)
    return model


def _empty(config: EncoderConfig, channels: int, size: int, around: Around[M]) -> M:
    with torch.device("meta"):
        model = around(*build_backbone(config.name, channels, size, config.skip))
    return model.to_empty(device="cpu")


def _of_timm(
    config: EncoderConfig, channels: int, size: int, around: Around[M], seed: int, pretrained: bool = False
) -> M:
    """With a backbone of timm, whose weights timm fills in, and all else yet to be drawn."""
    backbone, width = timm_backbone(config.name, channels, size, seed, pretrained)
    with torch.device("meta"):
        empty = around(nn.Identity(), width)
    model = empty.to_empty(device="cpu")
    model.backbone = backbone
    model.normalise_by(torch.tensor([0.5]), torch.tensor([0.5]))
    return model
