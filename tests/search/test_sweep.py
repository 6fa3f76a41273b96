from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtune.config.sweep import Data, SweepConfig
from medtune.data import DataError
from medtune.retrain import plan_retrain, retrain
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.sweep import create_sweep, load_search_data, reopen_sweep
from medtune.search.worker import _on_device
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
    train, val = _on_device(data, "cpu")
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
        self, tiny: Any, config: SweepConfig, pictures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create_sweep(config, pictures.parent / "sweep").unlock()
        monkeypatch.chdir("/")
        folder, config = reopen_sweep(pictures.parent / "sweep")
        assert config.data.folder == str(pictures)
        tiny.run(tiny.open(folder))
        (path,) = retrain(folder, config, plan_retrain(folder, config, None, 1), lambda *_: None)
        assert unseal(folder, config)["cases"] == 4 and '"dataset": "pictures"' in (path / "model.json").read_text()
        folder.unlock()

    def test_which_changed_is_refused_by_whatever_goes_on(self, config: SweepConfig, pictures: Path) -> None:
        folder = create_sweep(config, pictures.parent / "sweep")
        folder.unlock()
        picture = Image.open(pictures / "a" / "0.png").copy()
        (pictures / "a" / "0.png").unlink()
        for go_on in (
            lambda: reopen_sweep(folder.path),
            lambda: plan_retrain(folder, folder.config(), None, None),
        ):
            with pytest.raises(FolderError, match="pictures has changed since the sweep .* began; bring the pictures"):
                go_on()
        picture.save(pictures / "a" / "0.png")
        reopened, _ = reopen_sweep(folder.path)  # and a refusal leaves no lock
        reopened.unlock()

    def test_and_is_not_tested_on_after_a_change(
        self, config: SweepConfig, pictures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder: SweepFolder = create_sweep(config, pictures.parent / "sweep")
        monkeypatch.setattr("medtune.unseal.retrained_models", lambda folder: [])
        monkeypatch.setattr("medtune.unseal.load_sealed_test", lambda data: pytest.fail("the test was opened"))
        (pictures / "a" / "0.png").unlink()
        with pytest.raises(FolderError, match="has changed"):
            unseal(folder, folder.config())
        folder.unlock()
