from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medtune.config.space import Choice
from medtune.config.sweep import Data, SweepConfig
from medtune.config.trial import ModelConfig
from medtune.data import DataError
from medtune.models.build import build_model
from medtune.retraining.plan import plan_retrain
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.sweep import create_sweep, load_search_data, reopen_sweep
from medtune.search.worker import _on_device
from medtune.selection.ensembles import Ensemble, Member
from medtune.training.checkpoint import encode_weights
from medtune.unseal import unseal

Make = Callable[..., Path]


def phantom(seed: int = 0, **options: Any) -> SweepConfig:
    return SweepConfig(sweep="any", seed=seed, data=Data.model_validate({"dataset": "phantom-binary", **options}))


def test_the_data_of_another_sweep_has_another_key() -> None:
    others = [
        phantom(),
        phantom(difficulty=0.4),
        phantom(resize=16),
        phantom(as_rgb=True),
        phantom(train_fraction=0.5),
        phantom(train_fraction=0.5, seed=1),
    ]
    keys = [load_search_data(config).key for config in others]
    assert len(set(keys)) == len(keys) and load_search_data(phantom()).key == keys[0]


def test_as_rgb_is_for_the_batches_only() -> None:
    data = load_search_data(phantom(as_rgb=True))
    splits = _on_device(data, "cpu")
    train, val = splits.train, splits.val
    assert data.train.images.ndim == 3 and np.shares_memory(train.images.numpy(), data.train.images)
    assert train.channels == val.channels == 3 and val.batch(slice(0, 2))[0].shape == (2, 3, 28, 28)


@pytest.mark.usefixtures("cache")
class TestAFolderOfPictures:
    @pytest.fixture
    def pictures(self, make_pictures: Make) -> Path:
        return make_pictures({"a": 12, "b": 12})

    @pytest.fixture
    def config(self, tiny: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> SweepConfig:
        monkeypatch.chdir(pictures.parent)
        data = "data={folder: pictures, size: 28, as_rgb: true}"
        return tiny.config(data, "search.trials=2", "trial.epochs=1", "trial.batch_size=8")

    def test_errors_come_before_the_sweep_has_a_folder(self, config: SweepConfig, pictures: Path) -> None:
        (pictures / "a" / "bad.png").touch()
        with pytest.raises(DataError, match=r"1 of 25 pictures cannot be read: a/bad\.png"):
            create_sweep(config, pictures.parent / "sweep")
        assert not (pictures.parent / "sweep").exists()

    def test_the_whole_way(
        self,
        tiny: Any,
        config: SweepConfig,
        pictures: Path,
        retrain_best: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        create_sweep(config, pictures.parent / "sweep")[0].unlock()
        monkeypatch.chdir("/")
        folder, config = reopen_sweep(pictures.parent / "sweep")
        assert config.data.folder == str(pictures)
        tiny.run(tiny.open(folder))
        (path,) = retrain_best(folder, epochs=1)
        assert unseal(folder, config)["cases"] == 4 and '"dataset": "pictures"' in (path / "model.json").read_text()
        folder.unlock()

    def test_which_changed_is_refused_by_whatever_goes_on(self, config: SweepConfig, pictures: Path) -> None:
        folder, _ = create_sweep(config, pictures.parent / "sweep")
        folder.unlock()
        picture = Image.open(pictures / "a" / "0.png").copy()
        (pictures / "a" / "0.png").unlink()
        for go_on in (
            lambda: reopen_sweep(folder.path),
            lambda: plan_retrain(folder, folder.config(), Ensemble("single", (Member(0, 1, 1.0),))),
        ):
            with pytest.raises(FolderError, match="pictures has changed since the sweep .* began; bring the pictures"):
                go_on()
        picture.save(pictures / "a" / "0.png")
        reopened, _ = reopen_sweep(folder.path)  # and a refusal leaves no lock
        reopened.unlock()

    def test_and_is_not_tested_on_after_a_change(
        self, config: SweepConfig, pictures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, _ = create_sweep(config, pictures.parent / "sweep")
        monkeypatch.setattr("medtune.unseal.retrained_models", lambda folder: [])
        monkeypatch.setattr("medtune.unseal.load_sealed_test", lambda data: pytest.fail("the test was opened"))
        (pictures / "a" / "0.png").unlink()
        with pytest.raises(FolderError, match="has changed"):
            unseal(folder, folder.config())
        folder.unlock()


class TestWhatIsThereBeforeASweepStarts:
    def test_paths_are_right_from_anywhere_in_the_space_and_in_the_first_points(
        self, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        model = build_model(ModelConfig(name="smallcnn"), 1, 2, 28, torch.Generator().manual_seed(0))
        Path("w.safetensors").write_bytes(encode_weights(model))
        config = tiny.config(
            "trial.model={name: smallcnn, weights: {choice: [null, w.safetensors]}}",
            "search.start_with=[{model.weights: w.safetensors}]",
            "data.root=somewhere",
        )
        folder, run = create_sweep(config, tmp_path / "sweep")
        folder.unlock()
        absolute = str(tmp_path / "w.safetensors")
        assert run == folder.config() and run.data.root == str(tmp_path / "somewhere")
        assert run.trial["model"]["weights"] == Choice((None, absolute))
        monkeypatch.chdir("/")
        opened = tiny.open(folder)
        tiny.run(opened)
        assert all(entry.state != "failed" for entry in tiny.entries(folder))

    @pytest.mark.parametrize(
        ("model", "what"),
        [
            ("{name: {choice: [smallcnn, vit_small]}, weights: {choice: [null, imagenet]}}", "smallcnn|vit_small"),
            ("{weights: nowhere.pth}", "there is no such file"),
            ("{name: smallcnn, finetune: {choice: [all, {from: layr4}]}}", "no layer layr4"),
        ],
    )
    def test_a_model_that_cannot_be_is_refused_and_leaves_no_folder(
        self, tiny: Any, tmp_path: Path, model: str, what: str
    ) -> None:
        with pytest.raises((DataError, ValueError), match=what):
            create_sweep(tiny.config(f"trial.model={model}"), tmp_path / "sweep")
        assert not (tmp_path / "sweep").exists()

    def test_a_folder_with_a_sweep_is_refused_before_anything_is_fetched(
        self, tiny: Any, finished: SweepFolder
    ) -> None:
        with pytest.raises(FolderError, match="holds a sweep already"):
            create_sweep(tiny.config("trial.model.weights=nowhere.pth"), finished.path)
