from collections.abc import Callable

import pytest
import torch
from torch import nn

from medtune.models.classifier import Classifier, Dropout


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.rand((64, 50), generator=generator(1)) + 1


def test_the_head_computes_in_float32_under_bfloat16_autocast() -> None:
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 20)), 20, 3, dropout=0.5)
    seen: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.rand((16, 3, 4, 4), generator=generator()))
    assert logits.dtype == seen[0].dtype == model.head.weight.dtype == torch.float32
    assert torch.equal(logits, model.head(seen[0]))
    assert not torch.equal(logits, logits.bfloat16().float())  # more digits than bfloat16 has


def test_dropout_drops_its_share_and_keeps_the_mean(features: torch.Tensor) -> None:
    dropped = Dropout(0.3, generator())(features)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.03)
    torch.testing.assert_close(dropped[kept], features[kept] / 0.7)


def test_dropout_draws_for_every_case_and_every_call(features: torch.Tensor) -> None:
    dropout = Dropout(0.5, generator())
    first, second = dropout(features), dropout(features)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0] == 0, first[1] == 0)


def test_dropout_is_of_its_generator_alone(features: torch.Tensor, global_randomness: Callable[[], bytes]) -> None:
    before = global_randomness()
    first = Dropout(0.5, generator(3))(features)
    assert global_randomness() == before
    torch.manual_seed(12)
    assert torch.equal(Dropout(0.5, generator(3))(features), first)
    assert not torch.equal(Dropout(0.5, generator(4))(features), first)


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (0.5, False)])
def test_dropout_without_effect_takes_no_number(features: torch.Tensor, probability: float, training: bool) -> None:
    stream = generator()
    before = stream.get_state()
    assert torch.equal(Dropout(probability, stream).train(training)(features), features)
    assert torch.equal(stream.get_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_it_normalises_to_the_same_bits_as_the_official_recipe(channels: int, bfloat16: bool) -> None:
    seen: list[torch.Tensor] = []
    model = Classifier(nn.Flatten(), channels * 784, 2, 0.0, channels)
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.randint(256, (4, channels, 28, 28), generator=generator()).float().div_(255)
    images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        model(images)
    assert torch.equal(seen[0], images.sub(0.5).div(0.5)) and torch.equal(images, before)
    assert seen[0].dtype == torch.float32 and seen[0].is_contiguous(memory_format=torch.channels_last)


def test_normalisation_is_taken_channel_by_channel_or_as_their_mean() -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.6]), torch.tensor([0.2, 0.2, 0.5])
    for channels, expected in ((3, [0.1, 0.2, 0.6]), (1, [0.3])):
        model = Classifier(nn.Flatten(), 4, 2, 0.0, channels)
        model.normalise_by(mean, std)
        assert model.mean.flatten().tolist() == pytest.approx(expected)
    model = Classifier(nn.Flatten(), 4, 2, 0.0, 3)
    model.normalise_by(torch.tensor([0.4]), torch.tensor([0.3]))
    assert model.mean.flatten().tolist() == pytest.approx([0.4] * 3)
