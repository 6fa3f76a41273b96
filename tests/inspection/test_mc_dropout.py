from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from medtune.data.batches import DeviceSplit
from medtune.inspection import mc_dropout
from medtune.inspection.mc_dropout import dropout_logits
from medtune.models.classifier import Classifier
from medtune.training import loop
from medtune.training.loop import predict_logits

Build, MakeSplit = Callable[..., Classifier], Callable[..., DeviceSplit]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_way(model: Classifier, split: DeviceSplit, samples: int, at_once: int = 1024) -> np.ndarray:
    """The whole model for every sample, in evaluation mode but for the dropout before its head."""
    model.eval()
    model.dropout.train()
    model.dropout.generator = generator()
    batches = torch.arange(len(split)).split(at_once)
    with torch.no_grad():
        return np.stack(
            [np.concatenate([model(split.batch(cases)[0]).numpy() for cases in batches]) for _ in range(samples)]
        )


@pytest.mark.parametrize("hidden", [0, 20])
def test_the_head_alone_gives_what_the_whole_model_gives(
    build: Build, make_split: MakeSplit, full: torch.autocast, hidden: int
) -> None:
    model, split = build(dropout=0.4, hidden=hidden), make_split()
    logits = dropout_logits(model, split, full, 5, generator())
    assert logits.shape == (5, 12, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, slow_way(model, split, 5), rtol=0, atol=1e-6)


def test_also_in_several_passes(
    build: Build, make_split: MakeSplit, full: torch.autocast, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (mc_dropout, loop):
        monkeypatch.setattr(module, "CASES_PER_PASS", 5)
    model, split = build(dropout=0.4), make_split()
    logits = dropout_logits(model, split, full, 3, generator())
    np.testing.assert_allclose(logits, slow_way(model, split, 3, at_once=5), rtol=0, atol=1e-6)


def test_the_backbone_runs_once_for_all_samples(build: Build, make_split: MakeSplit, full: torch.autocast) -> None:
    model, calls = build(dropout=0.4), []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    dropout_logits(model, make_split(), full, 20, generator())
    assert len(calls) == 1


def test_samples_and_cases_differ_and_their_mean_is_the_prediction(
    build: Build, make_split: MakeSplit, full: torch.autocast
) -> None:
    model, split = build(dropout=0.3), make_split(4)
    same = split.part(torch.zeros(4, dtype=torch.int64))
    logits = dropout_logits(model, same, full, 2000, generator())
    assert len(np.unique(logits[:, :, 0])) > 7000
    error = logits.std(axis=(0, 1)) / np.sqrt(logits.shape[0] * logits.shape[1])
    assert (np.abs(logits.mean(axis=(0, 1)) - predict_logits(model, same, full)[0]) < 5 * error).all()


def test_it_follows_from_the_generator_alone_and_leaves_the_model_as_it_was(
    build: Build, make_split: MakeSplit, full: torch.autocast, global_randomness: Callable[[], bytes]
) -> None:
    model, split = build(dropout=0.5), make_split()
    own, before, expected = model.dropout, global_randomness(), predict_logits(model, split, full)
    first, second, other = (dropout_logits(model.train(), split, full, 3, generator(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert global_randomness() == before and model.dropout is own and own.generator is None
    assert not any(module.training for module in model.modules())
    np.testing.assert_array_equal(predict_logits(model, split, full), expected)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("head", [0.0, 0.5])
def test_dropout_layers_of_the_backbone_are_sampled_too(
    make_split: MakeSplit, full: torch.autocast, global_randomness: Callable[[], bytes], head: float
) -> None:
    inner = nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Dropout(0.5, inplace=True), nn.BatchNorm1d(784))
    model, split, before = Classifier(inner, 784, 3, head), make_split(), global_randomness()
    means, layers = inner[3].running_mean.clone(), list(inner)
    first, second = (dropout_logits(model, split, full, 4, generator()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len({one.tobytes() for one in first}) == 4
    assert global_randomness() == before and list(inner) == layers and not inner[2].training
    assert torch.equal(inner[3].running_mean, means)  # batch norm is in evaluation mode


def test_every_dropout_layer_drops_its_share(full: torch.autocast) -> None:
    ones = DeviceSplit(torch.full((50, 10, 10, 1), 255, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64))
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Dropout(0.2)), 100, 100, dropout=0.5)
    model.head.weight.data.copy_(torch.eye(100))
    model.head.bias.data.zero_()
    logits = dropout_logits(model, ones, full, 10, generator())
    assert set(np.unique(logits.round(4))) == {0.0, 2.5}
    assert (logits > 0).mean() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("name", ["smallcnn", pytest.param("efficientnet_b0", marks=pytest.mark.slow)])
def test_a_model_without_dropout_is_refused(
    build: Build, make_split: MakeSplit, full: torch.autocast, name: str
) -> None:
    with pytest.raises(ValueError, match="has no dropout"):
        dropout_logits(build(name), make_split(), full, 5, generator())


def test_no_sample_is_refused(build: Build, make_split: MakeSplit, full: torch.autocast) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        dropout_logits(build(dropout=0.5), make_split(), full, 0, generator())
