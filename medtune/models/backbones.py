"""Backbones by name: images (cases, channels, size, size) to features (cases, features).

Up to 64 px a side, the stems of the published networks would throw too much away: there they keep more pixels.
Nothing here draws from torch's global generator while it trains: inner dropout and stochastic depth are off.
"""

from collections.abc import Callable

from torch import nn

from medtune.models.smallcnn import smallcnn

LARGEST_SMALL_IMAGE = 64  # pixels a side

Backbone = tuple[nn.Module, int]  # and how many features it gives


def build_backbone(name: str, channels: int, size: int, skip: bool = True) -> Backbone:
    """One of ours or of torchvision's. Raises KeyError where there is none of that name."""
    if name == "smallcnn":
        return smallcnn(channels, skip)
    return TORCHVISION[name](name, channels, size)


def _resnet(name: str, channels: int, size: int) -> Backbone:
    """Up to 64 px with a 3x3 stride-1 stem and no max-pool, as the official MedMNIST recipe has ResNet-18 at 28."""
    from torchvision import models  # takes longer to import than torch itself

    net = getattr(models, name)()
    features = net.fc.in_features
    net.conv1 = _stem(channels, 64, size)
    if size <= LARGEST_SMALL_IMAGE:
        net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return net, features


def _densenet(name: str, channels: int, size: int) -> Backbone:
    """With the same stems as a ResNet."""
    from torchvision import models

    net = getattr(models, name)()
    features = net.classifier.in_features
    net.features.conv0 = _stem(channels, 64, size)
    if size <= LARGEST_SMALL_IMAGE:
        net.features.pool0 = nn.Identity()
    net.classifier = nn.Identity()
    return net, features


def _stem(channels: int, width: int, size: int) -> nn.Conv2d:
    if size <= LARGEST_SMALL_IMAGE:
        return nn.Conv2d(channels, width, 3, stride=1, padding=1, bias=False)
    return nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)


def _efficientnet(name: str, channels: int, size: int) -> Backbone:
    """Up to 64 px with stride 1 in the stem."""
    from torchvision import models

    net = getattr(models, name)(dropout=0.0, stochastic_depth_prob=0.0)
    stride = 1 if size <= LARGEST_SMALL_IMAGE else 2
    net.features[0][0] = nn.Conv2d(channels, 32, 3, stride=stride, padding=1, bias=False)
    features = net.classifier[1].in_features
    net.classifier = nn.Identity()
    return net, features


def _convnext(name: str, channels: int, size: int) -> Backbone:
    """Up to 64 px with patches of 2x2 in the place of 4x4."""
    from torchvision import models

    net = getattr(models, name)(stochastic_depth_prob=0.0)
    patch = 2 if size <= LARGEST_SMALL_IMAGE else 4
    net.features[0][0] = nn.Conv2d(channels, 96, patch, stride=patch)
    features = net.classifier[2].in_features
    net.classifier[2] = nn.Identity()
    return net, features


def _vit(name: str, channels: int, size: int) -> Backbone:
    from medtune.models.vit import WIDTH, SmallViT

    return SmallViT(channels, size), WIDTH


TORCHVISION: dict[str, Callable[[str, int, int], Backbone]] = {
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
    "densenet121": _densenet,
    "efficientnet_b0": _efficientnet,
    "convnext_tiny": _convnext,
    "vit_small": _vit,
}
