import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medtune.cli import main
from medtune.config.read import ConfigError
from medtune.config.space import Choice
from medtune.config.sweep import Data, SweepConfig
from medtune.config.trial import ModelConfig
from medtune.config.yaml_text import parse
from medtune.data import DataError
from medtune.models.build import build_model
from medtune.retraining.plan import plan_retrain
from medtune.search.changes import changes
from medtune.search.folder import FORMAT, FolderError, SweepFolder
from medtune.search.loading import load_search_data
from medtune.search.sweep import create_sweep, reopen_sweep
from medtune.search.worker import _on_device
from medtune.selection.ensembles import Ensemble, Member
from medtune.training.checkpoint import encode_weights
from medtune.unseal import unseal

Make = Callable[..., Path]


def phantom(seed: int = 0, **options: Any) -> SweepConfig:
    return SweepConfig(sweep="any", seed=seed, data=Data.model_validate({"dataset": "phantom-binary", **options}))


def reopened(path: Path, *overrides: str) -> tuple[SweepFolder, SweepConfig]:
    folder = SweepFolder.open(path)
    folder.lock()
    return reopen_sweep(folder, overrides)


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
            create_sweep(config, SweepFolder.claim(pictures.parent / "sweep"))
        assert not (pictures.parent / "sweep").exists()

    def test_the_whole_way(
        self,
        tiny: Any,
        config: SweepConfig,
        pictures: Path,
        retrain_best: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        create_sweep(config, SweepFolder.claim(pictures.parent / "sweep"))[0].unlock()
        monkeypatch.chdir("/")
        folder, config = reopened(pictures.parent / "sweep")
        assert config.data.folder == str(pictures)
        tiny.run(tiny.open(folder))
        (path,) = retrain_best(folder, epochs=1)
        assert unseal(folder, config)["cases"] == 4 and '"dataset": "pictures"' in (path / "model.json").read_text()
        folder.unlock()

    def test_which_changed_is_refused_by_whatever_goes_on(self, config: SweepConfig, pictures: Path) -> None:
        folder, _ = create_sweep(config, SweepFolder.claim(pictures.parent / "sweep"))
        folder.unlock()
        picture = Image.open(pictures / "a" / "0.png").copy()
        (pictures / "a" / "0.png").unlink()
        for go_on in (
            lambda: reopened(folder.path),
            lambda: plan_retrain(folder, folder.config(), Ensemble("single", (Member(0, 1, 1.0),))),
        ):
            with pytest.raises(FolderError, match="pictures has changed since the sweep .* began; bring the pictures"):
                go_on()
        picture.save(pictures / "a" / "0.png")
        again, _ = reopened(folder.path)  # and a refusal leaves no lock
        again.unlock()

    def test_and_is_not_tested_on_after_a_change(
        self, config: SweepConfig, pictures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, _ = create_sweep(config, SweepFolder.claim(pictures.parent / "sweep"))
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
        folder, run = create_sweep(config, SweepFolder.claim(tmp_path / "sweep"))
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
        with pytest.raises((ConfigError, DataError), match=what):
            create_sweep(tiny.config(f"trial.model={model}"), SweepFolder.claim(tmp_path / "sweep"))
        assert not (tmp_path / "sweep").exists()


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> SweepFolder:
    return tiny.create(tmp_path / "tiny")


class TestASweepFileThatWasChangedBeforeAResume:
    def edit(self, folder: SweepFolder, *edits: tuple[str, str]) -> None:
        text = folder.config_file.read_text()
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        folder.config_file.write_text(text)

    def test_gives_what_can_change_with_a_line_each(
        self, folder: SweepFolder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.edit(
            folder,
            ("trials: 5", "trials: 9  # more"),
            ("hours: null", "hours: 2"),
            ("max_concurrent: auto", "max_concurrent: 1"),
        )
        edited = folder.config_file.read_text()
        folder, config = reopened(folder.path)
        folder.unlock()
        assert (config.search.trials, config.budget.hours, config.resources.max_concurrent) == (9, 2.0, 1)
        said = [
            "changed  search.trials 5 -> 9",
            "changed  resources.max_concurrent auto -> 1",
            "changed  budget.hours null -> 2.0",
        ]
        assert capsys.readouterr().err.splitlines() == said
        assert folder.config_file.read_text() == edited  # it is the user's
        reopened(folder.path)[0].unlock()
        assert capsys.readouterr().err == ""

    def test_or_by_set_which_is_written_into_it(self, folder: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
        folder, config = reopened(
            folder.path, "search.trials=60", "tracking.uri=http://me:secret@host", "keep.weights=1"
        )
        folder.unlock()
        assert folder.config() == config and config.search.trials == 60 and config.keep.weights == 1
        err = capsys.readouterr().err
        assert "changed  tracking.uri null -> http://me@host" in err and "secret" not in err
        assert "secret" not in folder.begun_file.read_text()

    def test_all_that_cannot_is_refused_at_once_each_at_its_place(self, tiny: Any, folder: SweepFolder) -> None:
        self.edit(
            folder,
            ("epochs: 3", "epochs: 30"),
            ("log_uniform: [0.0001, 0.01]", "log_uniform: [0.0001, 0.02]"),
            ("name: asha", "name: none  # all of them"),
            ("  grace_epochs: 1\n  reduction_factor: 3.0\n", ""),
            ("trials: 5", "trials: 7"),
            ("storage: null", "storage: /else"),
        )
        lines = folder.config_file.read_text().splitlines()
        with pytest.raises(ConfigError) as refused:
            reopened(folder.path, "seed=3")
        end = ": a sweep that has begun cannot change it; put it back, or start another sweep with --folder"
        found = {}
        for problem in refused.value.problems:
            where, what = problem.removesuffix(end).split(": ", 1)
            assert problem.endswith(end)
            found[what] = where
        assert list(found) == [
            "trial.epochs was 3, is 30",
            "trial.optimizer.lr.log_uniform was [0.0001, 0.01], is [0.0001, 0.02]",
            "pruning.name was asha, is none",
            "cluster.storage was null, is /else",
            "seed was 0, is 3",
        ]
        assert found.pop("seed was 0, is 3") == "--set seed=3"
        for what, where in found.items():
            path, line, column = where.rsplit(":", 2)
            assert path == str(folder.config_file)
            assert lines[int(line) - 1][int(column) - 1 :].startswith(what.rpartition("is ")[2])
        folder.lock()  # the refusal leaves no lock
        folder.unlock()

    def test_looks_through_order_comments_and_form(
        self, folder: SweepFolder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tree = parse(folder.config_file.read_text()).tree
        folder.config_file.write_text("# mine\n" + json.dumps(dict(reversed(tree.items())), indent=1) + "\n")
        reopened(folder.path)[0].unlock()
        assert capsys.readouterr().err == ""

    def test_in_a_folder_of_an_earlier_version_is_taken_as_it_is(self, folder: SweepFolder) -> None:
        folder.begun_file.unlink()
        (folder.path / "sweep.format").unlink()
        self.edit(folder, ("epochs: 3", "epochs: 4"))
        folder, config = reopened(folder.path)
        folder.unlock()
        assert config.trial["epochs"] == 4 and folder.format[0] == FORMAT
        self.edit(folder, ("epochs: 4", "epochs: 5"))
        with pytest.raises(ConfigError, match=r"sweep.yaml:\d+:\d+: trial.epochs was 4, is 5"):
            reopened(folder.path)

    def test_the_password_of_the_ledger_is_no_change_and_its_place_is(self, tiny: Any) -> None:
        one, other, elsewhere = (
            tiny.config(f"cluster.ledger=postgresql://{address}/db")
            for address in ("me:secret@host", "me@host", "me@there")
        )
        assert changes(one, other) == []
        (change,) = changes(one, elsewhere)
        assert (change.key, change.before, change.taken) == ("cluster.ledger", "postgresql://me@host/db", False)


def test_a_sweep_where_one_is_already_says_what_is_there_and_how_it_differs(
    tiny: Any, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}
    command = ["medtune", "sweep", str(tiny.file), "--folder", str(finished.path)]
    monkeypatch.setattr(sys, "argv", [*command, "--set", "search.trials=8", "--set", "trial.epochs=4"])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1
    counts = Counter(entry.state for entry in tiny.entries(finished))
    assert "holds a sweep already (begun 20" in err and f"5 trials: {counts['complete']} complete, " in err
    assert "best val/auroc 0." in err and f"`medtune resume {finished.path}` goes on with it" in err
    assert "tiny.yaml is not the same: trial.epochs is 3 there and 4 here, search.trials is 5 there and 8 here" in err
    after = {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} <= {"sweep.lock"}
    assert {path: after[path] for path in before} == before
