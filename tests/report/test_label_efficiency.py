"""The page of a sweep over labels: what it says is what was measured."""

import re
from pathlib import Path
from typing import Any

import pytest

from medtune.label_efficiency import label_efficiency
from medtune.report.label_efficiency import write_label_efficiency
from medtune.report.words import interval
from medtune.search.folder import SweepFolder

TEXT = """\
sweep: labels
data: {dataset: phantom-binary, difficulty: 0.3, labels: {fraction: {choice: [0.05, 0.2]}, seed: {choice: [0, 1]}}}
trial:
  epochs: 1
  batch_size: 16
  model: {choice: [{name: smallcnn, finetune: probe}, {name: smallcnn}]}
  precision: float32
search: {sampler: grid, trials: 8}
pruning: {name: none}
"""


@pytest.fixture
def swept(tiny: Any, tmp_path: Path) -> SweepFolder:
    folder = SweepFolder.create(tmp_path / "labels", tiny.config(text=TEXT))
    folder.unlock()
    tiny.run(tiny.open(folder))
    return folder


def test_every_number_is_on_the_page_and_every_picture_in_it(swept: SweepFolder) -> None:
    config = swept.config()
    found, pooled = label_efficiency(swept, config)
    html, markdown = write_label_efficiency(swept, config, found, pooled)
    text, page = markdown.read_text(), html.read_text()
    assert len(found["cells"]) == 4 and found["arms"] == ["probe of an untrained encoder", "supervised"]
    for cell in found["cells"]:
        for name in ("auroc", "accuracy"):
            assert interval(cell[name]) in text and interval(cell[name]) in page
    linked = re.findall(r"\]\((label-efficiency/[^)]*)\)", text)
    assert len(linked) == 3 + 2 * len(pooled) and all((swept.path / name).exists() for name in linked)
    assert page.count("data:image/png;base64,") == len(linked) and not re.search(r"(src|href)=\"http", page)
    assert "The test split has not been looked at." in text and "There is nothing to compare with" in text


def test_what_was_drawn_before_goes(swept: SweepFolder) -> None:
    config = swept.config()
    pictures = swept.path / "label-efficiency"
    pictures.mkdir()
    (pictures / "old.png").write_bytes(b"")
    write_label_efficiency(swept, config, *label_efficiency(swept, config))
    assert "old.png" not in [path.name for path in pictures.iterdir()]
