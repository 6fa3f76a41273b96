"""Models with drawn weights, and a few small images of noise to show them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from medtune.config.trial import ModelConfig
from medtune.data import Split
from medtune.data.batches import DeviceSplit, to_device
from medtune.models.build import build_model
from medtune.models.classifier import Classifier


@pytest.fixture
def build() -> Callable[..., Classifier]:
    """`build(name, channels, size, **keys)`: a model for three classes, in evaluation mode."""

    def build(name: str = "smallcnn", channels: int = 1, size: int = 28, **keys: object) -> Classifier:
        config = ModelConfig.model_validate({"name": name, **keys})
        return build_model(config, channels, 3, size, torch.Generator().manual_seed(0)).eval()

    return build


@pytest.fixture
def make_split() -> Callable[..., DeviceSplit]:
    """`make_split(cases, channels, size, rgb)`: noise, and labels 0, 1, 2, 0, …"""

    def make(cases: int = 12, channels: int = 1, size: int = 28, rgb: bool = False) -> DeviceSplit:
        shape = (cases, size, size, channels)[: 3 + (channels > 1)]
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return to_device(Split(images, np.arange(cases) % 3), "cpu", rgb)

    return make


@pytest.fixture
def full() -> torch.autocast:
    """float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=False)
