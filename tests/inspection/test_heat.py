import numpy as np
import pytest

from medtune.inspection.heat import ANCHORS, COVERED, colours, overlay

HEAT = np.linspace(0, 1, 28 * 28).reshape(28, 28)


def test_colours_grow_brighter_without_a_turn() -> None:
    made = colours(np.linspace(0, 1, 101))
    assert made.dtype == np.uint8 and made.shape == (101, 3)
    np.testing.assert_array_equal(made[::25], ANCHORS)
    luminance = made @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()
    np.testing.assert_array_equal(colours(np.array([-1.0, 2.0])), [ANCHORS[0], ANCHORS[-1]])


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_the_image_shows_where_it_is_cold_and_the_heat_where_it_is_hot(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    made = overlay(image, HEAT)
    grey = image if image.ndim == 2 else image @ [0.299, 0.587, 0.114]
    assert made.dtype == np.uint8 and made.shape == (28, 28, 3)
    np.testing.assert_allclose(made[0, 0].astype(float), grey[0, 0], atol=1)
    hottest = (1 - COVERED) * grey[-1, -1] + COVERED * np.array(ANCHORS[-1])
    np.testing.assert_allclose(made[-1, -1].astype(float), hottest, atol=1)


def test_no_heat_is_the_image_in_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(image, np.zeros((28, 28))), np.stack([image] * 3, axis=-1))


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="heat map"):
        overlay(np.zeros((28, 28), np.uint8), np.zeros((14, 14)))
