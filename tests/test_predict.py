"""A retrained model asked about pictures: the probabilities of its own evaluation, recalibrated."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtune.data import DataError
from medtune.data.splits import load_search_splits
from medtune.evaluation.calibrators import Temperature, calibrator_from_json
from medtune.evaluation.metrics import probabilities
from medtune.predict import Predictor, pictures_below
from medtune.retrain import plan_retrain, retrain
from medtune.search.folder import SweepFolder


@pytest.fixture
def model(finished: SweepFolder) -> Path:
    config = finished.config()
    return retrain(finished, config, plan_retrain(finished, config, 1, 1), lambda *_: None)[0]


@pytest.fixture
def pictures(finished: SweepFolder, tmp_path: Path) -> Path:
    """Twelve cases of validation, saved without loss."""
    (tmp_path / "pictures" / "deeper").mkdir(parents=True)
    for index, image in enumerate(load_search_splits(finished.config().data)[1].images[:12]):
        where = tmp_path / "pictures" / ("deeper" if index > 5 else "")
        Image.fromarray(image.squeeze()).save(where / f"{index:02d}.png")
    return tmp_path / "pictures"


def test_they_are_those_of_the_same_images_recalibrated(model: Path, pictures: Path, finished: SweepFolder) -> None:
    description = json.loads((model / "model.json").read_text())
    val = load_search_splits(finished.config().data)[1]
    predictor = Predictor(model)
    wanted = predictor.probabilities(val.images[:12])
    answers = list(predictor.answers(pictures_below([pictures])))
    assert [answer.path.name for answer in answers] == [f"{index:02d}.png" for index in range(12)]
    np.testing.assert_allclose([answer.probabilities for answer in answers], wanted, atol=1e-6)
    assert [answer.decision for answer in answers] == [predictor.classes[int(row[1] > 0.5)] for row in wanted]
    assert calibrator_from_json(description["decided"]["calibrator"]) == predictor.calibrator


def test_the_saved_calibrator_is_applied(model: Path, pictures: Path) -> None:
    def answered(calibrator: dict[str, Any]) -> np.ndarray:
        description = json.loads((model / "model.json").read_text())
        description["decided"]["calibrator"] = calibrator
        (model / "model.json").write_text(json.dumps(description))
        return np.array([answer.probabilities for answer in Predictor(model).answers(pictures_below([pictures]))])

    raw, cooled = answered({"kind": "none"}), answered({"kind": "temperature", "temperature": 4.0})
    np.testing.assert_allclose(Temperature(4.0).apply(np.log(raw), "binary"), cooled, atol=1e-6)
    np.testing.assert_allclose(probabilities(np.log(raw), "binary"), raw, atol=1e-6)


def test_colour_and_another_size_are_brought_to_the_models(model: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)).save(tmp_path / "colour.jpg")
    (answer,) = Predictor(model).answers([tmp_path / "colour.jpg"])
    assert sum(answer.probabilities) == pytest.approx(1)


def test_a_bad_file_is_named_and_the_others_are_answered(model: Path, pictures: Path) -> None:
    (pictures / "03.png").write_bytes(b"no picture")
    answers = list(Predictor(model).answers(pictures_below([pictures])))
    assert [bool(answer.why) for answer in answers] == [index == 3 for index in range(12)]
    assert answers[3].why == "no picture, whatever its name says" and len(answers[4].probabilities) == 2


def test_what_is_no_model_and_what_holds_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no model: give a folder with a model.json"):
        Predictor(tmp_path)
    with pytest.raises(DataError, match="holds no pictures"):
        pictures_below([tmp_path])
    with pytest.raises(DataError, match="there is no such file or folder"):
        pictures_below([tmp_path / "gone.png"])
