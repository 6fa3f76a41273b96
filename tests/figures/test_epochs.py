import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.figures import epochs
from medtune.figures.epochs import epochs_figure


def record(epoch: int, auroc: float | None) -> dict[str, Any]:
    return {"epoch": epoch, "train/loss": 1 / epoch, "val/loss": 2 / epoch, "val/auroc": auroc, "val/ece": 0.1}


def test_three_panels_and_the_first_of_the_best_epochs(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(epochs)
    epochs_figure([record(1, 0.7), record(2, 0.9), record(3, None), record(4, 0.9)], tmp_path / "x.png")
    loss, auroc, ece = figures[0].axes
    assert figures[0].texts[0].get_text() == "AUROC 0.900 at epoch 2 of 4"
    assert all(list(axes.lines[0].get_xdata()) == [2, 2] for axes in (loss, auroc, ece))
    train, val = loss.collections[0].get_segments()
    np.testing.assert_allclose(val, [(epoch, 2 / epoch) for epoch in (1, 2, 3, 4)])
    np.testing.assert_allclose(train[:, 1] * 2, val[:, 1])
    assert auroc.collections[1].get_offsets().tolist() == [[4, 0.9]]  # between a gap and the end


def test_another_epoch_may_be_the_kept_one(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(epochs)
    epochs_figure([record(1, 0.7), record(2, 0.9)], tmp_path / "x.png", best=1)
    assert figures[0].texts[0].get_text() == "AUROC 0.700 at epoch 1 of 2"


def test_missing_numbers_are_gaps(drawn: Any, tmp_path: Path) -> None:
    figures = drawn(epochs)
    epochs_figure([{"epoch": 1, "val/auroc": math.nan}, {"epoch": 2, "train/loss": math.inf}], tmp_path / "x.png")
    assert figures[0].texts[0].get_text() == "AUROC undefined, epochs: 2"
    with pytest.raises(ValueError, match="no epoch"):
        epochs_figure([], tmp_path / "y.png")
