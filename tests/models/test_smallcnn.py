import pytest
import torch

from medtune.config.trial import ModelConfig
from medtune.models.build import build_model
from medtune.models.smallcnn import Block, smallcnn


def images(channels: int, size: int, cases: int = 2) -> torch.Tensor:
    return torch.rand((cases, channels, size, size), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [2, 14])
def test_it_has_between_20_and_30_thousand_parameters(channels: int, classes: int) -> None:
    model = build_model(ModelConfig(name="smallcnn"), channels, classes, 28, torch.Generator())
    assert 20_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 30_000


@pytest.mark.parametrize("size", [16, 28, 64, 224])
def test_it_gives_the_features_that_it_promises_at_any_size(size: int) -> None:
    backbone, features = smallcnn(1)
    assert backbone(images(1, size)).shape == (2, features)


@pytest.mark.parametrize(("side", "half"), [(28, 14), (7, 3)])
def test_a_block_halves_the_side(side: int, half: int) -> None:
    assert Block(3, 8, skip=True)(images(3, side)).shape == (2, 8, half, half)


def test_the_skip_is_the_pooled_input_with_zeros_for_the_new_channels() -> None:
    block = Block(3, 5, skip=True)
    torch.nn.init.zeros_(block.norm.weight)  # silences the convolution
    x = images(3, 8)
    out = block(x)
    torch.testing.assert_close(out[:, :3], torch.nn.functional.avg_pool2d(x, 2))
    assert (out[:, 3:] == 0).all()


def test_a_block_without_skip_has_only_the_convolution() -> None:
    block = Block(3, 5, skip=False)
    torch.nn.init.zeros_(block.norm.weight)
    assert (block(images(3, 8)) == 0).all()
