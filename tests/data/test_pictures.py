import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtune.data.listing import EXTENSIONS
from medtune.data.pictures import Picture, Unreadable, read_picture, resized

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (9, 6), dtype=np.uint8)
COLOUR = GENERATOR.integers(0, 256, (9, 6, 3), dtype=np.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """`saved(pixels or image, size, suffix, **options)`: what is read of a file with that in it."""

    def read(picture: Any, size: int = 6, suffix: str = ".png", **options: Any) -> Picture:
        path = tmp_path / f"picture{suffix}"
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(path, **options)
        return read_picture(path, size)

    return read


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_the_middle_of_the_longer_side_is_kept(saved: Any, pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(saved(pixels).image, pixels[1:7])
    np.testing.assert_array_equal(saved(pixels.swapaxes(0, 1)).image, pixels.swapaxes(0, 1)[:, 1:7])


def test_making_smaller_is_antialiased(saved: Any) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))  # every other column: only their mean is left
    assert np.abs(saved(stripes, 8).image.astype(int) - 127.5).max() < 5
    assert not saved(stripes, 8).enlarged


def test_a_smaller_picture_is_enlarged_and_that_is_said(saved: Any) -> None:
    picture = saved(GREY, 12)
    assert picture.image.shape == (12, 12) and picture.enlarged


class TestModes:
    def test_colour_of_equal_channels_is_grey(self, saved: Any) -> None:
        as_colour = saved(np.repeat(GREY[..., None], 3, axis=2))
        assert as_colour.image.shape == (6, 6) and as_colour.digest == saved(GREY).digest

    def test_one_bit_and_palette(self, saved: Any) -> None:
        bits = Image.fromarray(GREY > 127)
        np.testing.assert_array_equal(saved(bits).image, 255 * (GREY[1:7] > 127))
        palette = Image.fromarray(COLOUR).quantize(4)
        np.testing.assert_array_equal(saved(palette).image, np.asarray(palette.convert("RGB"))[1:7])

    def test_sixteen_bits_are_scaled_as_a_whole(self, saved: Any) -> None:
        deep = np.array([[0, 257, 514], [32767, 65535, 128], [129, 0, 0]], np.uint16)
        for suffix in (".png", ".tif", ".pgm"):
            picture = saved(deep, 3, suffix)
            assert picture.image.tolist() == [[0, 1, 2], [127, 255, 0], [1, 0, 0]], suffix
            assert not picture.dark
        assert saved(deep // 16, 3).dark  # twelve bits

    def test_pictures_of_sixteen_bits_that_differ_below_eight_are_no_twins(self, saved: Any) -> None:
        deep = np.full((3, 3), 1000, np.uint16)
        assert saved(deep).digest != saved(deep + 1).digest
        assert saved(deep).digest == saved(deep, suffix=".tif").digest

    def test_what_is_transparent_lies_on_black(self, saved: Any) -> None:
        seen = np.full((9, 6, 1), 255, np.uint8)
        seen[:, :3] = 0
        picture = saved(np.concatenate([COLOUR, seen], axis=2))
        assert not picture.image[:, :3].any()
        np.testing.assert_array_equal(picture.image[:, 3:], COLOUR[1:7, 3:])

    def test_exif_turns(self, saved: Any) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn clockwise
        np.testing.assert_array_equal(saved(GREY, exif=exif).image, np.rot90(GREY, -1)[:, 1:7])

    def test_every_extension_can_be_read(self, saved: Any) -> None:
        for suffix in EXTENSIONS:
            assert saved(COLOUR if suffix == ".ppm" else GREY, suffix=suffix).image.shape[:2] == (6, 6), suffix


def bytes_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


SEVERAL = {"save_all": True, "append_images": [Image.fromarray(GREY.T)]}
REFUSED = {
    "text": (b"no picture", "no picture"),
    "nothing": (b"", "no picture"),
    "cut short": (bytes_of(Image.fromarray(COLOUR).resize((99, 99)), "JPEG")[:700], "truncated"),
    "cut short PNG": (bytes_of(Image.fromarray(COLOUR).resize((99, 99)), "PNG")[:500], "."),
    "a decoder that is not let near": (bytes_of(Image.fromarray(COLOUR), "PCX"), "no picture"),
    "several frames": (bytes_of(Image.fromarray(GREY), "TIFF", **SEVERAL), "several images"),
    "floats": (bytes_of(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "32 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, why = REFUSED[name]
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(Unreadable, match=why) as caught:
        read_picture(tmp_path / "picture.png", 6)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(Unreadable, match="decompression bomb"):
        saved(GREY)


class TestResized:
    @pytest.mark.parametrize("shape", [(5, 28, 28), (5, 28, 28, 3)])
    def test_is_pils_antialiased_bilinear(self, shape: tuple[int, ...]) -> None:
        images = GENERATOR.integers(0, 256, shape, dtype=np.uint8)
        found = resized(images, 12)
        assert found.shape == (5, 12, 12, *shape[3:]) and found.dtype == np.uint8
        expected = Image.fromarray(images[3]).resize((12, 12), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found[3], np.asarray(expected))

    def test_what_has_the_size_is_not_copied(self) -> None:
        images = np.zeros((2, 28, 28), np.uint8)
        assert resized(images, 28) is images
