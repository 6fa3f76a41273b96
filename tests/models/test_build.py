"""What every model has to hold, whatever it is."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from medtune.config.trial import MODELS, ModelConfig
from medtune.models.backbones import TORCHVISION
from medtune.models.build import empty_model
from medtune.models.classifier import Classifier
from medtune.models.initial import initialise
from medtune.task import Task

QUICK = ("smallcnn",)
TIMM = ("timm/resnet10t", "timm/vit_tiny_patch16_224", "timm/mobilenetv3_small_050")
TASKS: tuple[Task, ...] = ("binary", "multiclass", "multilabel", "ordinal")

Build = Callable[..., Classifier]
Images = Callable[..., Tensor]

every_model = pytest.mark.parametrize("name", MODELS)
quick_model = pytest.mark.parametrize("name", QUICK)
heavy_slow = pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in (*MODELS, *TIMM) if name not in QUICK)]
)
every_channels = pytest.mark.parametrize("channels", [1, 3])


def side(name: str) -> int:
    return 32 if name.startswith("timm/") else 28


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_every_model_of_the_configuration_can_be_built() -> None:
    assert ["smallcnn", *TORCHVISION] == MODELS


@every_model
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (28, 3), (50, 1), (64, 3), (128, 1), (224, 3)])
def test_it_gives_features_at_every_size(name: str, channels: int, size: int) -> None:
    model = empty_model(ModelConfig(name=name), channels, 5, size).to("meta")
    features = model.backbone(torch.empty(2, channels, size, size, device="meta"))
    assert features.shape == (2, model.head.in_features) and model.mean.shape == (channels, 1, 1)


@heavy_slow
def test_logits_are_float32_also_under_bfloat16(name: str, build: Build, images: Images) -> None:
    model = build(name, 3, 5, side(name)).eval()
    with torch.no_grad():
        full = model(images(3, side(name)))
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images(3, side(name)))
    assert full.shape == half.shape == (2, 5)
    assert full.dtype == half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, atol=0.1, rtol=0.1)


def loss_of(task: Task, logits: Tensor) -> Tensor:
    cases = torch.arange(len(logits))
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, (cases[:, None] + torch.arange(3)).remainder(2).float())
    return F.cross_entropy(logits, cases % logits.shape[1])


@pytest.mark.parametrize("task", TASKS)
@heavy_slow
def test_it_learns_a_small_batch(
    name: str, task: Task, build: Build, images: Images, global_randomness: Callable[[], bytes]
) -> None:
    model = build(name, 3, 2 if task == "binary" else 3, side(name)).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4 if "vit" in name else 1e-3)  # without warm-up
    before, losses = global_randomness(), []
    for _ in range(6):
        loss = loss_of(task, model(images(3, side(name), 8)))
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.9
    assert global_randomness() == before


@every_channels
@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_keep_the_side_of_small_images_in_their_stem(name: str, channels: int, size: int) -> None:
    net = empty_model(ModelConfig(name=name), channels, 2, size).backbone
    assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.in_channels) == ((3, 3), (1, 1), channels)
    assert isinstance(net.maxpool, nn.Identity)


@every_channels
@pytest.mark.parametrize("size", [65, 224])
def test_resnet18_has_the_usual_stem_for_larger_images(channels: int, size: int, build: Build, images: Images) -> None:
    net = build("resnet18", channels, size=size).backbone
    assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.in_channels) == ((7, 7), (2, 2), channels)
    assert isinstance(net.maxpool, nn.MaxPool2d)
    assert net.maxpool(net.conv1(images(channels, size))).shape[-1] == math.ceil(size / 4)


@pytest.mark.parametrize(
    ("name", "layer", "small", "large"),
    [
        ("densenet121", "features.denseblock1", 28, 56),
        ("efficientnet_b0", "features.0", 28, 112),
        ("convnext_tiny", "features.0", 14, 56),
        ("vit_small", "conv_proj", 7, 14),
    ],
)
def test_stems_keep_more_of_small_images(name: str, layer: str, small: int, large: int) -> None:
    for size, expected in ((28, small), (224, large)):
        net = empty_model(ModelConfig(name=name), 1, 2, size).to("meta").backbone
        seen: list[torch.Size] = []
        net.get_submodule(layer).register_forward_hook(lambda module, x, out, seen=seen: seen.append(out.shape))
        net(torch.empty(1, 1, size, size, device="meta"))
        assert seen[0][-1] == expected


def test_an_image_that_no_patch_divides_gets_a_grey_margin(build: Build) -> None:
    model = build("vit_small", size=30)
    seen: list[Tensor] = []
    model.backbone.conv_proj.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    model(torch.ones(1, 1, 30, 30))
    assert seen[0].shape[-2:] == (32, 32)
    assert (seen[0][..., 1:31, 1:31] == 1).all() and seen[0].sum() == 30 * 30


def test_resnet18_of_large_images_is_that_of_torchvision(build: Build, images: Images) -> None:
    model = build("resnet18", channels=3, classes=7, size=224).eval()
    theirs = resnet18(num_classes=7).eval()
    names = {f"backbone.{name}" for name in theirs.state_dict()} - {"backbone.fc.weight", "backbone.fc.bias"}
    weights = {name.removeprefix("backbone."): w for name, w in model.state_dict().items() if name in names}
    theirs.load_state_dict({**weights, "fc.weight": model.head.weight, "fc.bias": model.head.bias})
    with torch.no_grad():
        torch.testing.assert_close(model(images(3, 96)), theirs(images(3, 96) * 2 - 1))


@heavy_slow
def test_weights_depend_on_the_generator_alone(name: str, build: Build, global_randomness: Callable[[], bytes]) -> None:
    before = global_randomness()
    model = build(name, size=side(name), seed=1)
    assert global_randomness() == before
    torch.manual_seed(99)
    assert same(build(name, size=side(name), seed=1), model)
    other = build(name, size=side(name), seed=2)
    assert not torch.equal(other.head.weight, model.head.weight)
    stem, first = (next(m for m in each.modules() if isinstance(m, nn.Conv2d)).weight for each in (other, model))
    assert not torch.equal(stem, first)


@every_model
def test_every_weight_is_filled_in(name: str) -> None:
    model = empty_model(ModelConfig(name=name, hidden=7), 3, 4, 28)
    everything = [*model.parameters(), *model.buffers()]
    with torch.no_grad():
        for tensor in everything:
            tensor.fill_(math.nan if tensor.is_floating_point() else -1)
    initialise(model, torch.Generator().manual_seed(0))
    assert all(torch.isfinite(tensor).all() and tensor.max() >= 0 for tensor in everything)


@pytest.mark.parametrize("name", ["smallcnn", "resnet18", "densenet121", "efficientnet_b0"])
def test_weights_begin_as_he_and_the_norms_as_identity(name: str, build: Build) -> None:
    for module in build(name, channels=3).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size) / module.groups
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.25)
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
            assert (module.running_mean == 0).all() and (module.running_var == 1).all()  # type: ignore[union-attr]
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            assert bound * 0.8 < module.weight.abs().max().item() <= bound
            assert 0 < module.bias.abs().max().item() <= bound


@pytest.mark.parametrize("name", ["convnext_tiny", "vit_small"])
def test_where_there_is_layer_norm_they_begin_as_truncated_normals(name: str, build: Build) -> None:
    net = build(name).backbone
    for path, parameter in net.named_parameters():
        part, _, kind = path.rpartition(".")
        if kind.endswith("bias"):
            assert (parameter == 0).all()
        elif kind == "layer_scale":
            assert (parameter == 1e-6).all()
        elif isinstance(net.get_submodule(part), nn.LayerNorm):
            assert (parameter == 1).all()
        elif path != "conv_proj.weight":
            assert parameter.std().item() == pytest.approx(0.0176, rel=0.1)  # .02 cut at two of it
            assert parameter.abs().max().item() <= 0.04


def test_numbers_are_drawn_in_the_order_of_the_first_models(build: Build) -> None:
    """As of the first release: a change of the order would change every result."""
    model, stream = build("smallcnn", seed=3), torch.Generator().manual_seed(3)
    for module in (*(model.backbone[index].conv for index in range(3)), model.head):
        expected = torch.empty_like(module.weight)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(expected, mode="fan_out", nonlinearity="relu", generator=stream)
        else:
            nn.init.uniform_(expected, -1 / 8, 1 / 8, generator=stream)
        assert torch.equal(module.weight, expected)


def test_the_dense_layer_is_drawn_last(build: Build) -> None:
    plain, dense = build("smallcnn"), build("smallcnn", hidden=64)
    assert dense.hidden is not None and dense.hidden.weight.shape == (64, 64)
    assert torch.equal(plain.head.weight, dense.head.weight)


def test_the_dense_layer_is_used(build: Build, images: Images) -> None:
    model = build("smallcnn", hidden=5).eval()
    assert model.hidden is not None and model.head.in_features == 5
    nn.init.constant_(model.hidden.bias, -100)  # which no feature overcomes: ReLU lets nothing through
    assert torch.equal(model(images(1, 28)), model.head.bias.expand(2, -1))


def test_smallcnn_without_skips_has_the_same_weights_and_other_logits(build: Build, images: Images) -> None:
    with_skips, without = build("smallcnn"), build("smallcnn", skip=False)
    assert same(with_skips, without)
    assert not torch.equal(with_skips(images(1, 28)), without(images(1, 28)))


@quick_model
def test_dropout_of_the_configuration_reaches_the_model(name: str, build: Build) -> None:
    assert build(name, dropout=0.35).dropout.probability == 0.35
