"""Where in an image a model found its class: Grad-CAM (Selvaraju et al. 2017)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import DenseNet

from medtune.inspection.swapped import swapped
from medtune.models.classifier import Classifier
from medtune.models.vit import SmallViT

CASES_PER_PASS = 32  # with everything that the gradient needs in memory


def grad_cam(model: Classifier, images: Tensor, classes: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float32]:
    """Heat maps (cases, height, width), float32: of each image from 0 to its own 1, and 0 everywhere where nothing
    speaks for the class.

    images: float32 (cases, channels, height, width) from 0 to 1 on the model's device, as `DeviceSplit.batch` gives
    them. classes: the class or label of each case to explain; None: the predicted one, of several labels the most
    probable. The map is the last one of the backbone that has more than one place: a few places only at 28 px, so that
    it is coarse. Of a transformer it is what its last block looks at, the patches in their grid. The model is left in
    evaluation mode. Raises ImportError without captum and ValueError where there is no such map.
    """
    layer_grad_cam = _captum()
    model.eval()
    chosen = None if classes is None else torch.as_tensor(classes, dtype=torch.int64, device=images.device)
    heat = []
    with _feature_map(model, images[:1]) as feature_map:
        explain = layer_grad_cam(model, feature_map.layer)
        for start in range(0, len(images), CASES_PER_PASS):
            part = images[start : start + CASES_PER_PASS].detach()
            target = _predicted(model, part) if chosen is None else chosen[start : start + CASES_PER_PASS]
            # a gradient reaches the map through the images too, where a frozen backbone has none of its own
            coarse = explain.attribute(part.requires_grad_(), target, relu_attributions=True)
            heat.append(_enlarged(coarse.detach(), part, feature_map.margin))
    return torch.cat(heat).cpu().numpy()


def _captum() -> Any:
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise ImportError("Grad-CAM needs captum: uv sync --extra explain") from error
    return LayerGradCam


@torch.no_grad()
def _predicted(model: Classifier, images: Tensor) -> Tensor:
    return model(images).argmax(dim=1)


def _enlarged(coarse: Tensor, images: Tensor, margin: tuple[int, int, int, int]) -> Tensor:
    """(cases, 1, places, places) to (cases, height, width), 0 to 1. margin: what the model laid around its images."""
    left, right, top, bottom = margin
    height, width = images.shape[2:]
    whole = (height + top + bottom, width + left + right)
    heat = F.interpolate(coarse, whole, mode="bilinear", align_corners=False)[:, 0]
    heat = heat[:, top : top + height, left : left + width]
    most = heat.amax(dim=(1, 2), keepdim=True)
    return torch.where(most > 0, heat / most.clamp(min=torch.finfo(heat.dtype).tiny), 0.0).float()


@dataclass(frozen=True)
class _FeatureMap:
    """layer: whose output (cases, channels, places, places) is explained. margin: left, right, top, bottom."""

    layer: nn.Module
    margin: tuple[int, int, int, int] = (0, 0, 0, 0)


@contextmanager
def _feature_map(model: Classifier, images: Tensor) -> Iterator[_FeatureMap]:
    """The last feature map of a model; while a transformer's tokens are looked at, they pass through a grid."""
    if isinstance(model.backbone, DenseNet):
        activated = _Activated(model.backbone.features)
        with swapped(model, {"backbone.features": activated}):
            yield _FeatureMap(activated)
        return
    outputs = _outputs(model, images)
    square = [at for at, (_, shape) in enumerate(outputs) if len(shape) == 4 and shape[2] == shape[3] > 1]
    after = outputs[square[-1] + 1 :] if square else outputs
    tokens = [shape for _, shape in after if len(shape) == 3 and shape[1] > 1]
    # channels last, as in a Swin transformer: what is square before it is no more than the patches
    others = [shape for _, shape in after if len(shape) == 4 and shape[1] == shape[2] > 1 and shape[2] != shape[3]]
    if square and not tokens and not others:
        yield _FeatureMap(outputs[square[-1]][0])
        return
    name, prefix, side = _last_block(model)
    if name is None or all(shape[1] != prefix + side**2 for shape in tokens):
        raise ValueError(f"Grad-CAM is not defined for {type(model.backbone).__name__}: it has no last feature map")
    grid = _Grid(model.get_submodule(name), prefix, side)
    margin = model.backbone.margin if isinstance(model.backbone, SmallViT) else (0, 0, 0, 0)
    with swapped(model, {name: grid}):
        yield _FeatureMap(grid.map, margin)


@torch.no_grad()
def _outputs(model: Classifier, images: Tensor) -> list[tuple[nn.Module, torch.Size]]:
    """The parts of the backbone that give a tensor, and its shape, in the order in which they are done."""
    seen: list[tuple[nn.Module, torch.Size]] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((module, output.shape))

    hooks = [module.register_forward_hook(note) for module in model.backbone.modules() if module is not model.backbone]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _last_block(model: Classifier) -> tuple[str | None, int, int]:
    """Of a transformer: the name of its last block's first norm, the number of its tokens that are no patches, and of
    its patches a side. After that norm the head hears of the patches through the attention alone, and after the last
    block no more."""
    net: Any = model.backbone
    if isinstance(net, SmallViT):
        return _name(model, net.encoder.layers[-1].ln_1), 1, net.image_size // net.patch_size
    try:  # as timm names them
        norm, (height, width) = net.blocks[-1].norm1, net.patch_embed.grid_size
    except (AttributeError, IndexError, TypeError):
        return None, 0, 0
    return _name(model, norm) if height == width else None, getattr(net, "num_prefix_tokens", 0), height


def _name(model: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is part)


class _Activated(nn.Module):
    """The features of a DenseNet after their ReLU, which is no module of it. What is cut off becomes not 0 but the
    least that is more: at 0 the network's own ReLU would stop the gradient."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features.clamp(min=torch.finfo(features.dtype).tiny)


class _Grid(nn.Module):
    """Another module of which the tokens pass `map` as an image of patches, (cases, channels, side, side)."""

    def __init__(self, before: nn.Module, prefix: int, side: int) -> None:
        super().__init__()
        self.before, self.prefix, self.side = before, prefix, side
        self.map = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.before(tokens)
        patches = tokens[:, self.prefix :].transpose(1, 2).unflatten(2, (self.side, self.side))
        return torch.cat([tokens[:, : self.prefix], self.map(patches).flatten(2).transpose(1, 2)], dim=1)
