from collections.abc import Callable

import numpy as np
import pytest
import torch

from medtune.data import Split
from medtune.data.batches import DeviceSplit, to_device
from medtune.inspection import corruptions
from medtune.inspection.corruptions import NAMES, PARAMETERS, STRENGTHS, corrupted, mean_degradation, robustness
from medtune.models.classifier import Classifier
from medtune.training.loop import predict_logits

Build, MakeSplit = Callable[..., Classifier], Callable[..., DeviceSplit]

every_name = pytest.mark.parametrize("name", NAMES)
every_kind = pytest.mark.parametrize("channels", [1, 3])


def blobs(cases: int = 16, channels: int = 1, size: int = 28) -> np.ndarray:
    """Smooth images in which no pixel is black or white."""
    down, across = np.mgrid[:size, :size] / size * 2 * np.pi
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (cases, 2, 1, 1, channels))
    waves = np.sin(2 * down[..., None] + phases[:, 0]) * np.sin(across[..., None] + phases[:, 1])
    images = (128 + 70 * waves).astype(np.uint8)
    return images[..., 0] if channels == 1 else images


def worse(images: np.ndarray, name: str, strength: int, seed: int = 0) -> np.ndarray:
    return corrupted(images, name, strength, np.random.default_rng(seed))


def damage(images: np.ndarray, name: str, strength: int) -> float:
    return float(np.square(worse(images, name, strength).astype(float) - images).mean())


@every_name
@every_kind
@pytest.mark.parametrize("size", [28, 64])
def test_damage_grows_with_the_strength(name: str, channels: int, size: int) -> None:
    damages = [damage(blobs(16, channels, size), name, strength) for strength in STRENGTHS]
    assert damages[0] > 0 and (np.diff(damages) > 0).all()


@every_name
@every_kind
def test_it_is_a_copy_of_the_same_kind_by_the_generator_alone(
    name: str, channels: int, global_randomness: Callable[[], bytes]
) -> None:
    images = blobs(16, channels)
    before, kept = global_randomness(), images.copy()
    first, second, other = (worse(images, name, 3, seed) for seed in (0, 0, 1))
    assert first.dtype == np.uint8 and first.shape == images.shape
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(images, kept)
    assert global_randomness() == before
    assert np.array_equal(first, other) == (name in ("blur", "contrast", "jpeg"))  # the others draw


@pytest.mark.parametrize("name", ["noise", "brightness", "rotation"])
def test_what_is_random_is_drawn_for_each_case(name: str) -> None:
    images = np.repeat(blobs(1), 16, axis=0)
    kinds = len({image.tobytes() for image in worse(images, name, 3)})
    assert kinds == (16 if name == "noise" else 2)


@every_name
def test_a_case_is_the_same_whatever_comes_after_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "CASES_AT_ONCE", 4)
    images = blobs(10)
    np.testing.assert_array_equal(worse(images, name, 2)[:4], worse(images[:4], name, 2))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_noise_has_its_standard_deviation(strength: int) -> None:
    grey = np.full((40, 28, 28), 128, np.uint8)
    noise = worse(grey, "noise", strength).astype(float) - 128
    clipped = np.random.default_rng(1).normal(0, PARAMETERS["noise"][strength - 1] * 255, 10**6).clip(-128, 127)
    assert noise.std() == pytest.approx(clipped.std(), rel=0.02) and abs(noise.mean()) < 1


