"""The running mean of a model's weights."""

import pytest
import torch
from torch import nn

from medtune.training.averaging import average


def test_the_mean_follows_the_weights_by_the_decay_which_rises_with_the_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    averaged = average(model, 0.5)
    averaged.update_parameters(model)  # the first is a copy
    expected = 1.0
    for step in range(1, 30):
        nn.init.constant_(model.weight, float(step))
        averaged.update_parameters(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert averaged.module.weight.item() == pytest.approx(expected)


def test_statistics_of_batches_are_averaged_too_and_counts_are_copied() -> None:
    model = nn.BatchNorm2d(1)
    averaged = average(model, 0.9)
    averaged.update_parameters(model)
    for _ in range(3):
        model(torch.full((2, 1, 2, 2), 5.0))
        averaged.update_parameters(model)
    assert 0 < averaged.module.running_mean.item() < model.running_mean.item()
    assert averaged.module.num_batches_tracked == 3
