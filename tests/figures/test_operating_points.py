from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.evaluation.intervals import Interval
from medtune.figures import operating_points
from medtune.figures.operating_points import operating_points_figure, rates


@pytest.mark.parametrize("decimals", [1, 6])
def test_rates_at_any_threshold_are_those_counted(decimals: int) -> None:
    generator = np.random.default_rng(5)
    positive = generator.random(80) < 0.4
    scores = generator.random(80).round(decimals)
    found = rates(scores, positive)
    for threshold in generator.random(50):
        sensitivity, specificity = (np.interp(threshold, found[:, 0], found[:, column]) for column in (1, 2))
        assert sensitivity == pytest.approx((scores[positive] >= threshold).mean())
        assert specificity == pytest.approx((scores[~positive] < threshold).mean())


def test_many_scores_are_few_points_and_lie_near() -> None:
    generator = np.random.default_rng(5)
    positive = generator.random(20_000) < 0.4
    scores = generator.random(20_000)
    found = rates(scores, positive)
    assert len(found) <= 402
    at = np.interp(0.3, found[:, 0], found[:, 1])
    assert at == pytest.approx((scores[positive] >= 0.3).mean(), abs=0.01)


@pytest.mark.parametrize("value", [True, False])
def test_a_side_without_cases_has_no_line(value: bool) -> None:
    found = rates(np.array([0.2, 0.7]), np.full(2, value))
    assert np.isnan(found[:, 2 if value else 1]).all() and np.isfinite(found[:, 1 if value else 2]).all()


def test_the_table_and_its_numbers_on_the_plot(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(operating_points)
    sure, none = Interval(0.9, 0.81, 0.998), Interval.undefined("no case is positive")
    rows = [
        {"name": "first", "threshold": 0.5, "sensitivity": sure, "specificity": sure, "ppv": none, "npv": sure},
        {"name": "near $it", "threshold": 0.51, "sensitivity": none},
        {"name": "far", "threshold": 0.8},
        {"name": "none", "threshold": None},
        {"name": "nobody", "threshold": np.nextafter(1.0, 2.0)},
    ]
    operating_points_figure(np.array([0.2, 0.6, 0.9]), np.array([False, True, True]), rows, tmp_path / "x.png")
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["1,2", "3"]
    said = [text.get_text() for text in figures[0].texts]
    assert said[0] == "3 cases, 2 positive"
    assert said.count("0.900") == 3 and said.count(".81 to 1.00") == 3
    assert said.count("\u2013") == 1 + 4 + 4 + 5 + 4  # one undefined share, rows without any, a row without a threshold
    assert said.count("above 1") == 1


def test_shapes_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scores of shape"):
        operating_points_figure(np.zeros(3), np.zeros(2, dtype=bool), [], tmp_path / "x.png")
    with pytest.raises(ValueError, match="scores of shape"):
        operating_points_figure(np.zeros(0), np.zeros(0, dtype=bool), [], tmp_path / "x.png")
