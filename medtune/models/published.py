"""The file of `model.weights`: given, or published and fetched. Imports torch only where it must look for a file."""

import hashlib
from pathlib import Path

from medtune.config.trial import MODELS, TIMM, UNPUBLISHED, EncoderConfig
from medtune.data import DataError
from medtune.models import IMAGENET, OTHERWISE

WEIGHT_FILES = (".safetensors", ".pth", ".pt")


def fetch_weights(config: EncoderConfig) -> Path | None:
    """The file, downloaded where it is a published one that is not there; None where there is none to load.

    Of a timm model the name is looked at, and its ImageNet weights are brought into timm's own cache. Raises
    DataError."""
    if config.name.startswith(TIMM):
        from medtune.models.timm_backbones import fetch_timm_weights, timm_name

        timm_name(config.name)
        if config.weights == IMAGENET:
            fetch_timm_weights(config.name)
            return None
    if config.weights is None:
        return None
    return published_weights(config.name) if config.weights == IMAGENET else _given(config.weights)


def _given(weights: str) -> Path:
    path = Path(weights).expanduser()
    if path.suffix not in WEIGHT_FILES:
        raise DataError(
            f"model.weights: {weights}: write {IMAGENET}, a .safetensors, .pth or .pt file, or a folder that "
            "`medtune pretrain` made"
        )
    if not path.is_file():
        raise DataError(f"model.weights: {weights}: there is no such file")
    return path


def published_weights(name: str) -> Path:
    """torchvision's ImageNet weights of a model, in torch.hub's folder, where torchvision looks for them too."""
    url = published_url(name)
    from torch.hub import get_dir

    path = Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]
    sha256 = path.stem.rpartition("-")[2]  # how it begins: torch.hub's way of naming a file
    if not path.exists():
        from medtune.data.download import download

        download(url, path, sha256, algorithm="sha256", otherwise=OTHERWISE)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256):
        raise DataError(f"{path}: is not the published file (SHA-256 {found[:8]}…); move it away to have it downloaded")
    return path


def published_url(name: str) -> str:
    """Of torchvision's ImageNet weights of a model. Raises DataError where there are none."""
    if name in UNPUBLISHED:
        others = ", ".join(model for model in MODELS if model not in UNPUBLISHED)
        raise DataError(f"model.weights: {IMAGENET}: none are published for {name}, only for {others}; {OTHERWISE}")
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT.url
