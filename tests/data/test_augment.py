"""Augmentation, read off images that tell where each of their pixels was: channel 0 is x, channel 1 is y."""

import math
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medtune.config.trial import Augment, RandAugment, TrivialAugment
from medtune.data.augment import BLURRED, ERASED_AREA, YIQ, Augmenter
from medtune.data.mixing import mix
from medtune.data.policies import OPERATIONS, Layer, apply_layer, strongest

SIDE = 32
CENTRE = slice(SIDE // 2 - 4, SIDE // 2 + 4)  # far from what is reflected at the borders

EACH: list[dict[str, Any]] = [
    {"flip": True},
    {"flip_vertical": True},
    {"rotate_degrees": 30.0},
    {"shift": 0.2},
    {"crop": 0.3},
    {"brightness": 0.5},
    {"contrast": 0.5},
    {"saturation": 0.5},
    {"hue": 0.3},
    {"grey": 0.5},
    {"blur": 0.7},
    {"noise": 0.1},
    {"erase": 0.5},
    {"policy": RandAugment(ops=2, magnitude=0.6)},
    {"policy": TrivialAugment()},
    {"mixup": 0.4},
    {"cutmix": 1.0},
]
ALL = {name: value for option in EACH for name, value in option.items()}

Change = Callable[[Tensor, torch.Generator], Tensor]


def by(options: dict[str, Any]) -> Change:
    """The whole augmentation of a configuration, as a training step does it."""
    config = Augment(**options)

    def change(images: Tensor, generator: torch.Generator) -> Tensor:
        images = Augmenter(config, generator)(images)
        return mix(config, images, torch.ones((len(images), 1)), generator)[0]

    return change


def alone(operation: str) -> Change:
    """One operation of the policies on every image, at levels and signs that are drawn."""

    def change(images: Tensor, generator: torch.Generator) -> Tensor:
        levels = torch.rand((len(images), 1, 1, 1), generator=generator)
        signs = torch.randint(2, levels.shape, generator=generator) * 2 - 1
        layer = Layer(torch.full(levels.shape, OPERATIONS.index(operation)), levels, signs)
        return apply_layer(images, layer, strongest(TrivialAugment(), images.shape[3]))

    return change


def name_of(options: dict[str, Any]) -> str:
    ((name, value),) = options.items()
    return value.name if name == "policy" else name


CHANGES = {name_of(options): by(options) for options in EACH}
CHANGES |= {f"policy_{operation}": alone(operation) for operation in OPERATIONS}
CHANGES |= {"all": by(ALL), "both_mixes": by({"mixup": 0.4, "cutmix": 1.0})}
WITHOUT_NUMBERS = {"policy_identity", "policy_autocontrast", "policy_equalize"}  # the image alone decides
FEW_RESULTS = {
    "flip": 2,
    "flip_vertical": 2,
    "grey": 2,
    "policy_posterize": 5,
    "erase": 5,
    "blur": 5,
}  # at least, of 16 equal images
FEW_RESULTS |= {"randaugment": 8, "trivialaugment": 8}  # some draw the same operation without numbers
MIXES = {"mixup", "cutmix", "both_mixes"}  # equal images are still equal when they are mixed
COLOUR_ONLY = {"saturation", "hue", "grey", "policy_saturation"}

every_change = pytest.mark.parametrize("name", CHANGES)
channels_and_size = pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 28), (1, 64), (3, 64)])


def augment(images: Tensor, seed: int = 0, **options: Any) -> Tensor:
    return Augmenter(Augment(**options), torch.Generator().manual_seed(seed))(images)


def changed(name: str, images: Tensor, seed: int = 0) -> Tensor:
    return CHANGES[name](images, torch.Generator().manual_seed(seed))


def noise(cases: int, channels: int = 3, low: float = 0, high: float = 1, side: int = SIDE) -> Tensor:
    """Random images, channels last in memory as batches are."""
    shape = (cases, side, side, channels)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) * (high - low) + low).permute(0, 3, 1, 2)


