import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtune.data import pictures
from medtune.data.listing import EXTENSIONS
from medtune.data.pictures import MOST_PIXELS, Picture, Unreadable, read_picture, resized

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

    def test_what_is_transparent_in_a_palette_or_by_its_value_lies_on_black(self, saved: Any) -> None:
        palette = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6) % 4, "P")
        palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
        for transparency in (2, b"\xff\xff\x00"):
            picture = saved(palette, transparency=transparency).image
            assert picture[0, :4].tolist() == [[10, 20, 30], [40, 50, 60], [0, 0, 0], [100, 110, 120]]
        assert saved(np.array([[7, 200]] * 2, np.uint8), 2, transparency=200).image.tolist() == [[7, 0]] * 2
        deep = np.array([[257, 51400]] * 2, np.uint16)
        assert saved(deep, 2, transparency=51400).image.tolist() == [[1, 0]] * 2

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_where_white_is_zero_it_is_white(self, saved: Any, compression: str | None) -> None:
        options = {"suffix": ".tif", "tiffinfo": {262: 0}, "compression": compression}
        deep = np.array([[0, 65535], [32639, 257]], np.uint16)  # PIL writes 8 bits inverted then, and 16 as they are
        assert saved(deep, 2, **options).image.tolist() == [[255, 0], [128, 254]]
        np.testing.assert_array_equal(saved(GREY, **options).image, GREY[1:7])

    def test_colour_of_four_inks(self, saved: Any) -> None:
        inks = np.zeros((16, 16, 4), np.uint8)
        inks[:, 8:, 0] = 255  # cyan
        picture = saved(Image.fromarray(inks, "CMYK"), 16, ".jpg", quality=95).image.astype(int)
        assert np.abs(picture[4, 2] - 255).max() < 4 and np.abs(picture[4, 13] - [0, 255, 255]).max() < 4

    def test_colour_of_sixteen_bits_keeps_its_upper_eight(self, tmp_path: Path) -> None:
        (tmp_path / "x.png").write_bytes(png(2, 2, 16, 2, struct.pack(">6H", *range(0, 60000, 10000)) * 2))
        picture = read_picture(tmp_path / "x.png", 2).image
        assert picture.tolist() == [[[0, 39, 78], [117, 156, 195]]] * 2

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
    def test_exif_turns(self, saved: Any, suffix: str) -> None:
        turned = [lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, np.transpose, lambda a: np.rot90(a, -1)]
        turned += [lambda a: np.rot90(a, 2).T, np.rot90]
        blocks = np.kron(np.array([[0, 90], [180, 255]], np.uint8), np.ones((8, 8), np.uint8))
        for orientation, turn in enumerate(turned, start=1):
            exif = Image.Exif()
            exif[0x0112] = orientation
            found = saved(blocks, 16, suffix, exif=exif).image.astype(int)
            assert np.abs(found[4::8, 4::8] - turn(blocks)[4::8, 4::8]).max() < 12, orientation

    def test_every_extension_can_be_read(self, saved: Any) -> None:
        for suffix in EXTENSIONS:
            assert saved(COLOUR if suffix == ".ppm" else GREY, suffix=suffix).image.shape[:2] == (6, 6), suffix


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG that PIL does not write. rows: of zeros where there are too few."""
    length = -(-width * bits * {0: 1, 2: 3}[colour] // 8)
    packer, packed = zlib.compressobj(9), b""
    for row in range(height):
        packed += packer.compress(b"\0" + rows[row * length : (row + 1) * length].ljust(length, b"\0"))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"IDAT", packed + packer.flush()),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("picture.png", b"-")
    return stream.getvalue()


def bytes_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


SEVERAL = {"save_all": True, "append_images": [Image.fromarray(GREY.T)]}
REFUSED = {
    "text": (b"no picture", "no picture"),
    "nothing": (b"", "empty"),
    "a zip file": (zipped(), "no picture"),
    "DICOM": (bytes(128) + b"DICM\2\0", "DICOM, which is not read; save it as a PNG"),
    "cut short": (bytes_of(Image.fromarray(COLOUR).resize((99, 99)), "JPEG")[:700], "truncated"),
    "cut short PNG": (bytes_of(Image.fromarray(COLOUR).resize((99, 99)), "PNG")[:500], "."),
    "a decoder that is not let near": (bytes_of(Image.fromarray(COLOUR), "PCX"), "no picture"),
    "several frames": (bytes_of(Image.fromarray(GREY), "TIFF", **SEVERAL), "several images"),
    "an animated GIF": (bytes_of(Image.fromarray(GREY), "GIF", **SEVERAL), "several images"),
    "an animated PNG": (bytes_of(Image.fromarray(GREY), "PNG", **SEVERAL), "several images"),
    "an animated WEBP": (
        bytes_of(Image.fromarray(GREY), "WEBP", save_all=True, append_images=[Image.fromarray(GREY[::-1])]),
        "several images",
    ),
    "floats": (bytes_of(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "32 bits"),
    "integers of 32 bits": (bytes_of(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "signed, or 32 bits"),
    "more than it says": (png(10_000, 10_000, 1, 0, b"")[:500], "more than 90 million pixels"),
    "a flipped bit": (bytes_of(Image.fromarray(COLOUR), "PNG").replace(b"IDATx", b"IDATy"), "."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, why = REFUSED[name]
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(Unreadable, match=why) as caught:
        read_picture(tmp_path / "picture.png", 6)
    assert "\n" not in str(caught.value)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    why = {"pipe": "no regular file", "folder": "no regular file", "loop": "symbolic links", "none": "No such file"}
    for name, words in why.items():
        with pytest.raises(Unreadable, match=words) as caught:
            read_picture(tmp_path / f"{name}.png", 6)
        assert str(tmp_path) not in str(caught.value)


READ_MANY = """
import os, resource, sys
from pathlib import Path
os.cpu_count = lambda: 16
from medtune.data import DataError
from medtune.data.listing import list_folder
from medtune.data.reading import read_listing
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    members, found = read_listing(list_folder(Path(sys.argv[1])), 16, (0.7, 0.15, 0.15))
    print(found.counts)
