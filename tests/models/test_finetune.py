from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medtune.config.trial import ModelConfig
from medtune.models.build import empty_model
from medtune.models.classifier import Classifier
from medtune.models.finetune import layers, parameter_groups, set_trained, trained_from

Build = Callable[..., Classifier]
Images = Callable[..., Tensor]


def configured(name: str = "smallcnn", **keys: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name": name, **keys})


def trained(model: Classifier) -> set[str]:
    """The layers of a smallcnn, and the head, that have a parameter that trains."""
    names = (name.removeprefix("backbone.") for name, one in model.named_parameters() if one.requires_grad)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("finetune", "epoch", "expected"),
    [
        ("all", 1, "all"),
        ("head", 7, "head"),
        ({"from": "2"}, 1, ("2",)),
        ({"2": 5, "1": 10}, 4, "head"),
        ({"2": 5, "1": 10}, 5, ("2",)),
        ({"2": 5, "1": 10}, 10, ("2", "1")),
        ({"from": "2", "0": 3}, 2, ("2",)),
        ({"from": "2", "0": 3}, 3, ("2", "0")),
    ],
)
def test_what_trains_in_an_epoch(finetune: Any, epoch: int, expected: Any) -> None:
    assert trained_from(finetune, epoch) == expected


@pytest.mark.parametrize(
    ("finetune", "epoch", "expected"),
    [
        ("all", 1, {"0", "1", "2", "head", "hidden"}),
        ("head", 1, {"head", "hidden"}),
        ({"from": "1"}, 1, {"1", "2", "head", "hidden"}),
        ({"from": "1.norm"}, 1, {"1", "2", "head", "hidden"}),
        ({"2": 2, "0": 3}, 1, {"head", "hidden"}),
        ({"2": 2, "0": 3}, 2, {"2", "head", "hidden"}),
        ({"2": 2, "0": 3}, 3, {"0", "1", "2", "head", "hidden"}),
        ({"0": 2, "2": 3}, 3, {"0", "1", "2", "head", "hidden"}),
    ],
)
def test_it_is_what_follows_that_trains(build: Build, finetune: Any, epoch: int, expected: set[str]) -> None:
    model = build("smallcnn", hidden=4)
    set_trained(model.train(), configured(finetune=finetune), epoch)
    assert trained(model) == expected


def step(model: Classifier, images: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss = model(images).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_what_is_frozen_stays_to_the_last_bit_and_its_statistics_too(build: Build, images: Images) -> None:
    model, config = build("smallcnn"), configured(finetune={"2": 1, "1": 2})
    optimizer = torch.optim.Adam(model.parameters(), 0.1, weight_decay=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for epoch, moved in ((1, {"2"}), (2, {"1", "2"})):
        set_trained(model.train(), config, epoch)
        step(model, images(1, 28, 4), optimizer)
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert {name.split(".")[1] for name in changed if name.startswith("backbone.")} == moved
        assert all(f"backbone.{layer}.norm.running_mean" in changed for layer in moved)
        assert "head.weight" in changed


def test_a_layer_that_is_frozen_later_loses_its_gradient(build: Build, images: Images) -> None:
    """A model may come from an epoch in which more has trained, as after a rolled back epoch."""
    model = build("smallcnn")
    step(model, images(1, 28, 4), torch.optim.SGD(model.parameters(), 0.1))
    set_trained(model.train(), configured(finetune="head"), 1)
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.head.weight.grad is not None


def test_batch_norms_train_again_when_their_layer_does(build: Build) -> None:
    model, config = build("smallcnn"), configured(finetune={"1": 2})
    for epoch, training in ((1, False), (2, True)):
        set_trained(model.train(), config, epoch)
        assert model.backbone[1].norm.training == training
        assert not model.backbone[0].norm.training and model.training


@pytest.mark.parametrize("epoch", [1, 9])
def test_an_unknown_layer_is_refused_at_once(build: Build, epoch: int) -> None:
    with pytest.raises(ValueError) as caught:
        set_trained(build("resnet18"), configured("resnet18", finetune={"layre4": 5}), epoch)
    assert str(caught.value) == (
        "model.finetune: no layer layre4; did you mean layer4? "
        "there are conv1, bn1, layer1, layer2, layer3, layer4, and the layers within"
    )


@pytest.mark.parametrize(
    ("name", "some", "count"),
    [
        ("smallcnn", "2", 3),
        ("resnet18", "layer4", 6),
        ("resnet50", "layer4", 6),
        ("densenet121", "features.denseblock4", 10),
        ("efficientnet_b0", "features.7", 9),
        ("convnext_tiny", "features.7", 9),
        ("vit_small", "encoder.layers.encoder_layer_11", 14),
        ("timm/vit_tiny_patch16_224", "blocks.11", 14),
        ("timm/resnet18", "layer4", 6),
    ],
)
def test_layers_have_the_names_that_people_know(name: str, some: str, count: int) -> None:
    model = empty_model(configured(name), 1, 2, 32)
    found = layers(model.backbone)
    assert some in found and len(found) == count == len(set(found))
    set_trained(model, configured(name, finetune={"from": some}), 1)
    frozen = [path for path, one in model.backbone.named_parameters() if not one.requires_grad]
    assert frozen and not any(path.startswith(f"{some}.") for path in frozen)


class TestGroups:
    def test_a_single_one_in_the_models_order(self, build: Build) -> None:
        model = build("smallcnn", hidden=4)
        (group,) = parameter_groups(model, configured(hidden=4), decay_norms=True)
        assert (group["lr_scale"], group["decays"]) == (1.0, True)
        assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))

    def test_a_slower_backbone(self, build: Build) -> None:
        model = build("smallcnn", hidden=4)
        slow, usual = parameter_groups(model, configured(backbone_lr=0.1), decay_norms=True)
        assert (slow["lr_scale"], usual["lr_scale"]) == (0.1, 1.0)
        assert len(slow["params"]) == len(list(model.backbone.parameters())) and len(usual["params"]) == 4

    @pytest.mark.parametrize("backbone_lr", [1.0, 0.5])
    def test_norms_and_biases_that_do_not_decay(self, build: Build, backbone_lr: float) -> None:
        model = build("vit_small")
        groups = parameter_groups(model, configured(backbone_lr=backbone_lr), decay_norms=False)
        assert len(groups) == (2 if backbone_lr == 1 else 4)
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        for group in groups:
            assert all((one.ndim > 1) == group["decays"] for one in group["params"])

    def test_an_optimizer_takes_them(self, build: Build, images: Images) -> None:
        model: nn.Module = build("smallcnn")
        groups = parameter_groups(build("smallcnn"), configured(backbone_lr=0.5), decay_norms=False)
        assert len(torch.optim.SGD(groups, 0.1).param_groups) == 4 and model is not None
