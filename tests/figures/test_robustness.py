from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.figures import robustness
from medtune.figures.robustness import robustness_figure


def test_lines_begin_at_the_clean_value_and_the_key_has_the_means(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(robustness)
    falling = {"blur": np.array([0.9, 0.8, 0.7, 0.6, 0.5]), "noise": np.full(5, 0.9)}
    robustness_figure(falling, 0.95, tmp_path / "x.png")
    lines = figures[0].axes[0].collections[0].get_segments()
    np.testing.assert_allclose(lines[0], [(0, 0.95), (1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6), (5, 0.5)])
    said = [text.get_text() for text in figures[0].texts]
    assert said[0] == "AUROC 0.950 clean, 0.800 corrupted"
    assert said[2:] == ["blur", "0.700", "noise", "0.900"]


def test_what_is_undefined_is_said(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(robustness)
    robustness_figure({"blur": np.full(5, np.nan)}, float("nan"), tmp_path / "x.png")
    said = [text.get_text() for text in figures[0].texts]
    assert said[0] == "AUROC undefined clean, undefined corrupted" and said[-1] == "none"


@pytest.mark.parametrize("aurocs", [{}, {"blur": np.zeros(4)}])
def test_five_strengths_are_needed(aurocs: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="corruptions, 5"):
        robustness_figure(aurocs, 0.9, tmp_path / "x.png")
