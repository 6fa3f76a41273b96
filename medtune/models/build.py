"""A model by its name, with weights that depend on a generator alone."""

import math
from collections.abc import Callable

import torch
from torch import nn

from medtune.config.trial import ModelConfig
from medtune.models.classifier import Classifier
from medtune.models.smallcnn import smallcnn

LARGEST_SMALL_IMAGE = 64  # pixels a side up to which a ResNet's usual stem would throw too much away


def small_image_resnet18(channels: int, size: int) -> tuple[nn.Module, int]:
    """ResNet-18; up to 64 px with a 3x3 stride-1 stem and no max-pool, as the official MedMNIST recipe has it at 28."""
    from torchvision.models import resnet18  # takes longer to import than torch itself

    net = resnet18()
    if size <= LARGEST_SMALL_IMAGE:
        net.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        net.maxpool = nn.Identity()
    else:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    features = net.fc.in_features
    net.fc = nn.Identity()
    return net, features


BACKBONES: dict[str, Callable[[int, int], tuple[nn.Module, int]]] = {
    "smallcnn": lambda channels, size: smallcnn(channels),
    "resnet18": small_image_resnet18,
}


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """He et al. 2015 (fan out) for convolutions, LeCun-like uniform for linear layers, the identity for batch norm."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            module.reset_running_stats()


def empty_model(config: ModelConfig, channels: int, classes: int, size: int) -> Classifier:
    """The model on the CPU with weights yet to be filled in; takes no random number from anywhere."""
    with torch.device("meta"):
        backbone, features = BACKBONES[config.name](channels, size)
        model = Classifier(backbone, features, classes, config.dropout)
    return model.to_empty(device="cpu")


def build_model(config: ModelConfig, channels: int, classes: int, size: int, generator: torch.Generator) -> Classifier:
    """A model for images of `channels` and `size` pixels a side, with fresh weights drawn from a CPU generator."""
    model = empty_model(config, channels, classes, size)
    initialise(model, generator)
    return model
