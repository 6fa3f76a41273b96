import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medtune.config.trial import MODELS
from medtune.data.batches import DeviceSplit
from medtune.inspection import gradcam
from medtune.inspection.gradcam import grad_cam
from medtune.models.classifier import Classifier

Build, MakeSplit = Callable[..., Classifier], Callable[..., DeviceSplit]
POOLED = (("resnet18", "layer4"), ("resnet50", "layer4"), ("densenet121", "features"), ("efficientnet_b0", "features"))


@pytest.fixture
def images(make_split: MakeSplit) -> Tensor:
    return make_split(8).batch(slice(None))[0]


def by_hand(model: Classifier, layer: nn.Module, images: Tensor, classes: Tensor) -> np.ndarray:
    """Selvaraju et al. 2017, eq. 1 and 2, and the map brought to the images' size and to 0..1."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    score = model.eval()(images).gather(1, classes[:, None]).sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    heat = F.relu((gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True))
    large = F.interpolate(heat, images.shape[2:], mode="bilinear", align_corners=False)[:, 0].detach().numpy()
    return large / np.maximum(large.max(axis=(1, 2), keepdims=True), 1e-30)


def test_it_is_that_of_the_paper_for_the_class_that_is_asked_for(build: Build, images: Tensor) -> None:
    model, classes = build(), np.arange(8) % 3
    heat = grad_cam(model, images, classes)
    assert heat.shape == (8, 28, 28) and heat.dtype == np.float32
    np.testing.assert_allclose(heat, by_hand(model, model.backbone[2], images, torch.tensor(classes)), atol=1e-5)
    assert (heat.max(axis=(1, 2)) == 1).any()


@pytest.mark.parametrize(
    ("name", "layer"), [("smallcnn", "2"), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in POOLED)]
)
def test_where_the_map_is_averaged_it_is_the_class_activation_map(
    name: str, layer: str, build: Build, images: Tensor
) -> None:
    """Zhou et al. 2016: the head's weights times the map, which Selvaraju et al. 2017 show to be the same."""
    model, kept = build(name), []
    hook = model.backbone.get_submodule(layer).register_forward_hook(lambda *given: kept.append(given[2]))
    with torch.no_grad():
        model(images[:4])
    hook.remove()
    coarse = F.relu(torch.einsum("k,nkhw->nhw", model.head.weight[1], F.relu(kept[0]) if "dense" in name else kept[0]))
    heat = F.interpolate(coarse[:, None], (28, 28), mode="bilinear")[:, 0].detach()
    expected = heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)
    np.testing.assert_allclose(grad_cam(model, images[:4], np.ones(4, np.int64)), expected, atol=1e-4)


def test_without_a_class_it_is_the_predicted_one(build: Build, images: Tensor) -> None:
    model = build()
    np.testing.assert_array_equal(grad_cam(model, images), grad_cam(model, images, model(images).argmax(dim=1).numpy()))
    assert not np.array_equal(grad_cam(model, images), grad_cam(model, images, model(images).argmin(dim=1).numpy()))


def test_several_passes_are_one(build: Build, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model, classes = build(), np.arange(8) % 3
    whole = grad_cam(model, images, classes)
    monkeypatch.setattr(gradcam, "CASES_PER_PASS", 3)
    np.testing.assert_allclose(grad_cam(model, images, classes), whole, atol=1e-5)


def test_it_is_hot_where_the_class_is_seen() -> None:
    """Class 1 is brightness, wherever it is."""
    backbone = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Classifier(backbone, 1, 2, dropout=0.5)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), ([1.0], [1.0], [-1.0, 1.0], [0.0, 0.0]), strict=True):
            parameter.copy_(torch.tensor(value).reshape(parameter.shape))
    image = torch.zeros(1, 1, 28, 28)
    image[..., 20:24, 4:8] = 1
    heat = grad_cam(model, image, np.array([1]))[0]
    np.testing.assert_allclose(heat, image[0, 0].numpy(), atol=1e-6)
    assert (grad_cam(model, image, np.array([0])) == 0).all()  # nothing speaks for it


