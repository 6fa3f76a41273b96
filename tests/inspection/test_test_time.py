from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor, nn

from medtune.data.batches import DeviceSplit
from medtune.inspection.test_time import DEFAULT, FLIP, FLIP_VERTICAL, IDENTITY, View, test_time_logits
from medtune.models.classifier import Classifier
from medtune.training.loop import predict_logits

Build, MakeSplit = Callable[..., Classifier], Callable[..., DeviceSplit]


@pytest.fixture
def images(make_split: MakeSplit) -> Tensor:
    return make_split(channels=3).batch(slice(None))[0]


def test_the_image_as_it_is_and_its_mirror_images(images: Tensor) -> None:
    assert IDENTITY(images) is images
    assert torch.equal(FLIP(images), images.flip(3)) and torch.equal(FLIP_VERTICAL(images), images.flip(2))


def test_a_shift_is_by_whole_pixels(images: Tensor) -> None:
    moved = View("", right=2 / 28, down=-3 / 28)(images)
    torch.testing.assert_close(moved[..., :-3, 2:], images[..., 3:, :-2], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., :-3, :2], images[..., 3:, :2].flip(3), atol=1e-5, rtol=0)  # mirrored outside


@pytest.mark.parametrize("degrees", [10.0, -10.0, 90.0])
def test_a_rotation_is_that_of_torchvision(images: Tensor, degrees: float) -> None:
    theirs = TF.rotate(images, -degrees, TF.InterpolationMode.BILINEAR)  # against the clock
    inside = (..., slice(7, 21), slice(7, 21))
    torch.testing.assert_close(View("", degrees=degrees)(images)[inside], theirs[inside], atol=1e-4, rtol=0)


def test_a_shift_goes_along_the_picture_also_when_turned(images: Tensor) -> None:
    both = View("", degrees=90, right=2 / 28)(images)
    one_by_one = View("", right=2 / 28)(View("", degrees=90)(images))
    torch.testing.assert_close(both[..., 2:], one_by_one[..., 2:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("view", [*DEFAULT, FLIP_VERTICAL], ids=lambda view: view.name)
def test_views_keep_range_and_layout(images: Tensor, view: View) -> None:
    seen = view(images)
    assert seen.shape == images.shape and seen.dtype == torch.float32 and seen.min() >= 0 and seen.max() <= 1
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert (view == IDENTITY) == torch.equal(seen, images)


def test_the_default_is_symmetric() -> None:
    assert len({view.name for view in DEFAULT}) == len(DEFAULT) == 8
    assert DEFAULT[0] == IDENTITY and not any(view.flip_vertical for view in DEFAULT)
    for name in ("degrees", "right", "down"):
        assert sum(getattr(view, name) for view in DEFAULT) == 0


@pytest.mark.parametrize("bfloat16", [False, True])
def test_each_member_is_the_prediction_of_its_view(build: Build, make_split: MakeSplit, bfloat16: bool) -> None:
    model, split, autocast = build(), make_split(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
    logits = test_time_logits(model, split, autocast)
    assert logits.shape == (8, 12, 3) and logits.dtype == np.float32
    np.testing.assert_array_equal(logits[0], predict_logits(model, split, autocast))
    mirrored = DeviceSplit(split.images.flip(2), split.labels)
    np.testing.assert_array_equal(logits[1], predict_logits(model, mirrored, autocast))
    assert len({one.tobytes() for one in logits}) == 8


def test_it_is_the_same_every_time_and_touches_no_randomness(
    build: Build, make_split: MakeSplit, full: torch.autocast, global_randomness: Callable[[], bytes]
) -> None:
    model, split = build(dropout=0.5).train(), make_split()
    before = global_randomness()
    first, second = (test_time_logits(model, split, full) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert global_randomness() == before and not model.training


def test_a_model_that_knows_the_symmetry_sees_no_difference(make_split: MakeSplit, full: torch.autocast) -> None:
    blind = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3))
    first, second, third = test_time_logits(blind, make_split(), full, (IDENTITY, FLIP, FLIP_VERTICAL))
    np.testing.assert_allclose(first, second, atol=1e-6)
    np.testing.assert_allclose(first, third, atol=1e-6)


def test_no_view_is_refused(build: Build, make_split: MakeSplit, full: torch.autocast) -> None:
    with pytest.raises(ValueError, match="needs a view"):
        test_time_logits(build(), make_split(), full, ())
