"""A trained model asked about pictures: calibrated probabilities, decisions, and what is far from its data."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medtune.data import DataError
from medtune.data.phantoms import make_phantom
from medtune.evaluation.calibrators import Temperature
from medtune.evaluation.metrics import probabilities
from medtune.trained.inputs import Source, sources
from medtune.trained.pictures import Answer, Predictor

MakeModel = Callable[..., Path]


@pytest.fixture
def model(model_once: Path, tmp_path: Path) -> Path:
    """A copy, to do with as a test likes."""
    return Path(shutil.copytree(model_once, tmp_path / "copy"))


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return make_phantom("binary", "val", 0.3, 28).images[:12]


@pytest.fixture
def pictures(images: NDArray[np.uint8], tmp_path: Path) -> Path:
    """Twelve cases, saved without loss."""
    (tmp_path / "pictures" / "deeper").mkdir(parents=True)
    for index, image in enumerate(images):
        where = tmp_path / "pictures" / ("deeper" if index > 5 else "")
        Image.fromarray(image).save(where / f"{index:02d}.png")
    return tmp_path / "pictures"


def answers(model: Path, *given: Path, array: str | None = None) -> list[Answer]:
    return list(Predictor(model).answers(sources(given, array)))


def shown(answered: Sequence[Answer]) -> NDArray[np.float64]:
    return np.array([answer.probabilities for answer in answered])


class TestPictures:
    def test_they_are_answered_as_the_same_images(self, model: Path, pictures: Path, images: NDArray[np.uint8]) -> None:
        predictor, answered = Predictor(model), answers(model, pictures)
        assert [answer.path.name for answer in answered] == [f"{index:02d}.png" for index in range(12)]
        said = predictor.said(images)
        np.testing.assert_allclose(shown(answered), said.probabilities, atol=1e-6)
        assert [answer.decision for answer in answered] == list(said.decisions)
        assert said.distances is not None and {answer.index for answer in answered} == {None}
        np.testing.assert_allclose([answer.distance for answer in answered], said.distances, rtol=1e-5)

    def test_the_saved_calibrator_and_threshold_are_used(self, model: Path, pictures: Path) -> None:
        def answered(calibrator: dict[str, Any], cut: float) -> list[Answer]:
            description = json.loads((model / "model.json").read_text())
            threshold = {"problem": 1, "rule": "youden", "value": None, "threshold": cut}
            description["decided"] = {"calibrator": calibrator, "thresholds": [threshold]}
            (model / "model.json").write_text(json.dumps(description))
            return answers(model, pictures)

        raw = shown(answered({"kind": "none"}, 0.5))
        np.testing.assert_allclose(probabilities(np.log(raw), "binary"), raw, atol=1e-6)
        cut = float(np.median(raw[:, 1]))
        cooled = answered({"kind": "temperature", "temperature": 4.0}, cut)
        np.testing.assert_allclose(Temperature(4.0).apply(np.log(raw), "binary"), shown(cooled), atol=1e-6)
        plain = answered({"kind": "none"}, cut)
        assert [one.decision == "shadowing" for one in plain] == [row[1] >= cut for row in shown(plain)]
        assert len({one.decision for one in plain}) == 2

    def test_colour_and_another_size_are_brought_to_the_models(self, model: Path, tmp_path: Path) -> None:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)).save(tmp_path / "colour.jpg")
        (answer,) = answers(model, tmp_path / "colour.jpg")
        assert sum(answer.probabilities) == pytest.approx(1)

    def test_a_bad_file_is_named_and_the_others_are_answered(self, model: Path, pictures: Path) -> None:
        (pictures / "03.png").write_bytes(b"no picture")
        answered = answers(model, pictures)
        assert [bool(answer.why) for answer in answered] == [index == 3 for index in range(12)]
        assert answered[3].why == "no picture, whatever its name says" and len(answered[4].probabilities) == 2

    def test_what_is_no_model_and_what_holds_no_pictures(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no model: give a folder with a model.json"):
            Predictor(tmp_path)
        with pytest.raises(DataError, match="holds no pictures"):
            sources([tmp_path])
        with pytest.raises(DataError, match="there is no such file or folder"):
            sources([tmp_path / "gone.png"])

    def test_a_model_that_was_saved_without_distances_answers_without(self, model: Path, pictures: Path) -> None:
        description = json.loads((model / "model.json").read_text())
        del description["outliers"], description["decided"]
        (model / "model.json").write_text(json.dumps(description))
        (model / "outliers.safetensors").unlink()
        answer = answers(model, pictures)[0]
        assert (answer.distance, answer.outlier) == (None, None) and len(answer.probabilities) == 2


class TestArrays:
    def test_an_array_is_answered_as_the_pictures_are(
        self, model: Path, pictures: Path, images: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(12))
        answered = answers(model, tmp_path / "one.npz")
        assert [answer.index for answer in answered] == list(range(12))
        np.testing.assert_allclose(shown(answered), shown(answers(model, pictures)), atol=1e-6)

    def test_of_several_arrays_one_must_be_named_and_no_other_is_read(
        self, model: Path, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "set.npz"
        np.savez(path, train_images=images, val_images=images[:2], test_images=np.zeros(1))
        with pytest.raises(DataError, match="several arrays of images: say which with --array: train_images, val_im"):
            sources([path])
        with pytest.raises(DataError, match="has no array images: there are train_images, val_images, test_images"):
            sources([path], "images")
        opened: list[str] = []
        real = zipfile_open()
        monkeypatch.setattr("zipfile.ZipFile.open", lambda self, name, *rest: opened.append(name) or real(self, name))
        assert len(answers(model, path, array="val_images")) == 2
        assert opened == ["val_images.npy"]

    def test_colour_and_other_sizes_are_brought_to_the_models_like_pictures(self, model: Path, tmp_path: Path) -> None:
        large = np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), np.uint8)
        np.savez(tmp_path / "large.npz", images=large)
        for index, image in enumerate(large):
            Image.fromarray(image).save(tmp_path / f"{index}.png")
        as_pictures = answers(model, *(tmp_path / f"{index}.png" for index in range(3)))
        np.testing.assert_allclose(shown(answers(model, tmp_path / "large.npz")), shown(as_pictures), atol=1e-6)

    def test_of_what_is_no_square_the_middle_is_kept(self, model: Path, tmp_path: Path) -> None:
        wide = np.zeros((1, 28, 60), np.uint8)
        wide[:, :, 16:44] = make_phantom("binary", "val", 0.3, 28).images[:1]
        np.savez(tmp_path / "wide.npz", images=wide)
        np.savez(tmp_path / "square.npz", images=wide[:, :, 16:44])
        both = shown(answers(model, tmp_path / "wide.npz", tmp_path / "square.npz"))
        np.testing.assert_array_equal(both[0], both[1])

    @pytest.mark.parametrize(
        ("array", "why"),
        [
            (np.zeros((2, 28, 28)), r"images is float64 \(2, 28, 28\): uint8 \(n, height, width\) or"),
            (np.zeros((2, 28, 28, 4), np.uint8), r"images is uint8 \(2, 28, 28, 4\)"),
            (np.array([{"a": 1}]), "images is object"),
            (np.zeros((2, 3, 5), np.uint8, order="F"), "columns first"),
        ],
    )
    def test_what_is_no_array_of_images_is_named_and_the_rest_goes_on(
        self, array: NDArray[Any], why: str, model: Path, pictures: Path, tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "bad.npz", images=array)
        bad, *others = answers(model, tmp_path / "bad.npz", pictures)
        assert bad.path.name == "bad.npz" and len(others) == 12 and not any(one.why for one in others)
        with pytest.raises(AssertionError, match=why):
            raise AssertionError(bad.why)

    def test_damage_is_named_after_what_could_be_read(
        self, model: Path, images: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        path = tmp_path / "cut.npz"
        np.savez(path, images=images)
        data = bytearray(path.read_bytes())
        data[3000] ^= 255
        path.write_bytes(data)
        *_, last = answers(model, path)
        assert "images is damaged" in last.why
        path.write_bytes(b"PK no")
        (only,) = answers(model, path)
        assert only.why == "no .npz file, whatever its name says"
        np.savez(path, labels=np.zeros(3))
        assert answers(model, path)[0].why.startswith("no array of images")

    def test_an_empty_array_has_no_answers(self, model: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "none.npz", images=np.zeros((0, 28, 28), np.uint8))
        assert answers(model, tmp_path / "none.npz") == []

    def test_an_npz_in_a_folder_is_not_opened(self, pictures: Path) -> None:
        np.savez(pictures / "set.npz", images=np.zeros((1, 28, 28), np.uint8))
        assert all(isinstance(one, Source) and one.array is None for one in sources([pictures]))
        assert len(sources([pictures])) == 12


def zipfile_open() -> Callable[..., Any]:
    import zipfile

    return zipfile.ZipFile.open
