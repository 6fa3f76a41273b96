"""RandAugment and TrivialAugment: each operation against torchvision's, and what is drawn how often."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as TV
from torch import Tensor

from medtune.config.trial import NoPolicy, RandAugment, TrivialAugment
from medtune.data import policies
from medtune.data.policies import (
    BLENDS,
    GEOMETRIC,
    OPERATIONS,
    Layer,
    Strongest,
    apply_layer,
    apply_policy,
    autocontrast,
    equalize,
    posterize,
    solarize,
    strongest,
)

FULL = Strongest(shear=0.5, shift=0.5, degrees=90, factor=0.9, bits=6)
COLOUR = ["brightness", "contrast", "sharpness", "saturation"]
GREY_LEVEL = 1 / 255


def pictures(cases: int = 6, channels: int = 3, side: int = 28) -> Tensor:
    """8-bit levels as floats from 0 to 1, smooth and of little contrast, so that histograms are not flat."""
    generator = torch.Generator().manual_seed(1)
    small = torch.rand((cases, channels, 5, 5), generator=generator) * 0.6 + 0.1
    images = torch.nn.functional.interpolate(small, size=(side, side), mode="bicubic").clamp(0, 1)
    return bytes_of(images) / 255


def bytes_of(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def one(operation: str, images: Tensor, level: float, sign: int = 1, limits: Strongest = FULL) -> Tensor:
    """The operation on every image."""
    shape = (len(images), 1, 1, 1)
    operations = torch.full(shape, OPERATIONS.index(operation))
    return apply_layer(images, Layer(operations, torch.full(shape, level), torch.full(shape, sign)), limits)


def full(images: Tensor, value: float) -> Tensor:
    return torch.full((len(images), 1, 1, 1), value)


def assert_near(out: Tensor, expected: Tensor, grey_levels: float = 1.01) -> None:
    """`expected`: uint8."""
    torch.testing.assert_close(out * 255, expected.float(), atol=grey_levels, rtol=0)


def test_there_are_fourteen_operations_each_once() -> None:
    assert len(OPERATIONS) == len(set(OPERATIONS)) == 14
    assert {*GEOMETRIC, *BLENDS} < set(OPERATIONS)


@pytest.mark.parametrize("operation", COLOUR)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("level", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_enhancing_is_torchvisions(operation: str, sign: int, level: float, channels: int) -> None:
    images = pictures(channels=channels)
    expected = getattr(TV, f"adjust_{operation}")(bytes_of(images), 1 + sign * level * FULL.factor)
    assert_near(one(operation, images, level, sign), expected, 2.01)


@pytest.mark.parametrize("bits", range(8))
def test_posterize_is_torchvisions(bits: int) -> None:
    images = pictures()
    assert_near(posterize(images, full(images, bits)), TV.posterize(bytes_of(images), 8 - bits), 1e-3)
    resampled = images - 1e-5  # a rounding error is not a level less
    assert_near(posterize(resampled, full(images, bits)), TV.posterize(bytes_of(images), 8 - bits), 1e-2)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9])
def test_solarize_is_torchvisions(threshold: float) -> None:
    images = pictures()
    expected = TV.solarize(bytes_of(images), math.ceil(threshold * 256))
    assert_near(solarize(images, full(images, threshold)), expected, 1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_and_equalize_are_torchvisions(channels: int) -> None:
    images = pictures(channels=channels)
    assert_near(autocontrast(images), TV.autocontrast(bytes_of(images)))
    assert_near(equalize(images), TV.equalize(bytes_of(images)), 1e-3)
    assert_near(equalize(images[..., :10, :10]), TV.equalize(bytes_of(images[..., :10, :10])), 1e-3)  # too few pixels


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_image_stays_flat(value: float) -> None:
    flat = torch.full((4, 1, 28, 28), value)
    turned = one("rotate", flat, 0.7)  # leaves rounding errors, which must not become contrast
    for operation in ("autocontrast", "equalize", "contrast", "sharpness"):
        torch.testing.assert_close(one(operation, turned, 1.0), flat, atol=GREY_LEVEL, rtol=0)


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in ("autocontrast", "equalize")])
def test_level_zero_gives_the_image_back(operation: str) -> None:
    images = pictures()
    images[0] = 1.0
    images[1] = 0.0
    torch.testing.assert_close(one(operation, images, 0.0), images, atol=1e-5, rtol=0)


def test_levels_and_signs_of_the_geometric_operations() -> None:
    """Along a ramp, the change of x, the first channel, and of y, the second, says where each pixel was."""
    x = (torch.arange(28) + 0.5) / 28
    ramp = torch.stack([x.expand(28, 28), x[:, None].expand(28, 28)])[None]
    middle = (0, slice(None), slice(10, 18), slice(10, 18))

    def moved(operation: str, level: float, sign: int) -> Tensor:
        return (one(operation, ramp, level, sign, FULL._replace(shift=0.2)) - ramp)[middle]

    for sign in (-1, 1):
        for channel, axis in enumerate("xy"):
            shift = moved(f"translate_{axis}", 0.5, sign)
            torch.testing.assert_close(shift[channel], torch.full((8, 8), sign * 0.1), atol=1e-5, rtol=0)
            assert shift[1 - channel].abs().max() < 1e-5
            shear = moved(f"shear_{axis}", 0.5, sign)
            expected = (ramp[0, 1 - channel] - 0.5) * sign * 0.25
            torch.testing.assert_close(shear[channel], expected[10:18, 10:18], atol=1e-5, rtol=0)
            assert shear[1 - channel].abs().max() < 1e-5
    turned = one("rotate", ramp, 1.0, 1)  # by 90 degrees
    torch.testing.assert_close(turned[0, 0], 1 - ramp[0, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[0, 1], ramp[0, 0], atol=1e-5, rtol=0)


def every_operation(cases: int) -> Layer:
    """Operations by turns, at levels and signs of their own."""
    generator = torch.Generator().manual_seed(2)
    operations = torch.arange(cases).remainder(len(OPERATIONS)).view(-1, 1, 1, 1)
    signs = torch.randint(2, operations.shape, generator=generator) * 2 - 1
    return Layer(operations, torch.rand(operations.shape, generator=generator), signs)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mixed_batch_is_what_each_image_is_alone(channels: int) -> None:
    images, layer = pictures(42, channels), every_operation(42)
    out = apply_layer(images, layer, FULL)
    for case in range(42):
        own = Layer(*(numbers[case : case + 1] for numbers in layer))
        torch.testing.assert_close(apply_layer(images[case : case + 1], own, FULL), out[case : case + 1])


def test_devices_that_compute_all_for_all_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, layer = pictures(42), every_operation(42)
    chosen = apply_layer(images, layer, FULL)
    monkeypatch.setattr(policies, "CHOOSING", ())
    torch.testing.assert_close(apply_layer(images, layer, FULL), chosen)
    assert torch.equal(images, pictures(42))


def drawn(monkeypatch: pytest.MonkeyPatch, policy: RandAugment | TrivialAugment, images: Tensor) -> list[Layer]:
    """The layers of a policy on a batch."""
    layers: list[Layer] = []
    monkeypatch.setattr(policies, "apply_layer", lambda images, layer, limits: layers.append(layer) or images)
    apply_policy(policy, images, torch.Generator().manual_seed(0))
    return layers


def coloured(cases: int) -> Tensor:
    images = torch.zeros((cases, 3, 4, 4))
    images[:, 2, 1, 1] = 0.1
    return images


@pytest.mark.parametrize(
    ("images", "operations"),
    [(torch.zeros((6000, 1, 4, 4)), 13), (torch.zeros((6000, 3, 4, 4)), 13), (coloured(6000), 14)],
    ids=["greyscale", "greyscale in three channels", "colour"],
)
def test_randaugment_draws_layers_of_operations_and_signs_at_one_level(
    monkeypatch: pytest.MonkeyPatch, images: Tensor, operations: int
) -> None:
    layers = drawn(monkeypatch, RandAugment(ops=3, magnitude=0.4), images)
    assert len(layers) == 3
    for layer in layers:
        counts = torch.bincount(layer.operations.flatten(), minlength=14)
        assert (counts[:operations] / 6000 * operations - 1).abs().max() < 0.25 and counts[operations:].sum() == 0
        assert (layer.levels == 0.4).all()
        assert set(layer.signs.flatten().tolist()) == {-1, 1} and abs(layer.signs.float().mean().item()) < 0.05
    assert OPERATIONS[13] == "saturation"
    same = (layers[0].operations == layers[1].operations).float().mean().item()
    assert same == pytest.approx(1 / operations, abs=0.02)


def test_trivialaugment_draws_one_operation_at_any_of_31_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    (layer,) = drawn(monkeypatch, TrivialAugment(), coloured(6200))
    levels, counts = layer.levels.flatten().unique(return_counts=True)
    torch.testing.assert_close(levels, torch.linspace(0, 1, 31))
    assert (counts / 200 - 1).abs().max() < 0.3
    assert torch.bincount(layer.operations.flatten()).min() > 350


def test_the_strengths_are_the_published_ones() -> None:
    assert strongest(TrivialAugment(), 64) == Strongest(0.99, 0.5, 135, 0.99, 6)
    assert strongest(RandAugment(), 64) == strongest(RandAugment(), 28) == Strongest(0.3, 150 / 331, 30, 0.9, 4)


def test_no_policy_draws_nothing() -> None:
    generator, images = torch.Generator().manual_seed(0), pictures()
    before = generator.get_state()
    assert apply_policy(NoPolicy(), images, generator) is images
    assert torch.equal(generator.get_state(), before)


def test_tiny_images_go_through() -> None:
    for side in (1, 2, 3):
        out = apply_policy(RandAugment(ops=4), torch.rand((64, 3, side, side)), torch.Generator().manual_seed(0))
        assert out.isfinite().all()
