import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtune.config.sweep import Data
from medtune.data import DataError
from medtune.data.audit import Audit, all_splits, audit
from medtune.data.repeats import Splits
from medtune.report.audit import findings, write_audit

DATA = Data(dataset="phantom-multiclass")
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def made() -> tuple[Audit, Splits]:
    splits = all_splits(DATA)
    splits["test"].images[:3] = splits["train"].images[:3]
    splits["val"].images[0] = 7
    splits["val"].images[1] = np.rint(splits["train"].images[9] * 0.95)
    return audit(DATA, splits), splits


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_beside_itself(made: tuple[Audit, Splits], tmp_path: Path) -> None:
    write_audit(*made, tmp_path)
    text = (tmp_path / "audit.html").read_text()
    tags = _Tags()
    tags.feed(text)
    assert tags.open == [] and len(tags.sources) == 1 + 4 + 4  # distribution, twins, samples
    assert all(source.startswith("data:image/png;base64,") for source in tags.sources)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "<script" not in text
    assert 'content="width=device-width' in text and "default-src 'none'" in text


def test_it_says_what_was_found(made: tuple[Audit, Splits], tmp_path: Path) -> None:
    write_audit(*made, tmp_path)
    text = (tmp_path / "audit.html").read_text()
    assert "Identical pixels: 3 groups, 3 across splits" in text and "Near twins: 1 pairs, 1 across splits" in text
    assert "3 of 240 cases of test (1.2%) have a twin in train." in text and "Blank in val: 0</p>" in text
    assert "train 9: " in text and re.search(r"correlation (1|0\.99)\d*, \d bits", text)
    assert all(line.split(",")[0] in text for line in findings(made[0]))


def test_the_json_has_all_numbers(made: tuple[Audit, Splits], tmp_path: Path) -> None:
    write_audit(*made, tmp_path)
    told = json.loads((tmp_path / "audit.json").read_text())
    assert told["splits"]["train"]["counts"] == [150] * 4 and told["repeats"]["exact"]["across"] == 3
    assert told["repeats"]["near"]["first"][0]["b"]["split"] == "val" and told["repeats"]["in_train"]["test"] == 3


def test_the_pictures(made: tuple[Audit, Splits], tmp_path: Path) -> None:
    write_audit(*made, tmp_path)
    assert Image.open(tmp_path / "classes.png").width == 420
    assert [Image.open(tmp_path / f"samples-{label}.png").size for label in range(4)] == [(796, 196)] * 4


def test_names_are_text_and_not_html(made: tuple[Audit, Splits], tmp_path: Path) -> None:
    found, splits = made
    names = ["<b>x</b>", "a & b", "$x$_{", "d" * 90]
    write_audit(Audit(**{**vars(found), "classes": names, "name": "<i>n"}), splits, tmp_path / "deep" / "er")
    text = (tmp_path / "deep" / "er" / "audit.html").read_text()
    assert "<b>" not in text and "<i>" not in text and "&lt;b&gt;x" in text and "a &amp; b" in text


def test_a_class_that_train_lacks_has_no_samples(tmp_path: Path) -> None:
    splits = all_splits(DATA)
    splits["train"].labels[splits["train"].labels == 3] = 0
    write_audit(audit(DATA, splits), splits, tmp_path)
    assert not (tmp_path / "samples-3.png").exists() and "None in train." in (tmp_path / "audit.html").read_text()


def test_a_place_that_cannot_be_written_is_one_line(made: tuple[Audit, Splits], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: cannot be written .*; choose another --out"):
        write_audit(*made, tmp_path / "file")
