"""Weights of files: torchvision's names, timm's and ours; what adapts, and what is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from medtune.config.trial import ModelConfig
from medtune.data import DataError
from medtune.data import download as downloading
from medtune.models import published
from medtune.models.adapt import adapt
from medtune.models.classifier import Classifier
from medtune.models.published import fetch_weights, published_url

Build = Callable[..., Classifier]
Images = Callable[..., Tensor]


def zoo(name: str, classes: int = 1000) -> nn.Module:
    """A model of torchvision with seeded weights and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = getattr(models, name)(num_classes=classes)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
    return net.eval()


def written(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    return written(zoo("resnet18").state_dict(), tmp_path / "resnet.pth")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_file_of_torchvisions_names(suffix: str, tmp_path: Path, build: Build, images: Images) -> None:
    theirs = zoo("resnet18")
    path = written(theirs.state_dict(), tmp_path / f"weights{suffix}")
    model = build("resnet18", 3, 4, 224, weights=str(path)).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    theirs.fc = nn.Identity()  # type: ignore[assignment]
    x = images(3, 64)
    with torch.no_grad():
        expected = theirs((x - mean[:, None, None]) / std[:, None, None])
        torch.testing.assert_close(model.backbone((x - model.mean) / model.std), expected)
    assert torch.equal(model.mean.flatten(), mean) and torch.equal(model.std.flatten(), std)


@pytest.mark.parametrize(
    "name",
    ["resnet34", "resnet50", "densenet121", "efficientnet_b0", pytest.param("convnext_tiny", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("size", [28, 224])
def test_every_published_model_takes_its_own_file(name: str, size: int, tmp_path: Path, build: Build) -> None:
    state = zoo(name).state_dict()
    model = build(name, 1, 3, size, weights=str(written(state, tmp_path / "weights.pth")))
    kept = sum(torch.equal(tensor, state[path]) for path, tensor in model.backbone.state_dict().items() if path in state
               and tensor.shape == state[path].shape)  # fmt: skip
    assert kept == len(model.backbone.state_dict()) - 1  # all but the stem, which is of one channel
    assert model.mean.item() == pytest.approx(0.449, abs=1e-3) and model.std.item() == pytest.approx(0.226, abs=1e-3)


def test_the_published_densenet_has_older_names(tmp_path: Path, build: Build) -> None:
    state = zoo("densenet121").state_dict()
    old = {
        path.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for path, tensor in state.items()
        if not path.endswith("num_batches_tracked")
    }
    model = build("densenet121", 3, 3, 28, weights=str(written(old, tmp_path / "old.pth")))
    path = "features.denseblock1.denselayer1.norm1.running_mean"
    assert torch.equal(model.backbone.state_dict()[path], state[path])


def test_weights_of_other_classes_are_not_imagenets(tmp_path: Path, build: Build) -> None:
    path = written(zoo("resnet18", 9).state_dict(), tmp_path / "nine.pth")
    assert (build("resnet18", 3, 4, 28, weights=str(path)).mean == 0.5).all()


def test_a_state_dict_in_a_mapping(tmp_path: Path, build: Build) -> None:
    state = zoo("resnet18").state_dict()
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.pth")
    model = build("resnet18", 3, 4, 224, weights=str(tmp_path / "w.pth"))
    assert torch.equal(model.backbone.conv1.weight, state["conv1.weight"])


def test_random_streams_do_not_depend_on_weights(resnet: Path, build: Build) -> None:
    fresh, loaded = build("resnet18", 3, 4, 28), build("resnet18", 3, 4, 28, weights=str(resnet))
    assert torch.equal(fresh.head.weight, loaded.head.weight)
    assert not torch.equal(fresh.backbone.conv1.weight, loaded.backbone.conv1.weight)


class TestOurs:
    @pytest.fixture
    def path(self, build: Build, tmp_path: Path) -> Path:
        model = build("smallcnn", 3, 4, seed=8, hidden=6)
        model.normalise_by(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6]))
        return written(model.state_dict(), tmp_path / "ours.safetensors")

    def test_the_whole_model(self, path: Path, build: Build, images: Images) -> None:
        first, second = build("smallcnn", 3, 4, seed=8, hidden=6), build("smallcnn", 3, 4, hidden=6, weights=str(path))
        first.normalise_by(second.mean, second.std)
        assert second.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert torch.equal(first(images(3, 28)), second(images(3, 28)))

    @pytest.mark.parametrize("keys", [{"classes": 5, "hidden": 6}, {"classes": 4}])
    def test_another_head_stays_fresh(self, path: Path, build: Build, keys: dict[str, Any]) -> None:
        fresh, loaded = build("smallcnn", 3, **keys), build("smallcnn", 3, weights=str(path), **keys)
        assert torch.equal(fresh.head.weight, loaded.head.weight)
        if fresh.hidden is not None and loaded.hidden is not None:
            assert torch.equal(fresh.hidden.weight, loaded.hidden.weight)
        assert not torch.equal(fresh.backbone[0].conv.weight, loaded.backbone[0].conv.weight)

    def test_greyscale(self, path: Path, build: Build) -> None:
        assert build("smallcnn", 1, 4, weights=str(path)).mean.flatten().tolist() == pytest.approx([0.2])


class TestAdapting:
    @pytest.mark.parametrize(("old", "new"), [(7, 3), (4, 2), (3, 7), (16, 4), (8, 5)])
    def test_a_kernel_keeps_its_sum(self, old: int, new: int) -> None:
        kernel = torch.rand((6, 3, old, old), generator=torch.Generator().manual_seed(0))
        smaller = adapt("conv1.weight", kernel, torch.Size((6, 3, new, new)), stem=True)
        torch.testing.assert_close(smaller.sum((2, 3)), kernel.sum((2, 3)))

    def test_pixels_are_gathered_by_area(self) -> None:
        kernel = torch.arange(16.0).reshape(1, 1, 4, 4)
        smaller = adapt("conv1.weight", kernel, torch.Size((1, 1, 2, 2)), stem=True)
        assert smaller.tolist() == [[[[10, 18], [42, 50]]]]

    def test_a_grey_image_gets_the_same_answer(self, images: Images) -> None:
        kernel = torch.rand((6, 3, 3, 3), generator=torch.Generator().manual_seed(0))
        grey = adapt("conv1.weight", kernel, torch.Size((6, 1, 3, 3)), stem=True)
        x = images(1, 8)
        torch.testing.assert_close(nn.functional.conv2d(x, grey), nn.functional.conv2d(x.expand(-1, 3, -1, -1), kernel))

    def test_position_embeddings_keep_the_class_and_what_is_smooth(self) -> None:
        line = torch.linspace(0, 1, 8)[:, None].expand(8, 8)
        old = torch.cat([torch.tensor([9.0]), line.flatten()])[None, :, None].expand(1, 65, 5)
        new = adapt("encoder.pos_embedding", old, torch.Size((1, 17, 5)), stem=False)
        assert (new[0, 0] == 9).all()
        square = new[0, 1:, 0].reshape(4, 4)
        assert (square.diff(dim=0) > 0.2).all() and torch.allclose(square, square[:, :1])

    def test_a_vit_of_another_size(self, build: Build, tmp_path: Path) -> None:
        path = written(build("vit_small", 3, 4, 64, seed=1).state_dict(), tmp_path / "vit.safetensors")
        model = build("vit_small", 1, 4, 28, weights=str(path))
        assert model.backbone.encoder.pos_embedding.shape == (1, 50, 384)
        assert not torch.equal(model.backbone.class_token, build("vit_small", 1, 4, 28).backbone.class_token)

    def test_nothing_else_adapts(self) -> None:
        weights = torch.ones(4, 3, 3, 3)
        assert adapt("layer1.weight", weights, torch.Size((4, 1, 3, 3)), stem=False) is weights


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("resnet34", "missing: layer1.2.conv1.weight, layer1.2.bn1.weight, layer1.2.bn1.bias and 77 more"),
            ("smallcnn", "missing: 0.conv.weight"),
            ("resnet50", "missing: layer1.0.conv3.weight"),
        ],
    )
    def test_weights_of_another_model(self, resnet: Path, build: Build, name: str, fault: str) -> None:
        with pytest.raises(DataError) as caught:
            build(name, 3, 4, 28, weights=str(resnet))
        assert str(caught.value).startswith(f"{resnet}: these are weights of another model; {fault}")

    def test_those_of_a_larger_one(self, build: Build, tmp_path: Path) -> None:
        path = written(zoo("resnet34").state_dict(), tmp_path / "larger.pth")
        with pytest.raises(DataError, match=r"another model; unknown: layer1\.2\.conv1\.weight"):
            build("resnet18", 3, 4, 28, weights=str(path))

    def test_another_shape(self, build: Build, tmp_path: Path) -> None:
        state = zoo("resnet18").state_dict()
        state["bn1.weight"] = torch.ones(3)
        with pytest.raises(DataError, match=r"of another shape: bn1\.weight$"):
            build("resnet18", 3, 4, 28, weights=str(written(state, tmp_path / "w.pth")))

    def test_what_is_no_state_dict(self, build: Build, tmp_path: Path) -> None:
        torch.save({"a": 1}, tmp_path / "a.pth")
        with pytest.raises(DataError, match=r"a\.pth: is no state_dict"):
            build("resnet18", weights=str(tmp_path / "a.pth"))

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_what_cannot_be_read(self, build: Build, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"a{suffix}").write_bytes(b"no weights")
        with pytest.raises(DataError, match=f"a{suffix}: cannot be read as weights") as caught:
            build("resnet18", weights=str(tmp_path / f"a{suffix}"))
        assert "\n" not in str(caught.value)

    def test_code_in_a_file_is_not_run(self, build: Build, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "run",)

        torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
        with pytest.raises(DataError, match="cannot be read as weights"):
            build("resnet18", weights=str(tmp_path / "evil.pth"))
        assert not (tmp_path / "run").exists()


