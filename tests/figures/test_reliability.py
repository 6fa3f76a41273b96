from pathlib import Path
from typing import Any

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from medtune.evaluation.metrics import ece
from medtune.figures import reliability
from medtune.figures.reliability import reliability_figure


def test_the_bars_are_the_shares_with_their_intervals(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(reliability)
    top = np.array([0.9] * 10 + [0.6] * 5)
    predicted, labels = np.column_stack([top, 1 - top]), np.array([0] * 8 + [1] * 2 + [0] * 2 + [1] * 3)
    reliability_figure(predicted, labels, "binary", tmp_path / "x.png")
    axes, below = figures[0].axes
    (points,) = axes.lines
    np.testing.assert_allclose(points.get_xydata(), [[9.5 / 15, 0.4], [13.5 / 15, 0.8]])
    ends = [line[:, 1] for line in axes.collections[-1].get_segments()]
    np.testing.assert_allclose(ends, [proportion_confint(k, n, method="wilson") for k, n in ((2, 5), (8, 10))])
    heights = [path.vertices[:, 1].max() for path in below.collections[0].get_paths()]
    assert [int(height) for height in heights if height] == [5, 10]
    assert figures[0].texts[0].get_text() == f"ECE {ece(predicted, labels, 'binary'):.3f} on 15 cases"
