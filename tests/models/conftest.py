"""Models and images in one word."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medtune.config.trial import ModelConfig
from medtune.models.build import build_model
from medtune.models.classifier import Classifier


@pytest.fixture
def build() -> Callable[..., Classifier]:
    """`build(name, channels, classes, size, seed, **keys)`: a model with the other keys of its configuration."""

    def build(
        name: str, channels: int = 1, classes: int = 2, size: int = 28, seed: int = 0, **keys: object
    ) -> Classifier:
        config = ModelConfig.model_validate({"name": name, **keys})
        return build_model(config, channels, classes, size, torch.Generator().manual_seed(seed))

    return build


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """`images(channels, size, cases)`: from 0 to 1."""
    return lambda channels, size, cases=2: torch.rand(
        (cases, channels, size, size), generator=torch.Generator().manual_seed(0)
    )