def coordinates(cases: int) -> Tensor:
    """x, y and one half, x and y from 0 to 1."""
    x = (torch.arange(SIDE) + 0.5) / SIDE
    rows, columns = torch.meshgrid(x, x, indexing="ij")
    return torch.stack([columns, rows, torch.full_like(rows, 0.5)]).expand(cases, 3, SIDE, SIDE).clone()


def jacobian(images: Tensor) -> Tensor:
    """Of each augmented `coordinates`: how x and y of the source go along the columns and the rows, (cases, 2, 2)."""
    middle = images[:, :2, CENTRE, CENTRE] * SIDE
    along_columns = (middle[..., -1] - middle[..., 0]).mean(dim=2) / 7
    along_rows = (middle[..., -1, :] - middle[..., 0, :]).mean(dim=2) / 7
    return torch.stack([along_columns, along_rows], dim=2)


def middle(images: Tensor) -> Tensor:
    """Of each augmented `coordinates`: x and y of the source of the image's centre, (cases, 2)."""
    return images[:, :2, SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1].mean(dim=(2, 3))


def shades(images: Tensor) -> Tensor:
    """The brightness of colours, (cases, 1, height, width), as ITU-R BT.601 has it."""
    return (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def colours(images: Tensor) -> Tensor:
    """The other two coordinates of YIQ, (cases, 2, height, width)."""
    return torch.einsum("cj,njhw->nchw", YIQ[1:], images)


def test_the_default_is_the_identity_and_takes_no_number() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    images = noise(4)
    assert torch.equal(Augmenter(Augment(), generator)(images), noise(4))
    assert torch.equal(generator.get_state(), before)


def test_every_option_is_tried_here() -> None:
    assert set(ALL) == set(Augment.model_fields)


def test_the_policy_comes_before_what_is_erased() -> None:
    out = augment(noise(64, low=0.6), erase=1.0, policy=RandAugment(ops=2, magnitude=1.0))
    assert ((out == 0.5).float().mean(dim=(1, 2, 3)) > 0.01).all()


def same_for_every_draw(name: str, channels: int) -> bool:
    return name in WITHOUT_NUMBERS or (channels == 1 and name in COLOUR_ONLY)


@every_change
@channels_and_size
def test_shape_range_dtype_and_layout_are_kept_and_the_input_is_left_alone(name: str, channels: int, size: int) -> None:
    images = noise(16, channels, side=size).round()  # black and white: whatever leaves the range is seen
    images[:, :, ::2] = noise(16, channels, side=size)[:, :, ::2]
    before = images.clone()
    out = changed(name, images)
    assert (out.shape, out.dtype) == (images.shape, torch.float32)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out.min() >= -1e-6 and out.max() <= 1 + 1e-6
    assert torch.equal(images, before)


@every_change
def test_each_is_switched_on_by_its_own_flag(name: str) -> None:
    images = noise(16, low=0.2, high=0.8)
    assert torch.equal(changed(name, images), images) == (name == "policy_identity")


@every_change
def test_layout_does_not_change_the_numbers(name: str) -> None:
    images = noise(16)
    out = changed(name, images.contiguous())
    assert out.is_contiguous()
    torch.testing.assert_close(changed(name, images), out, atol=2 / 255, rtol=0)


@every_change
@channels_and_size
def test_every_image_of_a_batch_draws_its_own_numbers(name: str, channels: int, size: int) -> None:
    out = changed(name, noise(1, channels, side=size).expand(16, -1, -1, -1).clone())
    if same_for_every_draw(name, channels) or name in MIXES:
        torch.testing.assert_close(out, out[:1].expand_as(out), atol=1e-6, rtol=0)
    else:
        assert len({image.numpy().tobytes() for image in out}) >= FEW_RESULTS.get(name, 16)


@every_change
@channels_and_size
def test_the_generator_alone_decides(name: str, channels: int, size: int) -> None:
    images = noise(16, channels, side=size)
    out = changed(name, images, seed=3)
    torch.manual_seed(99)
    assert torch.equal(changed(name, images, seed=3), out)
    assert torch.equal(changed(name, images, seed=4), out) == same_for_every_draw(name, channels)


def test_global_random_state_is_left_alone() -> None:
    def state() -> bytes:
        return pickle.dumps((torch.get_rng_state().tolist(), np.random.get_state(), random.getstate()))

    before = state()
    changed("all", noise(8))
    assert state() == before


@pytest.mark.parametrize(("option", "dim"), [("flip", 3), ("flip_vertical", 2)])
def test_flips_are_exact_and_of_half_of_the_images(option: str, dim: int) -> None:
    images = noise(200)
    out = augment(images, **{option: True})
    flipped = (out == images.flip(dim)).all(dim=(1, 2, 3))
    assert (flipped | (out == images).all(dim=(1, 2, 3))).all()
    assert flipped.float().mean().item() == pytest.approx(0.5, abs=0.12)


def test_rotation_is_about_the_centre_and_uniform_up_to_its_degrees() -> None:
    out = augment(coordinates(300), rotate_degrees=40.0)
    turned = jacobian(out)
    angle = torch.atan2(turned[:, 1, 0], turned[:, 0, 0])
    expected = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], dim=1)
    torch.testing.assert_close(turned.flatten(1), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(middle(out), torch.full((300, 2), 0.5), atol=1e-5, rtol=0)
    degrees = angle * 180 / math.pi
    assert 36 < degrees.max() <= 40.01 and -40.01 <= degrees.min() < -36
    assert degrees.std().item() == pytest.approx(40 / math.sqrt(3), rel=0.1)


def test_shift_is_a_fraction_of_the_side_either_way_along_both_axes() -> None:
    out = augment(coordinates(300), shift=0.25)
    torch.testing.assert_close(jacobian(out), torch.eye(2).expand(300, 2, 2), atol=1e-4, rtol=0)
    moved = middle(out) - 0.5
    assert (moved.max(dim=0).values > 0.23).all() and (moved.min(dim=0).values < -0.23).all()
    assert moved.abs().max() <= 0.2501
    assert moved.std(dim=0).tolist() == pytest.approx([0.25 / math.sqrt(3)] * 2, rel=0.1)
    assert abs(torch.corrcoef(moved.T)[0, 1].item()) < 0.2


def test_what_comes_in_from_outside_is_the_mirrored_image_and_not_black() -> None:
    white = torch.ones((16, 1, SIDE, SIDE))
    torch.testing.assert_close(augment(white, rotate_degrees=180.0, shift=0.5, crop=0.3), white)


def test_crop_is_a_square_window_anywhere_inside_the_image() -> None:
    out = augment(coordinates(300), crop=0.4)
    scale = jacobian(out)
    side = scale[:, 0, 0]
    torch.testing.assert_close(scale, side[:, None, None] * torch.eye(2), atol=1e-4, rtol=0)
    assert 0.6 - 1e-3 <= side.min() < 0.63 and 0.97 < side.max() <= 1 + 1e-3
    reach = (middle(out) - 0.5).abs() + side[:, None] / 2
    assert reach.max() <= 0.5 + 1e-3
    assert (reach > 0.48).any(dim=0).all()  # windows touch the borders, too


def test_flips_beside_a_rotation_mirror_half_of_the_images_along_each_axis() -> None:
    for options, axes in [({"flip": True}, [True, False]), ({"flip": True, "flip_vertical": True}, [True, True])]:
        turned = jacobian(augment(coordinates(300), rotate_degrees=10.0, **options))
        for axis, mirrored in enumerate(axes):
            share = (turned[:, axis, axis] < 0).float().mean().item()
            assert share == (pytest.approx(0.5, abs=0.1) if mirrored else 0)


def test_brightness_multiplies_all_pixels_of_an_image() -> None:
    images = noise(200, low=0.1, high=0.6)
    factor = augment(images, brightness=0.5) / images
    torch.testing.assert_close(factor.amax(dim=(1, 2, 3)), factor.amin(dim=(1, 2, 3)))
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5 + 1e-5


def test_contrast_stretches_about_the_mean_of_an_image() -> None:
    images = noise(200, low=0.3, high=0.7)
    out = augment(images, contrast=0.5)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(out.mean(dim=(1, 2, 3), keepdim=True), mean)
    factor = ((out - mean).flatten(1).norm(dim=1) / (images - mean).flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    torch.testing.assert_close(out, mean + (images - mean) * factor)
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5 + 1e-5


def test_saturation_mixes_with_the_grey_that_it_keeps() -> None:
    images = noise(50, low=0.3, high=0.7)
    out = augment(images, saturation=0.5)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey, grey_out = ((picture * weights).sum(dim=1, keepdim=True) for picture in (images, out))
    torch.testing.assert_close(grey_out, grey)
    factor = ((out - grey).flatten(1).norm(dim=1) / (images - grey).flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    torch.testing.assert_close(out, grey + (images - grey) * factor)
    assert 0.5 <= factor.min() < 0.6 and 1.4 < factor.max() <= 1.5 + 1e-4


def test_saturation_leaves_grey_pictures_alone() -> None:
    assert torch.equal(augment(noise(8, channels=1), saturation=1.0), noise(8, channels=1))
    grey = noise(8, channels=1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(augment(grey, saturation=1.0), grey)


def test_hue_turns_the_colours_and_keeps_the_brightness() -> None:
    images = noise(400, low=0.4, high=0.6)  # so that nothing is cut at black or white
    out = augment(images, hue=0.25)
    torch.testing.assert_close(shades(out), shades(images), atol=1e-5, rtol=0)
    before, after = colours(images), colours(out)
    torch.testing.assert_close(after.norm(dim=1), before.norm(dim=1), atol=1e-4, rtol=0)
    angle = torch.atan2(after[:, 1], after[:, 0]) - torch.atan2(before[:, 1], before[:, 0])
    turned = torch.remainder(angle / (2 * math.pi) + 0.5, 1) - 0.5
    strong = before.norm(dim=1) > 0.03  # weak colours have no direction to speak of
    each = torch.stack([one[where].median() for one, where in zip(turned, strong, strict=True)])
    assert ((turned - each[:, None, None]).abs()[strong] < 1e-2).all()  # all pixels of an image by the same
    assert each.abs().max() <= 0.2501 and each.max() > 0.23 and each.min() < -0.23
    assert each.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.1)


def test_a_whole_turn_of_the_hue_goes_through_the_other_primaries() -> None:
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(500, 3, 4, 4).contiguous()
    strongest_of = augment(red, hue=0.5)[:, :, 0, 0].argmax(dim=1)
    assert torch.bincount(strongest_of, minlength=3).min() > 100


def test_grey_takes_the_colours_of_a_share_of_the_images() -> None:
    images = noise(1000)
    out = augment(images, grey=0.3)
    without = (out == out[:, :1]).all(dim=(1, 2, 3))
    assert without.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(out[~without], images[~without])
    torch.testing.assert_close(out[without], shades(images[without]).expand(-1, 3, -1, -1))


def test_hue_and_grey_leave_greyscale_alone_and_draw_no_number_for_it() -> None:
    images = noise(8, channels=1)
    assert torch.equal(augment(images, hue=0.5, grey=1.0), images)
    assert torch.equal(augment(images, hue=0.5, grey=0.5, blur=0.5, noise=0.1), augment(images, blur=0.5, noise=0.1))
    thrice = images.expand(-1, 3, -1, -1)  # as a model of three channels sees it
    torch.testing.assert_close(augment(thrice, hue=0.5, grey=0.5), thrice, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_smooths_a_share_of_the_images_each_by_its_own_amount(channels: int) -> None:
    images = noise(1000, channels)
    out = augment(images, blur=0.4)
    touched = (out != images).any(dim=3).any(dim=2).any(dim=1)
    assert touched.float().mean().item() == pytest.approx(0.4, abs=0.05)
    left = (out[touched].flatten(1).std(dim=1) / images[touched].flatten(1).std(dim=1)).sort().values
    assert left[-1] <= 1 and left[-1] > 0.95 and left[0] < 0.35
    assert (left.diff() > 0).all()


@pytest.mark.parametrize("side", [28, 64])
def test_blur_keeps_the_mean_and_spreads_evenly(side: int) -> None:
    dot = torch.zeros((64, 1, side, side))
    dot[:, :, side // 2, side // 2] = 1
    out = augment(dot, blur=1.0)
    torch.testing.assert_close(out.sum(dim=(1, 2, 3)), torch.ones(64))  # far from the border
    window = out[:, :, 1:, 1:]  # about the dot, where the side is even
    for turned in (window.flip(2), window.flip(3), window.transpose(2, 3)):
        torch.testing.assert_close(turned, window)
    steps = torch.arange(side) - side // 2
    blurred = out[out[:, 0, side // 2, side // 2].argmin(), 0]
    widest = max(1.0, BLURRED * side)
    assert 0.7 * widest < math.sqrt((blurred.sum(dim=0) * steps**2).sum()) <= widest
    even = torch.full((4, 3, side, side), 0.3)
    torch.testing.assert_close(augment(even, blur=1.0), even)
    assert (
        augment(noise(64, side=side), blur=1.0).mean(dim=(2, 3)) - noise(64, side=side).mean(dim=(2, 3))
    ).abs().max() < 0.02


def test_noise_has_the_asked_deviation_and_is_drawn_for_every_pixel() -> None:
    added = augment(torch.full((20, 3, SIDE, SIDE), 0.5), noise=0.05) - 0.5
    assert added.std().item() == pytest.approx(0.05, rel=0.02)
    assert added.mean().item() == pytest.approx(0, abs=0.001)
    assert abs(torch.corrcoef(added.flatten(2).transpose(0, 1).flatten(1))[0, 1].item()) < 0.05


@pytest.mark.parametrize("channels", [1, 3])
def test_erasing_takes_a_grey_rectangle_out_of_a_share_of_the_images(channels: int) -> None:
    images = noise(4000, channels, low=0.6)
    out = augment(images, erase=0.4)
    changed = out != images
    assert (out[changed] == 0.5).all()
    touched = changed.any(dim=(1, 2, 3))
    assert touched.float().mean().item() == pytest.approx(0.4, abs=0.04)
    for mask in changed[touched]:
        rows, columns = mask[0].any(dim=1), mask[0].any(dim=0)
        assert torch.equal(mask, (rows[:, None] & columns).expand(channels, -1, -1))
    areas = changed[touched].float().mean(dim=(1, 2, 3))
    assert areas.max().item() <= ERASED_AREA[1] + 2 / SIDE
    assert areas.mean().item() == pytest.approx(sum(ERASED_AREA) / 2, abs=0.03)
    for side_of in (changed[touched][:, 0].any(dim=1), changed[touched][:, 0].any(dim=2)):  # columns, then rows
        narrow = side_of[side_of.sum(dim=1) < SIDE / 3].float().mean(dim=0)
        assert narrow[:2].sum() > 0 and narrow[-2:].sum() > 0  # small ones are anywhere, up to either border
        assert narrow[: SIDE // 2].sum().item() == pytest.approx(narrow[SIDE // 2 :].sum().item(), rel=0.3)
