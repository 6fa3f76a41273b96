from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from medtune.evaluation.metrics import probabilities
from medtune.figures import pr
from medtune.figures.pr import average_precision, pr_curve, pr_figure


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize(("cases", "share"), [(2, 0.5), (50, 0.3), (20_000, 0.3), (20_000, 0.01)])
def test_area_below_the_staircase_is_the_average_precision(cases: int, share: float, decimals: int) -> None:
    """Exactly where no corner is left out, and by less than a pixel where some are."""
    generator = np.random.default_rng(3)
    positive = generator.random(cases) < share
    positive[:2] = True, False
    scores = (generator.normal(size=cases) + positive).round(decimals)
    curve = pr_curve(scores, positive)
    wanted = average_precision_score(positive, scores)
    assert average_precision(scores, positive) == pytest.approx(wanted, abs=1e-12)
    assert len(curve) <= 400 and curve[0, 0] == 0 and curve[-1, 0] == 1
    area = np.trapezoid(curve[:, 1], curve[:, 0])
    assert area == pytest.approx(wanted, abs=1e-12 if len(curve) < 400 else 2e-3)


@pytest.mark.parametrize("value", [True, False])
def test_one_side_alone_has_neither_curve_nor_number(value: bool) -> None:
    positive = np.full(5, value)
    assert pr_curve(np.arange(5.0), positive).shape == (0, 2)
    assert np.isnan(average_precision(np.arange(5.0), positive))


def test_a_missing_class_is_none_and_the_mean_undefined(draw: Any, drawn: Any, tmp_path: Path) -> None:
    figures = drawn(pr)
    logits, labels = draw("ordinal", 80, 1)
    there = labels != 2
    predicted = probabilities(logits, "ordinal")[there]
    pr_figure(predicted, labels[there], "ordinal", ["a", "b", "c", "d"], tmp_path / "x.png")
    said = [text.get_text() for text in figures[0].texts]
    assert f"mean average precision undefined on {there.sum()} cases" in said and said.count("none") == 1


def test_the_number_and_the_prevalence_of_class_1(draw: Any, drawn: Any, tmp_path: Path) -> None:
    figures = drawn(pr)
    logits, labels = draw("binary", 80, 1)
    predicted = probabilities(logits, "binary")
    pr_figure(predicted, labels, "binary", ["no", "yes"], tmp_path / "x.png")
    wanted = average_precision_score(labels, predicted[:, 1])
    assert figures[0].texts[0].get_text() == f"average precision {wanted:.3f} on 80 cases"
    assert figures[0].axes[0].texts[0].get_text() == f"prevalence {labels.mean():.3f}"
    np.testing.assert_allclose(figures[0].axes[0].collections[1].get_segments()[0][:, 1], labels.mean())
