import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from medtune.figures import curves
from medtune.figures.curves import curves_figure


def records(epochs: int) -> list[dict[str, float]]:
    splits = {"train": 0.0, "val": 0.1, "test": 0.2}
    names = [
        (f"{split}/{metric}", worse) for split, worse in splits.items() for metric in ("loss", "auroc", "accuracy")
    ]
    return [{name: 0.9 - worse - 0.4 / epoch for name, worse in names} for epoch in range(1, epochs + 1)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures, real = [], curves.save
    monkeypatch.setattr(curves, "save", lambda figure, path: figures.append(figure) or real(figure, path))
    return figures


def test_three_panels_of_three_lines_and_the_tested_epoch(tmp_path: Path, drawn: list[Figure]) -> None:
    told = records(12)
    curves_figure(told, 7, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (1200, 400)
    assert [axes.get_title() for axes in drawn[0].axes] == ["loss (NLL)", "AUROC", "accuracy"]
    for axes, metric in zip(drawn[0].axes, ("loss", "auroc", "accuracy"), strict=True):
        lines = axes.collections[0].get_segments()
        for line, split in zip(lines, ("train", "val", "test"), strict=True):
            wanted = [(epoch, record[f"{split}/{metric}"]) for epoch, record in enumerate(told, start=1)]
            np.testing.assert_allclose(line, wanted)
        assert list(axes.lines[0].get_xdata()) == [7, 7]
        low, high = axes.get_ylim()
        assert low < min(line[:, 1].min() for line in lines) and high > max(line[:, 1].max() for line in lines)
    assert "the tested model, epoch 7" in [text.get_text() for text in drawn[0].texts]


def test_one_epoch_is_seen_and_what_is_undefined_is_a_gap(tmp_path: Path, drawn: list[Figure]) -> None:
    told = [{name: math.nan if "auroc" in name else value for name, value in record.items()} for record in records(1)]
    curves_figure(told, 1, tmp_path / "curves.png")
    loss, auroc, _ = drawn[0].axes
    assert len(loss.collections[1].get_offsets()) == 3 and auroc.get_ylim() == (0, 1)
