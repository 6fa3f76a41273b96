"""What is far from the cases that a model was trained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from medtune.data import DataError
from medtune.data.batches import DeviceSplit, to_device
from medtune.data.phantoms import make_phantom
from medtune.trained.model import TrainedModel
from medtune.trained.outliers import (
    Gaussian,
    conformal_quantile,
    fit_outliers,
    network_features,
    read_outliers,
)
from medtune.trained.pictures import Predictor


def split(name: str, count: int, task: str = "binary") -> DeviceSplit:
    made = make_phantom(task, name, 0.3, 28)  # type: ignore[arg-type]
    return to_device(type(made)(made.images[:count], made.labels[:count]), "cpu")


def test_distances_of_a_gaussian_are_those_of_mahalanobis() -> None:
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(5, 5))
    small = 1e-3 * generator.normal(size=(20_000, 5)) @ mixing  # asinh is the identity near 0
    gaussian = Gaussian.of(np.sinh(small) * 1.0)
    scaled = np.arcsinh(np.sinh(small[:50]) / gaussian.scale)
    away = scaled - np.arcsinh(np.sinh(small) / gaussian.scale).mean(axis=0)
    covariance = np.cov(np.arcsinh(np.sinh(small) / gaussian.scale).T)
    wanted = np.sqrt(np.einsum("ci,ij,cj->c", away, np.linalg.inv(covariance), away))
    np.testing.assert_allclose(gaussian.distances(np.sinh(small[:50])), wanted, rtol=0.02)


def test_more_features_than_cases_and_dead_ones_have_distances() -> None:
    generator = np.random.default_rng(1)
    features = np.maximum(generator.normal(size=(30, 100)), 0)
    features[:, :40] = 0
    gaussian = Gaussian.of(features)
    assert np.isfinite(gaussian.distances(features)).all()
    assert gaussian.distances(50 + features).min() > 2 * gaussian.distances(features).max()


@pytest.mark.parametrize(("cases", "rank"), [(10, 10), (78, 78), (99, 99), (100, 100), (199, 198), (999, 990)])
def test_the_threshold_is_the_conformal_quantile(cases: int, rank: int) -> None:
    distances = np.random.default_rng(0).permutation(np.arange(1.0, cases + 1))
    assert conformal_quantile(distances, 0.99) == rank


def test_of_new_cases_one_in_a_hundred_lies_above_it() -> None:
    generator = np.random.default_rng(0)
    above = [
        (generator.normal(size=1000) > conformal_quantile(generator.normal(size=150), 0.99)).mean() for _ in range(500)
    ]
    assert 0.005 < np.mean(above) <= 0.0105


def test_what_was_learned_is_read_back(model_once: Path) -> None:
    model = TrainedModel.load(model_once)
    fitted = fit_outliers(model, split("train", 150), split("val", 120))
    read = read_outliers(model)
    assert fitted is not None and read is not None and read.cases == 120
    features = network_features(model, split("val", 120))
    np.testing.assert_array_equal(read.distances(features), fitted.distances(features))
    assert read.threshold == fitted.threshold and (read.distances(features) <= read.threshold).all()


def test_noise_and_blank_pictures_are_far_and_new_cases_of_its_kind_are_not(model_once: Path) -> None:
    predictor, generator = Predictor(model_once), np.random.default_rng(0)

    def far(images: np.ndarray) -> float:
        said = predictor.said(images)
        assert said.distances is not None and predictor.outliers is not None
        return float((said.distances > predictor.outliers.threshold).mean())

    new = make_phantom("binary", "train", 0.3, 28).images[300:500]
    assert far(new) < 0.05
    assert far(generator.integers(0, 256, (20, 28, 28), np.uint8)) == 1
    for grey in (0, 127, 255):
        assert far(np.full((1, 28, 28), grey, np.uint8)) == 1


def test_where_validation_was_trained_on_the_threshold_is_cross_fitted(model_once: Path) -> None:
    model = TrainedModel.load(model_once)
    fitted = fit_outliers(model, split("train", 400), None)
    assert fitted is not None and fitted.cases == 400
    new = fitted.distances(network_features(model, split("val", 120)))
    assert (new > fitted.threshold).mean() < 0.05


def test_too_few_cases_and_features_that_are_all_the_same_give_none(model_once: Path) -> None:
    model = TrainedModel.load(model_once)
    assert fit_outliers(model, split("train", 5), split("val", 5)) is None
    with torch.no_grad():
        for tensor in model.first.network.backbone.parameters():
            tensor.zero_()
    assert fit_outliers(model, split("train", 50), split("val", 50)) is None


def test_of_an_ensemble_the_features_are_those_of_the_greatest_weight(make_model: object) -> None:
    model = TrainedModel.load(make_model("multilabel", ("smallcnn", "smallcnn")))  # type: ignore[operator]
    assert model.first is model.members[1]
    predictor, images = Predictor(model.folder), make_phantom("multilabel", "val", 0.3, 28).images[:9]
    said = predictor.said(images)
    features = network_features(model, split("val", 9, "multilabel"))
    assert said.distances is not None and predictor.outliers is not None
    np.testing.assert_allclose(said.distances, predictor.outliers.distances(features), rtol=1e-5)


def test_what_does_not_fit_the_weights_is_refused(model_once: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_once, tmp_path / "copy"))
    (folder / "outliers.safetensors").unlink()
    with pytest.raises(DataError, match="is missing, or of another version of medtune"):
        Predictor(folder)
    description = json.loads((folder / "model.json").read_text())
    description["outliers"]["method"] = "other"
    (folder / "model.json").write_text(json.dumps(description))
    shutil.copy(model_once / "outliers.safetensors", folder)
    with pytest.raises(DataError, match="is missing, or of another version of medtune"):
        Predictor(folder)
