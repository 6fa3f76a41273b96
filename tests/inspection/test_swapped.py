from collections.abc import Callable

import pytest
import torch
from torch import nn

from medtune.inspection.swapped import swapped
from medtune.models.classifier import Classifier


def test_parts_are_others_for_a_while(build: Callable[..., Classifier]) -> None:
    model, images = build(), torch.zeros(2, 1, 28, 28)
    head, logits = model.head, model(images)
    with swapped(model, {"head": nn.Identity(), "backbone.0.norm": nn.Identity()}):
        assert model(images).shape == (2, 64) and isinstance(model.backbone[0].norm, nn.Identity)
    assert model.head is head and torch.equal(model(images), logits)


def test_also_after_an_error(build: Callable[..., Classifier]) -> None:
    model = build()
    head, names = model.head, list(model.state_dict())
    with pytest.raises(KeyError), swapped(model, {"head": nn.Identity()}):
        raise KeyError
    assert model.head is head and list(model.state_dict()) == names
