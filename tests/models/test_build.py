import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from medtune.config.trial import ModelConfig
from medtune.models.build import BACKBONES, build_model, empty_model, initialise
from medtune.models.classifier import Classifier

Name = Literal["smallcnn", "resnet18"]
NAMES: tuple[Name, ...] = ("smallcnn", "resnet18")

every_model = pytest.mark.parametrize("name", NAMES)
every_channels = pytest.mark.parametrize("channels", [1, 3])


def build(name: Name, channels: int = 1, classes: int = 2, size: int = 28, seed: int = 0) -> Classifier:
    return build_model(ModelConfig(name=name), channels, classes, size, torch.Generator().manual_seed(seed))


def images(channels: int, size: int, cases: int = 2) -> torch.Tensor:
    return torch.rand((cases, channels, size, size), generator=torch.Generator().manual_seed(0))


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_every_model_of_the_configuration_can_be_built() -> None:
    assert set(BACKBONES) == set(NAMES) == set(ModelConfig.model_fields["name"].annotation.__args__)  # type: ignore[union-attr]


@every_model
@every_channels
@pytest.mark.parametrize("size", [28, 64, 128])
def test_logits_are_float32_also_under_bfloat16(name: Name, channels: int, size: int) -> None:
    model = build(name, channels, classes=5, size=size).eval()
    with torch.no_grad():
        full = model(images(channels, size))
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images(channels, size))
    assert full.shape == half.shape == (2, 5)
    assert full.dtype == half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, atol=0.1, rtol=0.1)


@every_channels
@pytest.mark.parametrize("size", [28, 64])
def test_resnet18_keeps_the_side_of_small_images_in_its_stem(channels: int, size: int) -> None:
    net = build("resnet18", channels, size=size).backbone
    assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.in_channels) == ((3, 3), (1, 1), channels)
    assert isinstance(net.maxpool, nn.Identity)
    assert net.maxpool(net.conv1(images(channels, size))).shape[-2:] == (size, size)


@every_channels
@pytest.mark.parametrize("size", [65, 224])
def test_resnet18_has_the_usual_stem_for_larger_images(channels: int, size: int) -> None:
    net = build("resnet18", channels, size=size).backbone
    assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.in_channels) == ((7, 7), (2, 2), channels)
    assert isinstance(net.maxpool, nn.MaxPool2d)
    assert net.maxpool(net.conv1(images(channels, size))).shape[-1] == math.ceil(size / 4)


def test_resnet18_of_large_images_is_that_of_torchvision() -> None:
    model = build("resnet18", channels=3, classes=7, size=224).eval()
    theirs = resnet18(num_classes=7).eval()
    weights = {name.removeprefix("backbone.").replace("head.", "fc."): w for name, w in model.state_dict().items()}
    theirs.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(model(images(3, 96)), theirs(images(3, 96)))


@every_model
def test_weights_depend_on_the_generator_alone(name: Name, global_randomness: Callable[[], bytes]) -> None:
    before = global_randomness()
    model = build(name, seed=1)
    assert global_randomness() == before
    torch.manual_seed(99)
    assert same(build(name, seed=1), model)
    assert not torch.equal(build(name, seed=2).head.weight, model.head.weight)


@every_model
@pytest.mark.parametrize("size", [28, 128])
def test_every_weight_is_filled_in(name: Name, size: int) -> None:
    model = empty_model(ModelConfig(name=name), 3, 4, size)
    for tensor in model.state_dict().values():
        tensor.fill_(math.nan if tensor.is_floating_point() else -1)
    initialise(model, torch.Generator().manual_seed(0))
    assert same(model, build(name, 3, 4, size))
    assert all(torch.isfinite(tensor).all() and tensor.max() >= 0 for tensor in model.state_dict().values())


@every_model
def test_weights_begin_as_he_and_the_norms_as_identity(name: Name) -> None:
    for module in build(name, channels=3).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.15)
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
            assert (module.running_mean == 0).all() and (module.running_var == 1).all()  # type: ignore[union-attr]
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            assert bound * 0.8 < module.weight.abs().max().item() <= bound
            assert 0 < module.bias.abs().max().item() <= bound


@every_model
def test_dropout_of_the_configuration_reaches_the_model(name: Name) -> None:
    model = build_model(ModelConfig(name=name, dropout=0.35), 1, 2, 28, torch.Generator())
    assert model.dropout.probability == 0.35
