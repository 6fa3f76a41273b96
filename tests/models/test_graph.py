from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medtune.config.trial import MODELS, ModelConfig
from medtune.models.build import empty_model
from medtune.models.classifier import Classifier
from medtune.models.drawing import draw_graph
from medtune.models.graph import MOST_BOXES, MOST_SKIPS, Box, model_graph


def boxes(name: str, size: int = 28, **keys: object) -> list[Box]:
    config = ModelConfig.model_validate({"name": name, **keys})
    return model_graph(empty_model(config, 3, 9, size).to("meta"), 3, size)


def test_smallcnn() -> None:
    assert [(box.path, box.steps, box.sources, box.shape) for box in boxes("smallcnn", dropout=0.5, hidden=7)] == [
        ("", ["images"], [], (3, 28, 28)),
        ("0.conv", ["conv 3x3, 16", "max pool", "batch norm", "ReLU"], [0], (16, 14, 14)),
        ("1.conv", ["conv 3x3, 32", "max pool", "batch norm"], [1], (32, 7, 7)),
        ("1", ["average pool", "pad"], [1], (32, 7, 7)),
        ("1", ["add", "ReLU"], [2, 3], (32, 7, 7)),
        ("2.conv", ["conv 3x3, 64", "max pool", "batch norm"], [4], (64, 3, 3)),
        ("2", ["average pool", "pad"], [4], (64, 3, 3)),
        ("2", ["add", "ReLU", "mean"], [5, 6], (64,)),
        ("hidden", ["linear 7", "ReLU"], [7], (7,)),
        ("head", ["dropout 0.5", "linear 9"], [8], (9,)),
    ]


def test_resnet18_has_its_eight_skips() -> None:
    found = boxes("resnet18")
    merges = [box for box in found if len(box.sources) > 1]
    assert len(merges) == 8 and all(box.steps[:2] == ["add", "ReLU"] for box in merges)
    assert sum(box.steps[0].startswith("conv 1x1") for box in found) == 3
    assert found[1].steps == ["conv 3x3, 64", "batch norm", "ReLU"] and found[-2].shape == (512,)


def test_smallcnn_without_skips_is_a_chain() -> None:
    found = boxes("smallcnn", skip=False)
    assert [box.sources for box in found] == [[], *([index] for index in range(len(found) - 1))]


@pytest.mark.parametrize("name", [*MODELS, "timm/resnet10t", "timm/vit_tiny_patch16_224"])
def test_a_picture_never_has_too_much(name: str) -> None:
    found = boxes(name, 64)
    assert 5 < len(found) <= MOST_BOXES + 2
    assert sum(len(box.sources) - 1 for box in found if box.sources) <= MOST_SKIPS
    assert all(box.steps for box in found)
    assert all(source < index for index, box in enumerate(found) for source in box.sources)


def test_what_cannot_be_traced_says_so() -> None:
    class Undecided(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) if images.sum() > 0 else images.mean((2, 3))

    with pytest.raises(ValueError, match=r"cannot be traced \(.*control flow.*\); leave out --graph"):
        model_graph(Classifier(Undecided(), 3, 2, 0.0).to("meta"), 3, 28)


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_same_network_gives_the_same_bytes(suffix: str, begins: bytes, tmp_path: Path) -> None:
    for name in ("first", "second"):
        draw_graph(boxes("smallcnn"), "smallcnn", tmp_path / f"{name}{suffix}")
    first = (tmp_path / f"first{suffix}").read_bytes()
    assert first.startswith(begins) and first == (tmp_path / f"second{suffix}").read_bytes()


def test_tracing_leaves_the_model_and_the_generator_alone(global_randomness: Callable[[], bytes]) -> None:
    model = empty_model(ModelConfig(name="resnet18"), 3, 9, 28).to("meta")
    before, names = global_randomness(), list(model.state_dict())
    model_graph(model, 3, 28)
    assert global_randomness() == before and list(model.state_dict()) == names
    assert all(tensor.device == torch.device("meta") for tensor in model.state_dict().values())