def test_blur_is_as_wide_as_a_fraction_of_the_side() -> None:
    for size in (28, 112):
        point = np.zeros((1, size, size), np.uint8)
        point[0, size // 2, size // 2] = 255
        spread = worse(point, "blur", 5)[0].astype(float)
        places = np.arange(size) - size // 2
        deviation = np.sqrt((spread.sum(axis=0) * places**2).sum() / spread.sum())
        if size == 28:  # at 112 px what is left of a point is rounded away
            assert deviation == pytest.approx(0.07 * size, rel=0.1)
    edge = np.zeros((1, 112, 112), np.uint8)
    edge[:, :, 56:] = 200
    slope = np.diff(worse(edge, "blur", 3)[0, 56].astype(float))
    assert slope.max() == pytest.approx(200 / (np.sqrt(2 * np.pi) * 0.04 * 112), rel=0.05)
    np.testing.assert_array_equal(worse(edge.swapaxes(1, 2), "blur", 3).swapaxes(1, 2), worse(edge, "blur", 3))


def test_contrast_and_brightness_do_what_their_numbers_say() -> None:
    images = blobs(16, 3)
    flatter, mean = worse(images, "contrast", 2).astype(float), images.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(flatter, mean + (images - mean) * 0.5, atol=0.5001)
    change = worse(images, "brightness", 1).astype(float) - images
    per_case = np.unique(change.reshape(16, -1), axis=1)
    assert per_case.shape == (16, 1) and set(per_case[:, 0]) == {-13, 13}  # 0.05 of 255, rounded


def test_rotation_turns_about_the_middle_by_its_degrees() -> None:
    bar = np.zeros((8, 28, 28), np.uint8)
    bar[:, 12:16] = 255
    angles = []
    for turned in worse(bar, "rotation", 5)[:, 4:24, 4:24].astype(float):
        down, across = np.mgrid[-9.5:10, -9.5:10]
        centred = turned / turned.sum()
        covariance = [[(centred * a * b).sum() for b in (across, down)] for a in (across, down)]
        _, vectors = np.linalg.eigh(covariance)
        angles.append(np.degrees(np.arctan(vectors[1, 1] / vectors[0, 1])))
    np.testing.assert_allclose(np.abs(angles), 30, atol=2)
    assert len(set(np.sign(angles))) == 2


def test_draws_are_the_same_at_every_strength() -> None:
    images = blobs()
    signs = [np.sign(worse(images, "brightness", strength).astype(int) - images)[:, 14, 14] for strength in STRENGTHS]
    assert (signs == signs[0]).all()


@pytest.mark.parametrize(
    ("images", "name", "strength"),
    [
        (blobs(), "fog", 1),
        (blobs(), "noise", 0),
        (blobs(), "noise", 6),
        (blobs().astype(float), "noise", 1),
        (blobs()[0], "noise", 1),
        (blobs()[..., None], "noise", 1),
    ],
)
def test_what_is_not_known_is_refused(images: np.ndarray, name: str, strength: int) -> None:
    with pytest.raises(ValueError, match="known|is needed"):
        worse(images, name, strength)


@pytest.mark.parametrize(("channels", "rgb"), [(1, False), (1, True), (3, False)])
def test_robustness_is_the_prediction_on_corrupted_images(
    build: Build, make_split: MakeSplit, full: torch.autocast, channels: int, rgb: bool
) -> None:
    split = make_split(channels=channels, rgb=rgb)
    model = build(channels=split.channels)
    found = list(robustness(model, split, full, seed=3))
    assert [(one.name, one.strength) for one in found] == [(name, s) for name in NAMES for s in STRENGTHS]
    assert all(one.logits.shape == (12, 3) and one.logits.dtype == np.float32 for one in found)
    blurred = corrupted(split.images.numpy().squeeze(), "blur", 2, np.random.default_rng(0))
    by_hand = predict_logits(model, to_device(Split(blurred, split.labels.numpy()), "cpu", rgb), full)
    np.testing.assert_array_equal(found[NAMES.index("blur") * 5 + 1].logits, by_hand)
    (again, *_) = robustness(model, split, full, seed=3, names=["noise"])
    np.testing.assert_array_equal(again.logits, found[0].logits)
    (other, *_) = robustness(model, split, full, seed=4, names=["noise"])
    assert not np.array_equal(other.logits, found[0].logits)


def test_robustness_of_a_part_of_a_split(build: Build, make_split: MakeSplit, full: torch.autocast) -> None:
    split, cases = make_split(), torch.tensor([7, 2, 3])
    (whole, *_), (part, *_) = (robustness(build(), one, full, 0, ["jpeg"]) for one in (split, split.part(cases)))
    np.testing.assert_allclose(part.logits, whole.logits[cases], atol=1e-6)


def test_mean_degradation() -> None:
    assert mean_degradation(0.9, {"noise": [0.8, 0.6], "blur": [0.9, 0.9]}) == pytest.approx(0.1)
    assert mean_degradation(0.9, {"noise": [0.95]}) == pytest.approx(-0.05)
    for clean, aurocs in ((0.9, {}), (float("nan"), {"noise": [0.8]}), (0.9, {"noise": [float("nan")]})):
        with pytest.raises(ValueError, match="undefined"):
            mean_degradation(clean, aurocs)
