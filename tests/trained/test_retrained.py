"""What a retraining leaves beside the weights."""

from typing import Any

import pytest

from medtune.search.folder import SweepFolder
from medtune.trained.model import read_description
from medtune.unseal import unseal


@pytest.mark.parametrize("train_on", ["train", "train+val"])
def test_a_retrained_model_knows_its_data_and_has_a_card(
    finished: SweepFolder, retrain_best: Any, train_on: str
) -> None:
    (model,) = retrain_best(finished, 1, 1, train_on=train_on)
    description, text = read_description(model), (model / "MODEL_CARD.md").read_text()
    cases = 120 if train_on == "train" else 720
    assert description["outliers"]["cases"] == cases and (model / "outliers.safetensors").exists()
    assert "has not been opened" in text and "Made by a program" in text and f"({cases} cases)" in text
    unseal(finished, finished.config())
    assert "On the test, 240 cases, first look" in (model / "MODEL_CARD.md").read_text()
