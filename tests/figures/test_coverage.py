from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.figures import coverage
from medtune.figures.coverage import coverage_figure


def test_the_key_is_the_accuracy_at_80_percent(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(coverage)
    falling = np.array([[1, 0.8], [0.6, 0.9], [0.2, 1]])  # in any order
    curves = {"one": falling, "better": np.array([[0.7, 0.95], [0.9, 0.91], [np.nan, 0]]), "short": falling[1:]}
    coverage_figure(curves, tmp_path / "x.png")
    said = [text.get_text() for text in figures[0].texts]
    assert said[0] == "accuracy 0.850 to 0.930 at 80 % coverage"
    assert said[2:] == ["one", "0.850", "better", "0.930", "short", "none"]
    lines = figures[0].axes[0].collections[0].get_segments()
    np.testing.assert_allclose(lines[0], falling[::-1])


def test_nothing_to_read_at_80_percent(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(coverage)
    coverage_figure({"one case": np.array([[1.0, 1.0]]), "none": np.empty((0, 2))}, tmp_path / "x.png")
    assert figures[0].texts[0].get_text() == "accuracy at 80 % coverage undefined"


def test_what_is_no_curve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no curve"):
        coverage_figure({}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="points, 2"):
        coverage_figure({"a": np.zeros(3)}, tmp_path / "x.png")
