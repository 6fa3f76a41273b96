"""A model by its name, with weights that depend on a generator alone, or on a file."""

import torch

from medtune.config.trial import TIMM, ModelConfig
from medtune.models import IMAGENET
from medtune.models.backbones import build_backbone
from medtune.models.classifier import Classifier
from medtune.models.initial import initialise
from medtune.models.timm_backbones import timm_backbone
from medtune.models.weights import load_pretrained


def empty_model(config: ModelConfig, channels: int, classes: int, size: int) -> Classifier:
    """The model on the CPU with weights yet to be filled in; takes no random number from anywhere."""
    if config.name.startswith(TIMM):
        return _timm_model(config, channels, classes, size, seed=0)
    with torch.device("meta"):
        backbone, features = build_backbone(config.name, channels, size, config.skip)
        model = Classifier(backbone, features, classes, config.dropout, channels, config.hidden)
    return model.to_empty(device="cpu")


def build_model(config: ModelConfig, channels: int, classes: int, size: int, generator: torch.Generator) -> Classifier:
    """A model for images of `channels` and `size` pixels a side, with fresh weights drawn from a CPU generator, over
    which those of `config.weights` are laid. Raises DataError where these are not there or do not fit."""
    if config.name.startswith(TIMM):
        seed = int(torch.randint(2**62, (), generator=generator))
        model = _timm_model(config, channels, classes, size, seed, pretrained=config.weights == IMAGENET)
        initialise(model.head, generator)
        if model.hidden is not None:
            initialise(model.hidden, generator)
    else:
        model = empty_model(config, channels, classes, size)
        initialise(model, generator)
    if config.weights is not None:
        load_pretrained(model, config)
    return model


def _timm_model(
    config: ModelConfig, channels: int, classes: int, size: int, seed: int, pretrained: bool = False
) -> Classifier:
    """With a backbone of timm, whose weights timm fills in, and a head whose weights are yet to be drawn."""
    backbone, features = timm_backbone(config.name, channels, size, seed, pretrained)
    with torch.device("meta"):
        rest = Classifier(torch.nn.Identity(), features, classes, config.dropout, channels, config.hidden)
    model = rest.to_empty(device="cpu")
    model.backbone = backbone
    model.normalise_by(torch.tensor([0.5]), torch.tensor([0.5]))
    return model