def wanted(name: str, weights: str | None) -> ModelConfig:
    return ModelConfig(name=name, weights=weights)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


class TestFetching:
    def test_no_weights_no_file(self) -> None:
        assert fetch_weights(wanted("resnet18", None)) is None

    @pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "densenet121", "efficientnet_b0"])
    def test_addresses_are_torchvisions_and_name_the_hash(self, name: str) -> None:
        url = published_url(name)
        assert url.startswith(f"https://download.pytorch.org/models/{name}") and url.endswith(".pth")
        assert len(url.removesuffix(".pth").rpartition("-")[2]) == 8

    def test_a_file_that_is_there_is_used(
        self, hub: Path, resnet: Path, monkeypatch: pytest.MonkeyPatch, build: Build
    ) -> None:
        sha256 = hashlib.sha256(resnet.read_bytes()).hexdigest()
        monkeypatch.setattr(published, "published_url", lambda name: f"https://host/{name}-{sha256[:8]}.pth")
        hub.mkdir(parents=True)
        there = resnet.rename(hub / f"resnet18-{sha256[:8]}.pth")
        assert fetch_weights(wanted("resnet18", "imagenet")) == there
        assert build("resnet18", 3, 4, 28, weights="imagenet").mean[0].item() == pytest.approx(0.485)

    def test_a_damaged_one_is_refused(self, hub: Path) -> None:
        hub.mkdir(parents=True)
        (hub / "resnet18-f37072fd.pth").write_bytes(b"cut off")
        with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth: is not the published file .*move it away"):
            fetch_weights(wanted("resnet18", "imagenet"))

    def test_without_network_it_says_where_the_file_is_and_goes(
        self, hub: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = "http://127.0.0.1:1/resnet18-f37072fd.pth"
        monkeypatch.setattr(published, "published_url", lambda name: url)
        monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
        with pytest.raises(DataError) as caught:
            fetch_weights(wanted("resnet18", "imagenet"))
        message = str(caught.value)
        assert message.startswith(f"{hub / 'resnet18-f37072fd.pth'}: not there, and the download failed (")
        assert message.endswith(f"put {url} there by hand, or give a file of yours with model.weights: PATH")

    @pytest.mark.parametrize("name", ["smallcnn", "vit_small"])
    def test_not_every_model_has_published_weights(self, name: str) -> None:
        with pytest.raises(DataError, match=f"none are published for {name}, only for resnet18, .*weights: PATH"):
            fetch_weights(wanted(name, "imagenet"))

    def test_a_path_is_looked_at(self) -> None:
        with pytest.raises(DataError, match=r"model.weights: none.pth: there is no such file"):
            fetch_weights(wanted("resnet18", "none.pth"))


class TestTimm:
    def test_an_unknown_name(self) -> None:
        with pytest.raises(DataError, match=r"^timm/resnet180: no such model in timm [\d.]+; nearest: resnet18"):
            fetch_weights(wanted("timm/resnet180", None))

    def test_timm_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "timm", None)
        with pytest.raises(DataError, match=r"^timm/resnet18 needs the package timm: pip install 'medtune\[timm\]'$"):
            fetch_weights(wanted("timm/resnet18", None))

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: Any, **keys: Any) -> None:
            raise OSError("nobody\nanswers")

        monkeypatch.setattr(timm, "create_model", refuse)
        with pytest.raises(
            DataError, match=r"timm/resnet18: .*weights cannot be had \(nobody answers\); .*weights: PATH"
        ):
            fetch_weights(wanted("timm/resnet18", "imagenet"))

    def test_a_patch_that_does_not_fit(self, build: Build) -> None:
        with pytest.raises(DataError, match=r"needs a multiple of 16 px a side, not 28; data\.resize"):
            build("timm/vit_tiny_patch16_224", size=28)

    def test_a_file_of_timms_names(self, build: Build, tmp_path: Path) -> None:
        with torch.random.fork_rng():
            state = timm.create_model("resnet10t", num_classes=1000).state_dict()
        path = written(state, tmp_path / "timm.safetensors")
        model = build("timm/resnet10t", 3, 2, 32, weights=str(path))
        assert torch.equal(model.backbone.layer4[0].conv1.weight, state["layer4.0.conv1.weight"])
        assert model.mean[0].item() == pytest.approx(0.485)

    def test_no_dropout_of_its_own_is_left(self, build: Build) -> None:
        net = build("timm/vit_tiny_patch16_224", size=32).backbone
        assert all(module.p == 0 for module in net.modules() if isinstance(module, nn.Dropout))
