from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.figures import net_benefit
from medtune.figures.net_benefit import net_benefit_figure

AT = np.linspace(0.1, 0.9, 5)


def test_the_title_is_where_the_model_is_best(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(net_benefit)
    model, everyone = np.array([0.3, 0.2, 0.1, -0.1, 0.05]), np.array([0.4, 0.1, -0.5, -2.0, -9.0])
    net_benefit_figure(AT, model, model - 0.1, model + 0.1, everyone, tmp_path / "x.png")
    assert figures[0].texts[0].get_text() == "above all and none at 60% of thresholds"
    axes = figures[0].axes[0]
    np.testing.assert_allclose(axes.lines[2].get_ydata(), model)
    low, high = axes.get_ylim()
    assert -1 < low < -0.1 and high > 0.4  # treating all does not press the others flat


def test_gaps_and_nothing_at_all_are_drawn(drawn: Any, tmp_path: Path) -> None:
    figures, nothing = drawn(net_benefit), np.full(5, np.nan)
    net_benefit_figure(AT, nothing, nothing, nothing, nothing, tmp_path / "x.png")
    net_benefit_figure(AT[:1], AT[:1], AT[:1], AT[:1], -AT[:1], tmp_path / "x.png")
    said = [figure.texts[0].get_text() for figure in figures]
    assert said == ["net benefit undefined", "above all and none at 100% of thresholds"]


def test_shapes_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="five of"):
        net_benefit_figure(AT, AT, AT, AT, AT[:3], tmp_path / "x.png")
