import pytest
import torch

from medtune.config.trial import MODELS, ModelConfig
from medtune.data import DataError
from medtune.models.build import empty_model
from medtune.models.describe import describe


def test_smallcnn_by_hand() -> None:
    found = describe(ModelConfig(name="smallcnn", hidden=5), channels=1, classes=3, size=28)
    assert [(one.name, one.kind, one.output) for one in found.layers] == [
        ("0", "Block", (16, 14, 14)),
        ("1", "Block", (32, 7, 7)),
        ("2", "Block", (64, 3, 3)),
        ("hidden", "Linear", (5,)),
        ("head", "Linear", (3,)),
    ]
    assert [one.parameters for one in found.layers] == [9 * 16 + 32, 9 * 512 + 64, 9 * 2048 + 128, 325, 18]
    convolutions = 9 * (16 * 28**2 + 16 * 32 * 14**2 + 32 * 64 * 7**2)
    assert found.multiply_adds == convolutions + 64 * 5 + 5 * 3


@pytest.mark.parametrize("name", [*MODELS, "timm/resnet10t"])
def test_all_parameters_are_counted(name: str) -> None:
    config = ModelConfig(name=name)
    found = describe(config, 3, 9, 64)
    assert found.parameters == sum(one.numel() for one in empty_model(config, 3, 9, 64).parameters())
    outside = {"vit_small": 384 + 65 * 384}.get(name, 0)  # class token and position embeddings are of no layer
    assert sum(one.parameters for one in found.layers) == found.parameters - outside
    assert all(one.output for one in found.layers)


def test_it_takes_no_number_from_the_global_generator() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4711)  # else it might be where the one lent to timm always ends
        before = torch.get_rng_state()
        describe(ModelConfig(name="timm/resnet10t"), 3, 9, 64)
        assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(DataError, match="no such model"):
        describe(ModelConfig(name="timm/nothing"), 3, 9, 64)
