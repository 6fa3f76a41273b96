import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import rotate

from medtune.data import twins
from medtune.data.phantoms import make_phantom
from medtune.data.twins import exact_twins, near_twins, perceptual_hash, small_grey

BREAST = Path(__file__).parents[3] / "shared" / "data" / "breastmnist.npz"
Change = Callable[[np.ndarray], np.ndarray]


def pairs_of(images: np.ndarray) -> set[tuple[int, int]]:
    found = near_twins(small_grey(images))
    return {(int(a), int(b)) for a, b in zip(found.first, found.second, strict=True)}


def in_black(degrees: float) -> Change:
    return lambda image: np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def with_edges(degrees: float) -> Change:
    return lambda image: rotate(image, degrees, reshape=False, order=1, mode="nearest")


def brighter(factor: float) -> Change:
    return lambda image: np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "5 degrees in black": in_black(5),
    "-5 degrees in black": in_black(-5),
    "5 degrees": with_edges(5),
    "-5 degrees": with_edges(-5),
    "1 degree": with_edges(1),
    "-3.7 degrees": with_edges(-3.7),
    "brighter": brighter(1.1),
    "darker": brighter(0.9),
    "turned and darker": lambda image: brighter(0.9)(in_black(5)(image)),
}


class TestExact:
    def test_groups_of_identical_pixels(self) -> None:
        images = list(np.random.default_rng(0).integers(0, 256, (6, 4, 4), np.uint8))
        images += [images[4], images[1], images[4]]
        assert exact_twins(images) == [[1, 7], [4, 6, 8]]

    def test_one_value_of_one_pixel_makes_another_image(self) -> None:
        image = np.full((4, 4), 7, np.uint8)
        other = image.copy()
        other[3, 3] = 8
        assert exact_twins([image, other, image.reshape(2, 8)]) == []


class TestNear:
    @pytest.mark.parametrize("change", CHANGES)
    def test_planted_twins_of_a_phantom_are_found_and_no_more(self, change: str) -> None:
        images = make_phantom("binary", "val").images
        planted = np.stack([CHANGES[change](image) for image in images[:20]])
        assert pairs_of(np.concatenate([images, planted])) == {(case, 120 + case) for case in range(20)}

    @pytest.mark.skipif(not BREAST.exists(), reason="breastmnist.npz is not there")
    @pytest.mark.parametrize("change", CHANGES)
    def test_every_planted_twin_of_breastmnist_is_found(self, change: str) -> None:
        with np.load(BREAST, allow_pickle=False) as file:
            images = np.concatenate([file[f"{split}_images"] for split in ("train", "val", "test")])
        planted = np.stack([CHANGES[change](image) for image in images[::6]])
        found = pairs_of(np.concatenate([images, planted]))
        assert {(case, len(images) + place) for place, case in enumerate(range(0, len(images), 6))} <= found
        own = {(a, b) for a, b in found if b < len(images)}  # real ones: the same scan twice
        assert 150 <= len(own) <= 220

    def test_of_images_moved_by_a_pixel_more_than_half_are_found(self) -> None:
        images = make_phantom("binary", "val").images
        found = pairs_of(np.concatenate([images, np.roll(images, 1, axis=2)]))
        assert len(found) > 60 and all(b == a + 120 for a, b in found)

    def test_colour_and_another_size(self) -> None:
        grey = make_phantom("binary", "val", size=64, cases=30).images
        images = np.stack([grey, 255 - grey, grey // 2], axis=-1)
        planted = np.stack([in_black(4)(image) for image in images[:10]])
        assert pairs_of(np.concatenate([images, planted])) == {(case, 30 + case) for case in range(10)}

    def test_what_shows_nothing_is_nobodys_twin(self) -> None:
        images = np.concatenate([np.full((5, 28, 28), 90, np.uint8), make_phantom("binary", "val", cases=5).images])
        assert pairs_of(images) == set() and pairs_of(images[:0]) == set()

    def test_a_mirrored_image_is_another(self) -> None:
        images = make_phantom("binary", "val").images[:30]
        assert pairs_of(np.concatenate([images, images[:, :, ::-1]])) == set()

    def test_of_too_many_candidates_the_nearest_are_compared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        images = make_phantom("binary", "val").images
        small = small_grey(np.concatenate([images, images[:3]]))
        monkeypatch.setattr(twins, "BLOCK", 32)
        everything = near_twins(small)
        monkeypatch.setattr(twins, "MOST", 3)
        few = near_twins(small)
        assert everything.reach == twins.REACH and everything.compared > 3
        assert few.reach < twins.REACH and few.compared == 3 and len(few) == len(everything) == 3

    def test_the_hash_knows_no_brightness_and_has_half_its_bits(self) -> None:
        small = small_grey(make_phantom("binary", "val").images)
        assert (perceptual_hash(small) == perceptual_hash(small * 0.5 + 20)).mean() > 0.95
        assert (np.bitwise_count(perceptual_hash(small)) == 32).all()

    @pytest.mark.slow
    def test_ten_thousand_images_within_a_minute(self) -> None:
        images = make_phantom("binary", "train", cases=10_000).images
        start = time.monotonic()
        assert pairs_of(np.concatenate([images, images[:5]])) == {(case, 10_000 + case) for case in range(5)}
        assert time.monotonic() - start < 60
