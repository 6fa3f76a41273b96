"""Weights of a file laid over those of a fresh model: by the names of torchvision, of timm or of medtune."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from medtune.config.trial import TIMM, EncoderConfig
from medtune.data import DataError
from medtune.models import IMAGENET
from medtune.models.adapt import adapt
from medtune.models.classifier import Encoder
from medtune.models.published import fetch_weights
from medtune.models.timm_backbones import timm_classifiers, timm_normalisation

IMAGENET_CLASSES = 1000
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSIFIERS = ("fc", "classifier", "classifier.1", "classifier.2", "heads.head")  # torchvision's, of all its models

State = dict[str, Tensor]


def load_pretrained(model: Encoder, config: EncoderConfig) -> None:
    """Lays the weights of `config.weights` over those of a fresh model. Raises DataError where they do not fit."""
    path = None if _filled_by_timm(config) else fetch_weights(config)
    if path is None:
        model.normalise_by(*timm_normalisation(model.backbone))
        return
    found = read_state(path)
    if any(re.match(r"\d+\.backbone\.", name) for name in found):
        raise DataError(f"{path}: holds a model for each fold; `medtune retrain` makes one of all the cases")
    if any(name.startswith("backbone.") for name in found):
        _load_ours(model, found, path)
    else:
        _load_theirs(model, found, path, config.name)


def _filled_by_timm(config: EncoderConfig) -> bool:
    return config.name.startswith(TIMM) and config.weights == IMAGENET


def read_state(path: Path) -> State:
    """Tensors by name, of a state_dict or of the only one in a mapping. Raises DataError where the file has none."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: torch, zip files, safetensors
        text = str(error).strip().partition("\n")[0][:200]
        raise DataError(f"{path}: cannot be read as weights ({text})") from error
    inner = [found, *found.values()] if isinstance(found, dict) else []
    states = [state for state in inner if isinstance(state, dict) and state and _all_tensors(state)]
    if len(states) != 1:
        raise DataError(f"{path}: is no state_dict, a mapping of names to tensors")
    return dict(states[0])


def _all_tensors(state: State) -> bool:
    return all(isinstance(tensor, Tensor) for tensor in state.values())


def _load_ours(model: Encoder, found: State, path: Path) -> None:
    """A whole model of medtune: of its head only what is of the same shape, so of as many classes."""
    backbone = {name.removeprefix("backbone."): found[name] for name in found if name.startswith("backbone.")}
    _load_backbone(model.backbone, backbone, path)
    if "mean" in found and "std" in found:
        model.normalise_by(found["mean"], found["std"])
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(("head.", "hidden."))}
    if all(name in found and found[name].shape == tensor.shape for name, tensor in own.items()):
        model.load_state_dict({name: found[name] for name in own}, strict=False)


def _load_theirs(model: Encoder, found: State, path: Path, name: str) -> None:
    """Of torchvision's or timm's names, without the layer of their classes. Thousand classes mean ImageNet."""
    timm = name.startswith(TIMM)
    if name == "densenet121":  # it was published when norm1 was still called norm.1
        found = {re.sub(r"\b(norm|relu|conv)\.([12])\.", r"\1\2.", key): tensor for key, tensor in found.items()}
    layers = timm_classifiers(model.backbone) if timm else CLASSIFIERS
    classifier = {
        key: found.pop(key) for layer in layers for key in (f"{layer}.weight", f"{layer}.bias") if key in found
    }
    _load_backbone(model.backbone, found, path)
    if any(len(tensor) == IMAGENET_CLASSES for tensor in classifier.values()):
        imagenet = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        model.normalise_by(*(timm_normalisation(model.backbone) if timm else imagenet))


def _load_backbone(backbone: nn.Module, found: State, path: Path) -> None:
    wanted = backbone.state_dict()
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in wanted]
    convolutions = (name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))
    stem = f"{next(convolutions, '')}.weight"
    fitting = {name: adapt(name, found[name], wanted[name].shape, name == stem) for name in wanted if name in found}
    other = [name for name, tensor in fitting.items() if tensor.shape != wanted[name].shape]
    for fault, names in (("missing", missing), ("unknown", unknown), ("of another shape", other)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise DataError(f"{path}: these are weights of another model; {fault}: {', '.join(names[:3])}{more}")
    backbone.load_state_dict(fitting, strict=False)
