"""What a model's card says."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from medtune.data import DataError
from medtune.trained.card import write_card
from medtune.trained.model import read_description


def told(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


TEST = {
    "cases": 240,
    "looks": 1,
    "label": "first look",
    "auroc": told(0.912),
    "accuracy": told(0.801),
    "ece": {"value": 0.071, "words": "0.071 (truth 0.030 to 0.110)"},
    "calibrator": {"kind": "temperature"},
    "calibrated": {"accuracy": told(0.802), "ece": {"value": 0.052, "words": "0.052 after"}},
    "operating_points": [
        {
            "target": "Youden",
            "problem": 1,
            "threshold": 0.4321,
            "sensitivity": told(0.85),
            "specificity": {"value": None, "low": None, "high": None, "undefined": "no case is negative"},
        },
        {"target": "sensitivity ≥ 0.9", "problem": 1, "threshold": None},
    ],
    "seeds": {"auroc": {"each": [0.912, 0.905]}},
    "default": {
        "auroc": told(0.88),
        "accuracy": told(0.75),
        "ece": {"value": 0.08},
        "difference": {"auroc": told(0.032), "accuracy": told(0.051)},
    },
}


@pytest.fixture
def folder(model_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_once, tmp_path / "copy"))


def written(folder: Path, test: dict[str, Any] | None = None) -> str:
    write_card(folder, test)
    return (folder / "MODEL_CARD.md").read_text()


def test_before_the_test_it_says_what_the_model_is_and_that_no_number_is_of_unseen_cases(folder: Path) -> None:
    text = written(folder)
    for part in (
        "# Phantom, binary: smallcnn",
        "**Not a medical device",
        "It says which of these an image is: enhancing, shadowing.",
        "| model.safetensors | smallcnn | 3 | 4 | 11 | float32 | 1.000 |",
        "mean 0.5, deviation 0.5",
        "licence of the data: made, free of rights",
        f"MD5 of the file: `{'0' * 32}`",
        "temperature 1.5",
        "is Youden's",
        "(120 cases)",
        "The sealed test has not been opened",
        "| trial 3 | 0.900 |",
        "are of 120 cases, which is few",
        "- Made by a program.",
        "medtune predict models:/medtune-phantom-binary@champion",
        "- medtune 0.1.0",
    ):
        assert part in text, part


def test_after_it_the_numbers_come_with_intervals_and_the_default_beside_them(folder: Path) -> None:
    text = written(folder, TEST)
    assert "On the test, 240 cases, first look; with 95 % intervals." in text and "not been opened" not in text
    assert "| AUROC | 0.912 (0.862 to 0.962) | 0.880 (0.830 to 0.930) | 0.032 (-0.018 to 0.082) |" in text
    assert "| ECE | 0.071 | 0.080 |" in text and "0.052 after" in text and "AUROC of 2 seeds: 0.912, 0.905" in text
    row = "| Youden | shadowing | 0.432 | 0.850 (0.800 to 0.900) | undefined: no case is negative |"
    assert row in text and "sensitivity ≥ 0.9" not in text


def test_another_look_and_what_was_trained_on_are_limits(folder: Path) -> None:
    description = {**read_description(folder), "train_on": "train+val", "channels": 3}
    (folder / "model.json").write_text(json.dumps(description))
    label = "look 2: the test had been opened once before, so it was sealed no longer"
    text = written(folder, {**TEST, "looks": 2, "label": label, "default": None})
    assert f"- {label}: its numbers are too high" in text and "trained on validation too" in text
    assert "grey, given to it as red, green and blue" in text
    assert "| AUROC | 0.912 (0.862 to 0.962) |\n" in text and "untuned" not in text


def test_a_model_of_an_earlier_version_has_a_card_too(folder: Path) -> None:
    description = read_description(folder)
    for name in ("decided", "outliers", "traps"):
        del description[name]
    (folder / "model.json").write_text(json.dumps(description))
    text = written(folder)
    assert "outliers: not looked for" in text and "above 0.5" in text


def test_of_an_ensemble_every_member_has_its_share(make_model: Any) -> None:
    text = written(make_model("ordinal", ("smallcnn", "smallcnn")))
    assert (
        ": an ensemble of 2 trials\n" in text
        and "an image is, in order: grade 0" in text
        and "decision: the likeliest class" in text
    )
    assert re.search(r"member-0.*\| 0\.333 \|\n.*member-1.*\| 0\.667 \|", text)


def test_where_there_is_no_model_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no model"):
        write_card(tmp_path)
