import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medtune.figures.roc import roc_curve


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("cases", [50, 20_000])
def test_area_under_the_curve_is_the_auroc(cases: int, decimals: int) -> None:
    """Exactly where no point is left out, and by less than a pixel where some are."""
    generator = np.random.default_rng(3)
    positive = generator.random(cases) < 0.3
    scores = (generator.normal(size=cases) + positive).round(decimals)
    curve = roc_curve(scores, positive)
    assert len(curve) <= 200
    assert curve[0].tolist() == [0, 0] and curve[-1].tolist() == [1, 1]
    area = np.trapezoid(curve[:, 1], curve[:, 0])
    exact = len(np.unique(scores)) < 200
    assert area == pytest.approx(roc_auc_score(positive, scores), abs=1e-12 if exact else 1e-3)