@pytest.mark.parametrize(
    "name", ["smallcnn", "vit_small", *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS[1:-1])]
)
def test_every_architecture_has_a_map_that_differs_over_the_image(
    name: str, build: Build, images: Tensor, global_randomness: Callable[[], bytes]
) -> None:
    model = build(name).train()
    parts, before = list(model.modules()), global_randomness()
    heat = grad_cam(model, images[:2], np.array([0, 1]))
    assert heat.shape == (2, 28, 28) and heat.dtype == np.float32 and np.isfinite(heat).all()
    assert heat.min() >= 0 and heat.max() == 1 and heat.std(axis=(1, 2)).max() > 0.02
    assert global_randomness() == before and not model.training and list(model.modules()) == parts
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not images.requires_grad


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("resnet18", 28, "layer4"),
        ("resnet50", 28, "layer4"),
        ("efficientnet_b0", 28, "features"),
        ("convnext_tiny", 64, "features"),
        ("convnext_tiny", 28, "features.6.0"),  # what follows has one place at this size
        ("timm/resnet10t", 64, "layer4"),
        ("timm/mobilenetv3_small_050", 64, "blocks"),
    ],
)
@pytest.mark.slow
def test_the_map_is_the_last_one_with_places(name: str, size: int, layer: str, build: Build) -> None:
    model, image = build(name, size=size), torch.rand((1, 1, size, size), generator=torch.Generator().manual_seed(0))
    with gradcam._feature_map(model, image) as found:
        last = dict(model.backbone.named_modules())[layer]
        assert found.layer is last
    np.testing.assert_allclose(
        grad_cam(model, image, np.array([1])), by_hand(model, last, image, torch.tensor([1])), atol=1e-4
    )


def test_of_a_transformer_the_patches_come_back_to_their_places(build: Build, images: Tensor) -> None:
    model = build("vit_small")
    with gradcam._feature_map(model, images[:1]) as found:
        patches: list[Tensor] = []
        found.layer.register_forward_hook(lambda module, inputs, output: patches.append(output))
        gridded = model(images)
    assert patches[0].shape == (8, 384, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(model(images), gridded)  # in the grid nothing is changed
    tokens: list[Tensor] = []
    model.backbone.encoder.layers[-1].ln_1.register_forward_hook(lambda module, inputs, output: tokens.append(output))
    model(images)
    torch.testing.assert_close(patches[0][:, :, 2, 5], tokens[0][:, 1 + 2 * 7 + 5])


def test_the_margin_of_a_transformer_is_cut_off() -> None:
    coarse = torch.zeros(1, 1, 7, 7)
    coarse[..., 0, 0] = 1  # the corner of 56 px, of which the image has the middle 50
    heat = gradcam._enlarged(coarse, torch.zeros(1, 1, 50, 50), (3, 3, 3, 3))
    whole = F.interpolate(coarse, (56, 56), mode="bilinear")[:, 0, 3:53, 3:53]
    assert heat.shape == (1, 50, 50) and torch.equal(heat, whole / whole.max())


@pytest.mark.slow
def test_a_transformer_with_a_margin(build: Build) -> None:
    image = torch.rand((1, 1, 50, 50), generator=torch.Generator().manual_seed(0))
    assert grad_cam(build("vit_small", size=50), image, np.array([1])).shape == (1, 50, 50)


@pytest.mark.slow
def test_a_transformer_of_timm(build: Build) -> None:
    image = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    model = build("timm/vit_tiny_patch16_224", size=64)
    with gradcam._feature_map(model, image[:1]) as found:
        shapes: list[torch.Size] = []
        found.layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
        model(image)
    assert shapes == [(2, 192, 4, 4)]
    assert grad_cam(model, image, np.array([0, 1])).max() == 1


@pytest.mark.slow
def test_where_there_is_no_map_it_says_so(build: Build) -> None:
    model = build("timm/swin_tiny_patch4_window7_224", size=64)
    with pytest.raises(ValueError, match="not defined for SwinTransformer"):
        grad_cam(model, torch.zeros(1, 1, 64, 64))


def test_a_model_that_has_only_vectors(images: Tensor) -> None:
    with pytest.raises(ValueError, match="not defined for Flatten"):
        grad_cam(Classifier(nn.Flatten(), 784, 3, 0.0), images)


def test_a_frozen_backbone_has_a_map_too(build: Build, images: Tensor) -> None:
    model, classes = build(), np.zeros(8, np.int64)
    expected = grad_cam(model, images, classes)
    model.requires_grad_(False)
    np.testing.assert_allclose(grad_cam(model, images, classes), expected, atol=1e-6)


def test_without_captum_it_says_what_to_do(build: Build, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match="uv sync --extra explain"):
        grad_cam(build(), images)