except DataError as error:
    print(error)
print(peak() - before)
"""


@pytest.fixture
def read_many(tmp_path: Path) -> Any:
    """`read_many(class a, class b)`: of a folder with these files, read where there are sixteen processors: what is
    said of it, and the memory that it took, in MiB."""

    def read(*classes: list[bytes]) -> tuple[str, int]:
        for label, files in zip("ab", classes, strict=True):
            (tmp_path / "set" / label).mkdir(parents=True)
            for number, content in enumerate(files):
                (tmp_path / "set" / label / f"{number}.png").write_bytes(content)
        command = [sys.executable, "-W", "error", "-c", READ_MANY, str(tmp_path / "set")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        said, megabytes = done.stdout.splitlines()
        return said, int(megabytes)

    return read


def test_a_bomb_takes_no_memory(read_many: Any) -> None:
    bomb, small = png(30_000, 30_000, 1, 0, b""), png(16, 16, 8, 0, b"")
    assert len(bomb) < 2**20
    said, megabytes = read_many([bomb, small], [small])
    assert said.endswith(
        "1 of 3 pictures cannot be read: a/0.png (more than 90 million pixels; make it smaller); "
        "mend them, or move them away"
    )
    assert megabytes < 50


def test_pictures_wait_until_there_is_room_for_them(saved: Any, tmp_path: Path) -> None:
    saved(GREY)
    with ThreadPoolExecutor(1) as pool:
        with pictures._ROOM.taken(MOST_PIXELS - GREY.size):
            assert pool.submit(read_picture, tmp_path / "picture.png", 6).result(60).image.shape == (6, 6)
        with pictures._ROOM.taken(MOST_PIXELS - GREY.size + 1):
            waiting = pool.submit(read_picture, tmp_path / "picture.png", 6)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result(60).image.shape == (6, 6)


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
