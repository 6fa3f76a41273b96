from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtune.figures.fractions import fractions_figure

FRACTIONS = (0.01, 0.1, 1.0)
LINES = {
    "linear probe": np.array([[0.6, 0.8, 0.9], [0.5, 0.7, 0.85], [0.7, 0.9, 0.95]]),
    "supervised": np.array([[0.5, np.nan, 0.92], [0.3, np.nan, 0.9], [0.7, np.nan, 0.94]]),
}


def test_it_is_a_picture_of_its_size_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fractions_figure(FRACTIONS, LINES, "AUROC", "AUROC on 78 cases", tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (600, 418)


@pytest.mark.parametrize("lines", [{"probe": LINES["linear probe"][:, 1:2]}, {"none": np.full((3, 1), np.nan)}])
def test_one_fraction_alone_and_nothing_at_all_can_be_drawn(lines: dict[str, np.ndarray], tmp_path: Path) -> None:
    fractions_figure((0.1,), lines, "ECE", "ECE", tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_more_lines_take_more_room_for_their_names(tmp_path: Path) -> None:
    many = {f"arm {number}": LINES["linear probe"] for number in range(6)}
    fractions_figure(FRACTIONS, many, "AUROC", "AUROC", tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as picture:
        assert picture.size == (600, 514)
