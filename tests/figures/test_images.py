from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtune.figures.images import SIDE, gallery

WARNING = (0xA3, 0x3A, 0x00)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (224, 224, 3)])
def test_a_tile_is_the_image_with_its_words_below(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.full((5, *shape), 100, dtype=np.uint8)
    gallery(images, [["true a", "said b", "p = .97"]] * 5, tmp_path / "x.png")
    drawn = read(tmp_path / "x.png")
    assert drawn.shape == (2 * (132 + 3 * 18 + 10), 552, 3)
    assert (drawn[:SIDE, :SIDE] == 100).all() and (drawn[:SIDE, SIDE] == 255).all()
    for line in range(3):
        words = drawn[SIDE + 3 + 18 * line : SIDE + 3 + 18 * (line + 1), :SIDE]
        assert words.min() < 80 and words.max() == 255


def test_a_wrong_one_has_a_frame_and_letters_in_the_warning_colour(tmp_path: Path) -> None:
    gallery(np.zeros((2, 28, 28), dtype=np.uint8), [["a"], ["a"]], tmp_path / "x.png", wrong=[False, True])
    drawn = read(tmp_path / "x.png")
    warned = (drawn == WARNING).all(axis=2)
    assert warned[:4, 140:272].all() and warned[SIDE:, 140:].any() and not warned[:, :140].any()
    assert (drawn[4 : SIDE - 4, 144:268] == 0).all()


def test_several_images_of_a_case_stand_side_by_side(tmp_path: Path) -> None:
    pair = [np.full((28, 28), 50, dtype=np.uint8), np.full((56, 56, 3), 200, dtype=np.uint8)]
    gallery([pair] * 3, [["a"]] * 3, tmp_path / "x.png")
    drawn = read(tmp_path / "x.png")
    assert drawn.shape == (2 * (132 + 18 + 10), 544, 3)  # two cases in a row
    assert (drawn[:132, :132] == 50).all() and (drawn[:132, 136:268] == 200).all()


def test_words_end_where_the_image_ends(tmp_path: Path) -> None:
    long = "immature granulocytes (myelocytes,\nmetamyelocytes and promyelocytes)"
    gallery(np.zeros((2, 28, 28), dtype=np.uint8), [[long], [""]], tmp_path / "x.png")
    assert (read(tmp_path / "x.png")[SIDE:, SIDE + 1 :] == 255).all()


def test_letters_beyond_ascii_are_drawn_and_differ(tmp_path: Path) -> None:
    gallery(np.zeros((3, 9, 9), dtype=np.uint8), [["\u00e9"], ["\u2265"], ["\u00fc"]], tmp_path / "x.png")
    drawn = read(tmp_path / "x.png")
    words = [drawn[SIDE:, left : left + SIDE].tobytes() for left in (0, 140, 280)]
    assert len(set(words)) == 3


def test_nothing_is_a_picture_too_and_numbers_must_fit(tmp_path: Path) -> None:
    gallery([], [], tmp_path / "x.png")
    assert read(tmp_path / "x.png").min() < 80
    with pytest.raises(ValueError, match="one of each"):
        gallery(np.zeros((2, 9, 9), dtype=np.uint8), [["a"]], tmp_path / "y.png")
