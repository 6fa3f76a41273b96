from dataclasses import fields

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medtune.config.pretrain import Views
from medtune.config.sweep import Data
from medtune.data import SPLITS, Split, phantoms, texture_phantom
from medtune.data.augment import Augmenter
from medtune.data.batches import to_device
from medtune.data.phantoms import best_auroc, make_phantom, mean_distance
from medtune.data.splits import data_md5, load_sealed_test, load_search_splits
from medtune.data.texture_phantom import Textures, directions, draw_textures, render

DISTANCE = mean_distance("texture", 0.5)


def read_z(images: np.ndarray, distance: float) -> np.ndarray:
    """z as somebody reads it who knows nothing of a picture but its pixels: from the power in either direction."""
    size = images.shape[-1]
    waves, wedges = directions(size)
    twice = np.full(waves.shape, 2.0)  # rfft2 leaves out the mirrored half
    twice[:, 0] = 1
    if size % 2 == 0:
        twice[:, -1] = 1
    seen = twice * wedges * (waves <= 12)
    power = np.abs(np.fft.rfft2(images.astype(float))) ** 2
    power = np.einsum("nij,dij->nd", power, seen) - texture_phantom.NOISE**2 * size**2 * seen.sum(axis=(1, 2))
    across, down = np.sqrt(np.maximum(power, 0)).T
    return (np.arctan2(down, across) * 4 / np.pi - 1) * texture_phantom.z_range(distance)


def drawn(cases: int, size: int = 28, seed: int = 0) -> tuple[Textures, np.ndarray]:
    rng = np.random.default_rng(seed)
    textures = draw_textures(DISTANCE, cases, rng)
    return textures, render(textures, size, rng)


@pytest.mark.parametrize("difficulty", [0.4, 0.5, 0.7])
def test_best_auroc_is_that_of_z(difficulty: float) -> None:
    textures = draw_textures(mean_distance("texture", difficulty), 20_000, np.random.default_rng(0))
    assert roc_auc_score(textures.labels, textures.z) == pytest.approx(best_auroc("texture", difficulty), abs=0.006)


@pytest.mark.parametrize(("size", "cases"), [(28, 1000), (33, 200), (64, 200), (128, 50)])
def test_the_pixels_hold_z(size: int, cases: int) -> None:
    textures, images = drawn(cases, size)
    read = read_z(images, DISTANCE)
    assert np.std(read - textures.z) < 0.1
    ideal = roc_auc_score(textures.labels, textures.z)
    assert roc_auc_score(textures.labels, read) == pytest.approx(ideal, abs=0.003)


def test_nothing_but_the_balance_knows_the_label() -> None:
    near, far = (draw_textures(distance, 50, np.random.default_rng(0)) for distance in (0.1, 9.0))
    same = {part.name for part in fields(Textures) if np.array_equal(getattr(near, part.name), getattr(far, part.name))}
    assert same == {"labels", "level", "gain", "grain"}
    lying = far.labels == 1
    assert (far.balance[lying] > np.pi / 4).all() and (far.balance[~lying] < np.pi / 4).all()


def test_no_nuisance_tells_the_label() -> None:
    """Nor do the mean and the deviation of the pixels, whatever the balance is."""
    textures, images = drawn(1000)
    told = [textures.level, textures.gain, textures.grain, images.mean(axis=(1, 2)), images.std(axis=(1, 2))]
    np.testing.assert_allclose([roc_auc_score(textures.labels, number) for number in told], 0.5, atol=0.05)


def test_balance_is_of_powers() -> None:
    """Each texture has its share in every picture, and not on average alone."""
    textures, images = drawn(200)
    spread = np.sqrt(np.maximum(images.var(axis=(1, 2)) - texture_phantom.NOISE**2, 0))
    np.testing.assert_allclose(spread, textures.gain, rtol=0.1)


def test_views_of_a_picture_keep_z() -> None:
    """Of the default views, by which encoders are pretrained; what they do to level and gain they must not do to z."""
    textures, images = drawn(300)
    batch, _ = to_device(Split(images, textures.labels), "cpu").batch(slice(None))
    seen = Augmenter(Views(), torch.Generator().manual_seed(0))(batch)[:, 0].numpy() * 255

    def kept(before: np.ndarray, after: np.ndarray) -> float:
        return float(np.corrcoef(before, after)[0, 1])

    assert kept(textures.z, read_z(seen, DISTANCE)) > 0.8
    assert kept(images.mean(axis=(1, 2)), seen.mean(axis=(1, 2))) < 0.7


@pytest.mark.parametrize("size", [8, 9, 28, 50])
def test_any_size(size: int) -> None:
    split = make_phantom("texture", "val", size=size, cases=20)
    assert split.images.shape == (20, size, size) and split.images.std(axis=(1, 2)).min() > 4


def test_a_sweep_file_gets_it_by_its_name() -> None:
    data = Data(dataset="phantom-texture", difficulty=0.3)
    loaded = dict(zip(SPLITS, (*load_search_splits(data), load_sealed_test(data)), strict=True))
    for name, split in loaded.items():
        np.testing.assert_array_equal(split.images, make_phantom("texture", name, 0.3).images)
    assert data_md5(data) == phantoms.phantom_md5("texture", 0.3, 28)


def test_pixels_stay_as_they_are() -> None:
    """Changing a phantom is allowed, but then `phantoms.VERSION` goes up and these means with it."""
    images = make_phantom("texture", "val").images
    assert phantoms.VERSION == 1 and images.mean() == pytest.approx(126.9821, abs=1e-3)
    assert images.std(axis=(1, 2)).mean() == pytest.approx(13.1910, abs=1e-3)
