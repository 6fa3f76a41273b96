import base64
import http.client
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from PIL import Image

from medtune.config.trial import TrialConfig
from medtune.data import DataError
from medtune.evaluation.appraisal import Decided
from medtune.evaluation.calibrators import Temperature
from medtune.evaluation.thresholds import Target, Threshold
from medtune.models.build import build_model
from medtune.search.folder import SweepFolder
from medtune.search.record import RecordError
from medtune.tracking import retrained
from medtune.tracking.mirror import Mirror, drain
from medtune.tracking.packaged import model_digest, requirements, save_pyfunc, version_tags
from medtune.tracking.registry import fetch_model, in_words, may_be_champion, told_of
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import SWEEP, Spool
from medtune.tracking.tracker import Tracker
from medtune.trained.card import registered_name
from medtune.trained.model import FORMAT, write_description, write_weights
from medtune.trained.pictures import Predictor

CLASSES = ("benign", "malignant")
DATA = "0" * 32


def write_model(folder: Path, seed: int = 0, dataset: str = "phantom-binary", channels: int = 1) -> Path:
    """A model of drawn weights, with a temperature and a threshold that both change what it says."""
    config = TrialConfig.model_validate({"model": {"name": "smallcnn"}, "precision": "float32"})
    network = build_model(config.model, channels, len(CLASSES), 28, torch.Generator().manual_seed(seed))
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    (name,) = write_weights(folder, [weights])
    member = {"weights": name, "weight": 1.0, "trial": 4, "precision": "float32", "config": config.model_dump()}
    decided = Decided(Temperature(0.25), [Threshold(1, Target("youden"), 0.52)])
    write_description(
        folder,
        {
            "format": FORMAT,
            "dataset": dataset,
            "data_md5": DATA,
            "task": "binary",
            "classes": CLASSES,
            "channels": channels,
            "data_channels": channels,
            "size": 28,
            "sweep": "tiny",
            "chosen": "trial 4 up to epoch 2",
            "members": [member],
            "decided": decided.as_json(),
        },
    )
    return folder


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


class TestThePyfunc:
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_model(tmp_path_factory.mktemp("served") / "model")

    @pytest.fixture(scope="class")
    @classmethod
    def saved(cls, model: Path) -> Path:
        (model / "test.npz").write_bytes(b"what was sealed")
        save_pyfunc(model, model.with_name("pyfunc"))
        return model.with_name("pyfunc")

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, saved: Path) -> Any:
        return mlflow.pyfunc.load_model(str(saved))

    @pytest.fixture
    def predictor(self, model: Path) -> Predictor:
        return Predictor(model)

    def test_it_holds_the_model_its_code_and_no_pickle(self, saved: Path) -> None:
        files = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
        ours = {name for name in files if name.startswith("artifacts")}
        assert ours == {"artifacts/model/model.json", "artifacts/model/model.safetensors"}
        assert {"served.py", "code/medtune/trained/pictures.py", "requirements.txt"} <= files
        assert {Path(name).suffix for name in files} == {".py", ".json", ".safetensors", ".txt", ".yaml", ""}
        assert not any(name.startswith(f"code/medtune/{room}") for name in files for room in ("search", "cli", "track"))

    def test_it_says_nothing_of_where_it_was_made(self, saved: Path) -> None:
        for path in ("MLmodel", "conda.yaml", "requirements.txt"):
            assert str(Path(retrained.__file__).parents[2]) not in (saved / path).read_text()

    def test_requirements_are_pinned_and_on_an_index(self, saved: Path, model: Path) -> None:
        listed = (saved / "requirements.txt").read_text().split()
        assert listed == requirements(model)
        assert f"torch=={torch.__version__.partition('+')[0]}" in listed and not any("+" in line for line in listed)
        assert not [line for line in listed if line.startswith(("timm", "medmnist", "ray", "medtune"))]

    def test_timm_is_needed_by_a_model_of_it_alone(self, model: Path, tmp_path: Path) -> None:
        if importlib.util.find_spec("timm") is None:
            pytest.skip("timm is an extra")
        description = json.loads((model / "model.json").read_text())
        description["members"][0]["config"]["model"]["name"] = "timm/resnet10t"
        (tmp_path / "model.json").write_text(json.dumps(description))
        assert any(line.startswith("timm==") for line in requirements(tmp_path))

    def test_an_array_of_the_models_size(self, served: Any, predictor: Predictor) -> None:
        images = drawn(5, 28, 28)
        answers = served.predict(images)
        assert list(answers.columns) == [*CLASSES, "decision"] and len(answers) == 5
        np.testing.assert_allclose(answers[list(CLASSES)], predictor.probabilities(images), atol=1e-12)
        by_threshold = [CLASSES[int(value >= 0.52)] for value in answers["malignant"]]
        assert list(answers["decision"]) == by_threshold

    def test_any_size_in_grey_or_colour_is_the_same_as_a_file_of_it(
        self, served: Any, predictor: Predictor, tmp_path: Path
    ) -> None:
        from medtune.trained.inputs import sources

        for shape in ((40, 52), (17, 9), (60, 31, 3)):
            image = drawn(*shape)
            path = tmp_path / "picture.png"
            path.write_bytes(png(image))
            (asked,) = predictor.answers(sources([path]))
            coded = base64.b64encode(png(image)).decode()
            given = (image[None], [image], pd.DataFrame({"path": [str(path)]}), pd.DataFrame({"image": [coded]}))
            for batch in given:
                (row,) = served.predict(batch).to_dict("records")
                np.testing.assert_allclose([row[name] for name in CLASSES], asked.probabilities, atol=1e-6)
                assert row["decision"] == asked.decision

    def test_whole_numbers_from_json(self, served: Any) -> None:
        images = drawn(2, 30, 30)
        pd.testing.assert_frame_equal(served.predict(images.astype(np.int64)), served.predict(images))

    def test_no_images(self, served: Any) -> None:
        assert served.predict(np.zeros((0, 28, 28), np.uint8)).empty

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (drawn(2, 28, 28) / 255, "row 0 holds float64 from 0"),
            (drawn(2, 28, 28).astype(np.int64) * 2, "row 0 holds int64 from 0 to"),
            (drawn(28, 28), r"row 0 has the shape \(28,\)"),
            (drawn(2, 28, 28, 4), r"row 0 has the shape \(28, 28, 4\)"),
            (np.array([["a"]]), "row 0 has the shape"),
            ({"images": drawn(2, 28, 28)}, "dict is no batch"),
            (pd.DataFrame({"file": ["a.png"]}), "has the columns file"),
            (pd.DataFrame({"path": ["a.png"], "image": ["b"]}), "has the columns path, image"),
            (pd.DataFrame({"path": ["/none/a.png", 3]}), "row 0, /none/a.png: .*No such file.*; row 1, 3: int is no"),
            (pd.DataFrame({"image": ["!"]}), "row 0: no base64"),
            (pd.DataFrame({"image": [base64.b64encode(b"text").decode()]}), "row 0: no picture"),
            (pd.DataFrame({"image": ["!"] * 9}), "; and 4 more$"),
        ],
    )
    def test_what_is_no_batch_is_one_line(self, served: Any, given: Any, told: str) -> None:
        with pytest.raises(MlflowException, match=told) as refused:
            served.predict(given)
        assert refused.value.get_http_status_code() == 400 and "\n" not in refused.value.message

    def test_grey_pictures_for_a_model_of_colours(self, tmp_path: Path) -> None:
        save_pyfunc(write_model(tmp_path / "model", channels=3), tmp_path / "pyfunc")
        served, grey = mlflow.pyfunc.load_model(str(tmp_path / "pyfunc")), drawn(2, 28, 28)
        pd.testing.assert_frame_equal(served.predict(grey), served.predict(np.repeat(grey[..., None], 3, axis=3)))

    @pytest.mark.slow
    def test_its_code_imports_nothing_that_is_not_required(self, saved: Path) -> None:
        """In a process of its own: only the rooms that lie beside the model, and none of medtune's other libraries."""
        absent = "cmaes filelock fsspec matplotlib medmnist mlflow optuna pandas platformdirs ray requests rich ruamel"
        absent = f"{absent} sklearn tensorboard timm torchvision typer"
        code = (
            f"import sys; sys.path.insert(0, {str(saved / 'code')!r})\n"
            "import torch, scipy.special, scipy.optimize, scipy.sparse, safetensors.torch, pydantic, PIL.Image\n"
            f"for name in {absent.split()!r}: sys.modules[name] = None\n"
            "import medtune.trained.pictures as loaded; print(loaded.__file__)\n"
            f"loaded.Predictor(__import__('pathlib').Path({str(saved / 'artifacts' / 'model')!r}))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=saved)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(saved / "code/medtune/trained/pictures.py")


def test_names_are_such_that_mlflow_takes() -> None:
    assert registered_name("breastmnist") == "medtune-breastmnist"
    assert registered_name("a folder: x/y") == "medtune-a-folder-x-y"


def test_a_digest_is_of_the_model_and_not_of_its_place(tmp_path: Path) -> None:
    one, same, other = (write_model(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert model_digest(one) == model_digest(same) != model_digest(other)
    description = json.loads((same / "model.json").read_text())
    (same / "model.json").write_text(json.dumps({**description, "chosen": "another"}))
    assert model_digest(one) != model_digest(same)


class Registered:
    """Sweeps on one database, whose retrained models are registered and tested through the spool."""

    def __init__(self, tiny: Any, runs: Path) -> None:
        self.tiny, self.runs, self.sweeps = tiny, runs, 0
        self.uri = f"sqlite:///{runs / 'mlflow.db'}"

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def sweep(self) -> SweepFolder:
        self.sweeps += 1
        folder: SweepFolder = self.tiny.create(self.runs / f"tiny-{self.sweeps}")
        spool = Spool(folder.tracking / "spool.jsonl")
        spool.start(SWEEP, {})
        spool.start("retrain-0", {}, parent=SWEEP)
        return folder

    def register(self, folder: SweepFolder, name: str, seed: int = 0, **description: Any) -> None:
        path = write_model(folder.path / "retrain" / "model", seed)
        if description:
            known = json.loads((path / "model.json").read_text())
            (path / "model.json").write_text(json.dumps({**known, **description}))
        tags = version_tags(path, folder.sweep_id)
        Spool(folder.tracking / "spool.jsonl").register("retrain-0", "retrain/model", name, tags)

    def promote(self, folder: SweepFolder, name: str, low: Any, value: Any, high: Any, force: bool = False) -> None:
        tags = version_tags(folder.path / "retrain" / "model", folder.sweep_id)
        tested = {"auroc": {"value": value, "low": low, "high": high}, "looks": 1}
        Spool(folder.tracking / "spool.jsonl").promote("retrain-0", "retrain/model", name, tags, tested, force)

    def versions(self, name: str) -> list[Any]:
        found = self.client.search_model_versions(f"name = '{name}'")
        return sorted((self.client.get_model_version(name, one.version) for one in found), key=lambda v: int(v.version))

    def champion(self, name: str) -> str | None:
        number = self.client.get_registered_model(name).aliases.get("champion")
        return None if number is None else str(number)


@pytest.fixture(scope="module")
def registered(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    return Registered(tiny, tmp_path_factory.mktemp("registered") / "runs")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a registered model that no other test knows."""
    return f"medtune-{registered_name(request.node.name)}"


class TestRegistering:
    def test_a_model_becomes_a_version_with_what_is_known_of_it(self, registered: Registered, name: str) -> None:
        folder = registered.sweep()
        registered.register(folder, name)
        assert drain(folder)
        (version,) = registered.versions(name)
        run = registered.client.get_run(version.run_id)
        assert run.data.tags["medtune.run"] == "retrain-0"
        assert version.tags == {
            "medtune.sweep": "tiny",
            "medtune.sweep_id": folder.sweep_id,
            "medtune.trial": "4",
            "medtune.chosen": "trial 4 up to epoch 2",
            "medtune.dataset": "phantom-binary",
            "medtune.size": "28",
            "medtune.data_md5": DATA,
            "medtune.model": model_digest(folder.path / "retrain" / "model"),
            "medtune.state": "registered",
        }
        assert registered.champion(name) is None
        told = told_of(folder, True)
        assert in_words(told) == f"registry: models:/{name}/1 is registered" and told["champion"] is None

    def test_once_for_each_model_however_often_it_is_carried_over(self, registered: Registered, name: str) -> None:
        folder = registered.sweep()
        for seed in (0, 1):
            registered.register(folder, name, seed)
            assert drain(folder)
        (folder.tracking / "state").unlink()
        registered.register(folder, name, 1)
        assert drain(folder)
        first, second = registered.versions(name)
        assert first.source != second.source and first.run_id == second.run_id
        mlflow.set_tracking_uri(registered.uri)
        images = drawn(3, 28, 28)
        for version, seed in ((first, 0), (second, 1)):
            served = mlflow.pyfunc.load_model(f"models:/{name}/{version.version}")
            expected = Predictor(write_model(folder.path / f"again-{seed}", seed)).probabilities(images)
            np.testing.assert_allclose(served.predict(images)[list(CLASSES)], expected, atol=1e-6)

    def test_the_same_model_of_two_sweeps_is_two_versions(self, registered: Registered, name: str) -> None:
        for folder in (registered.sweep(), registered.sweep()):
            registered.register(folder, name)
            assert drain(folder)
        assert len(registered.versions(name)) == 2

    @pytest.mark.parametrize(
        "call",
        [
            "log_artifacts",
            "create_registered_model",
            "create_model_version",
            "set_model_version_tag",
            "set_registered_model_alias",
        ],
    )
    def test_killed_in_any_call_it_goes_on_to_the_same_end(
        self, registered: Registered, name: str, call: str, killed_in: Any
    ) -> None:
        folder = registered.sweep()
        registered.register(folder, name)
        registered.promote(folder, name, 0.8, 0.9, 0.95)
        with killed_in(mlflow.MlflowClient, call):
            Mirror(folder).carry_over()
        assert drain(folder)
        (version,) = registered.versions(name)
        assert registered.champion(name) == str(version.version) == "1"
        assert version.tags["medtune.state"] == "tested" and version.tags["medtune.looks"] == "1"

    def test_a_model_that_is_no_longer_there_holds_nothing_up(
        self, registered: Registered, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = registered.sweep()
        registered.register(folder, name)
        registered.promote(folder, name, 0.8, 0.9, 0.95)
        write_model(folder.path / "retrain" / "model", seed=1)  # retrained anew before the server could be reached
        Spool(folder.tracking / "spool.jsonl").metrics("retrain-0", 1, 5.0, {"late": 0.5})
        assert drain(folder)
        told = capsys.readouterr().err
        assert f"registering {name}: left out: " in told and "no longer holds this model" in told
        assert f"promoting {name}: left out: it is not registered" in told
        (run,) = [run for run in _runs(registered, folder) if run.data.tags["medtune.run"] == "retrain-0"]
        assert run.data.metrics == {"late": 0.5}
        assert "mirror.log says why" in in_words(told_of(folder, True))

    @pytest.mark.parametrize(("code", "kept"), [("ENDPOINT_NOT_FOUND", False), ("INTERNAL_ERROR", True)])
    def test_a_server_without_a_registry_is_a_line_and_one_that_is_away_is_waited_for(
        self,
        registered: Registered,
        name: str,
        code: str,
        kept: bool,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise MlflowException("no", error_code=ErrorCode.Value(code))

        folder = registered.sweep()
        registered.register(folder, name)
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, "search_model_versions", refuse)
            assert drain(folder, patience=0.1) is not kept
        assert (f"registering {name}: left out: no" in capsys.readouterr().err) is not kept
        assert "was not reached" in in_words(told_of(folder, False))
        assert drain(folder)
        assert len(registered.client.search_model_versions(f"name = '{name}'")) == int(kept)


def _runs(registered: Registered, folder: SweepFolder) -> list[Any]:
    experiment = registered.client.get_experiment_by_name("medtune")
    return list(
        registered.client.search_runs([experiment.experiment_id], f"tags.`medtune.sweep_id` = '{folder.sweep_id}'")
    )


TESTED = {"medtune.test_auroc": "0.9", "medtune.test_auroc_high": "0.95", "medtune.data_md5": "a"}


class TestTheChampion:
    @pytest.mark.parametrize(
        ("new", "old", "may", "why"),
        [
            ({}, {}, True, "its interval reaches to 0.950, and version 3 has 0.900"),
            ({"medtune.test_auroc_high": "0.9"}, {}, True, "reaches to 0.900"),
            ({"medtune.test_auroc": "0.85", "medtune.test_auroc_high": "0.91"}, {}, True, "reaches"),
            ({"medtune.test_auroc_high": "0.899999"}, {}, False, "ends at 0.900, below the 0.900 of version 3"),
            ({"medtune.data_md5": "b"}, {}, False, "version 3 was tested on other data: --promote moves it"),
            ({"medtune.test_auroc_high": ""}, {}, False, "undefined: --promote"),
            ({}, {"medtune.test_auroc": ""}, False, "undefined: --promote"),
        ],
    )
    def test_it_may_not_be_worse_beyond_its_interval(
        self, new: dict[str, str], old: dict[str, str], may: bool, why: str
    ) -> None:
        found = may_be_champion({**TESTED, **new}, {**TESTED, **old}, "version 3")
        assert found[0] is may and why in found[1]

    def test_nor_after_a_look_that_was_not_the_first(self) -> None:
        found = may_be_champion({**TESTED, "medtune.looks": "2"}, TESTED, "version 3")
        assert not found[0] and "had been opened before" in found[1] and "--promote" in found[1]

    def test_nor_take_the_place_of_one_that_was_not_tested(self) -> None:
        found = may_be_champion(TESTED, {"medtune.data_md5": "a"}, "version 3")
        assert found == (False, "version 3 was not tested: --promote moves it")

    def test_the_alias_moves_as_the_tests_say(self, registered: Registered, name: str) -> None:
        first, worse, even = (registered.sweep() for _ in range(3))
        for folder, numbers, champion, why in (
            (first, (0.85, 0.9, 0.94), "1", "the champion: there was no champion before"),
            (worse, (0.8, 0.85, 0.89), "1", "not the champion: its interval ends at 0.890, below the 0.900"),
            (even, (0.85, 0.89, 0.91), "3", "the champion: its interval reaches to 0.910, and version 1"),
            (first, (0.85, 0.88, 0.93), "1", "the champion: its interval reaches to 0.930, and version 3"),
            (first, (0.65, 0.7, 0.75), "1", "the champion: it was the champion before"),
        ):
            registered.register(folder, name)
            registered.promote(folder, name, *numbers)
            assert drain(folder)
            assert registered.champion(name) == champion and why in in_words(told_of(folder, True))
        tags = registered.versions(name)[1].tags
        assert (tags["medtune.test_auroc"], tags["medtune.test_auroc_low"]) == ("0.850000", "0.800000")
        assert tags["medtune.looks"] == "1" and tags["medtune.verdict"].startswith("its interval ends at 0.890")
        registered.promote(worse, name, 0.8, 0.85, 0.89, force=True)
        assert drain(worse)
        assert registered.champion(name) == "2"
        assert "the champion: --promote moved it from version 1" in in_words(told_of(worse, True))

    def test_other_data_and_an_undefined_number_do_not_move_it(self, registered: Registered, name: str) -> None:
        first, other, undefined = (registered.sweep() for _ in range(3))
        registered.register(first, name)
        registered.register(other, name, data_md5="1" * 32)
        registered.register(undefined, name)
        for folder, numbers in ((first, (0.5, 0.6, 0.7)), (other, (0.9, 0.95, 0.99)), (undefined, (None,) * 3)):
            registered.promote(folder, name, *numbers)
            assert drain(folder)
        assert registered.champion(name) == "1"
        assert registered.versions(name)[2].tags["medtune.test_auroc"] == ""


class TestTheVerb:
    @pytest.fixture(autouse=True)
    def in_this_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class InThisProcess(Tracker):
            def __enter__(self) -> "InThisProcess":
                return self

            def __exit__(self, *_: Any) -> None:
                self.reached = drain(self.folder)

        monkeypatch.setattr(retrained, "Tracker", InThisProcess)

    def test_promoting_later_opens_no_test_again(self, registered: Registered, monkeypatch: pytest.MonkeyPatch) -> None:
        known = {"auroc": {"value": 0.6, "low": 0.5, "high": 0.7}, "looks": 1}
        seeds = {name: {"each": [0.6]} for name in ("auroc", "accuracy", "ece")}
        champion, worse = registered.sweep(), registered.sweep()
        monkeypatch.setattr(retrained, "retrained_models", lambda folder: [folder.retrained / "model"])
        for folder in (champion, worse):
            write_model(folder.path / "retrain" / "model", dataset="a set")
        better = {**known, "auroc": {"value": 0.9, "low": 0.8, "high": 0.95}}
        for folder, found in ((champion, better), (worse, known)):
            monkeypatch.setattr(retrained, "unseal", lambda *_: {**found, "seeds": seeds, "default": None})  # noqa: B023
            told = retrained.test_tracked(folder, folder.config(), again=False)["registry"]
        assert told["champion"] is False and told["name"] == "medtune-a-set"
        (worse.path / "test.json").write_text(json.dumps({**known, "seeds": seeds, "default": None}))
        monkeypatch.setattr(retrained, "unseal", lambda *_: pytest.fail("opened once more"))
        told = retrained.test_tracked(worse, worse.config(), again=False, promote=True)["registry"]
        assert told["champion"] is True and registered.champion("medtune-a-set") == "2"
        assert len(registered.versions("medtune-a-set")) == 2


class TestFetching:
    def test_a_model_by_alias_and_by_number(self, registered: Registered, name: str, cache: Path) -> None:
        folder = registered.sweep()
        registered.register(folder, name)
        registered.promote(folder, name, 0.8, 0.9, 0.95)
        assert drain(folder)
        path = fetch_model(f"models:/{name}@champion", registered.uri)
        assert path.is_relative_to(cache) and path == fetch_model(f"models:/{name}/1", str(registered.runs))
        images = drawn(2, 28, 28)
        expected = Predictor(folder.path / "retrain" / "model").probabilities(images)
        np.testing.assert_array_equal(Predictor(path).probabilities(images), expected)
        assert not (path / "MODEL_CARD.md").exists()
        (folder.path / "retrain" / "model" / "MODEL_CARD.md").write_text("Tested.")
        registered.promote(folder, name, 0.8, 0.9, 0.95)
        assert drain(folder)
        (path / "model.safetensors").write_bytes(b"damaged")
        assert model_digest(fetch_model(f"models:/{name}@champion", registered.uri)) == path.name
        assert (path / "MODEL_CARD.md").read_text() == "Tested."

    @pytest.mark.parametrize("address", ["models:/a", "models:/a@", "models:/a/champion", "runs:/0/model", "models:/"])
    def test_an_address_that_is_none(self, address: str) -> None:
        with pytest.raises(DataError, match="write models:/NAME@champion, or models:/NAME/3"):
            fetch_model(address)

    def test_what_there_is_not(self, registered: Registered, name: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=rf"models:/{name}@champion cannot be had from sqlite:.*not found"):
            fetch_model(f"models:/{name}@champion", registered.uri)
        with pytest.raises(RecordError, match="there is no such database"):
            fetch_model(f"models:/{name}@champion", str(tmp_path))

    def test_a_model_of_somebody_else(self, registered: Registered, name: str) -> None:
        registered.client.create_registered_model(name)
        registered.client.create_model_version(name, str(registered.runs))
        with pytest.raises(DataError, match="is none of medtune"):
            fetch_model(f"models:/{name}/1", registered.uri)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def asked(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read().decode()
    return response.status, json.loads(text) if text.strip().startswith(("{", "[")) else text


@contextmanager
def running(command: list[str], port: int, ready: str, **options: Any) -> Iterator[None]:
    """A server until the end of the block, on the loopback; stopped with all that it has started."""
    with subprocess.Popen(command, start_new_session=True, **options) as server:
        try:
            for _ in range(600):
                assert server.poll() is None, "it ended by itself"
                try:
                    if asked(port, ready)[0] == 200:
                        break
                except OSError:
                    time.sleep(0.5)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


@pytest.fixture
def promoted(registered: Registered, name: str) -> tuple[str, Path]:
    """The address of a champion, and the folder of the model that it was made from."""
    folder = registered.sweep()
    registered.register(folder, name)
    registered.promote(folder, name, 0.8, 0.9, 0.95)
    assert drain(folder)
    return f"models:/{name}@champion", folder.path / "retrain" / "model"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_served_over_http(registered: Registered, promoted: tuple[str, Path], tmp_path: Path) -> None:
    address, model = promoted
    port, image = free_port(), drawn(36, 44)
    (tmp_path / "picture.png").write_bytes(png(image))
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", address, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    environment = {**os.environ, "MLFLOW_TRACKING_URI": registered.uri, "PATH": path}
    expected = Predictor(model).model
    assert expected.size == 28
    with running(command, port, "/ping", env=environment, cwd=tmp_path):
        coded = base64.b64encode(png(image)).decode()
        answers = [
            asked(port, "/invocations", body)
            for body in (
                {"inputs": [image.tolist()]},
                {"dataframe_split": {"columns": ["image"], "data": [[coded]]}},
                {"dataframe_split": {"columns": ["path"], "data": [[str(tmp_path / "picture.png")]]}},
            )
        ]
        refused = asked(port, "/invocations", {"dataframe_split": {"columns": ["image"], "data": [["!"]]}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", registered.uri)
        mlflow.set_tracking_uri(registered.uri)
        (direct,) = mlflow.pyfunc.load_model(address).predict(image[None]).to_dict("records")
    for status, answer in answers:
        (row,) = answer["predictions"]
        assert status == 200 and row.keys() == direct.keys() and row["decision"] == direct["decision"]
        assert [row[name] for name in CLASSES] == pytest.approx([direct[name] for name in CLASSES], abs=1e-6)
    assert refused[0] == 400 and "row 0: no base64" in refused[1]["message"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_is_registered_at_and_fetched_from(tiny: Any, tmp_path: Path, cache: Path) -> None:
    """Artifacts go through the server: the folder of the sweep and the server share no file."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    away = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    with running(command, port, "/health", env=away, cwd=tmp_path):
        there = Registered(tiny, tmp_path / "runs")
        there.uri = f"http://127.0.0.1:{port}"
        folder = there.sweep()
        config = folder.config()
        tracking = config.tracking.model_copy(update={"uri": there.uri})
        folder.write_config(config.model_copy(update={"tracking": tracking}))
        assert tracking_uri(folder.config().tracking, folder.path) == there.uri
        there.register(folder, "medtune-there")
        there.promote(folder, "medtune-there", 0.8, 0.9, 0.95)
        assert drain(folder)
        assert there.champion("medtune-there") == "1" and told_of(folder, True)["champion"] is True
        assert model_digest(fetch_model("models:/medtune-there@champion", there.uri)) == model_digest(
            folder.path / "retrain" / "model"
        )


LOADS = """
import json, sys
import mlflow.pyfunc, numpy as np
served = mlflow.pyfunc.load_model(sys.argv[1])
import medtune
answers = served.predict(np.load(sys.argv[2]))
print(json.dumps({"from": medtune.__file__, "answers": answers.to_dict("records")}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_loads_in_an_environment_of_its_requirements_alone(
    registered: Registered, promoted: tuple[str, Path], tmp_path: Path, uv: Callable[..., None]
) -> None:
    address, model = promoted
    uv("venv", "--python", sys.executable, str(tmp_path / "clean"))
    uv("pip", "install", "--python", str(tmp_path / "clean"), *requirements(model))
    np.save(tmp_path / "images.npy", drawn(4, 28, 28))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(tmp_path / "clean/bin/python"), "-c", LOADS, address, str(tmp_path / "images.npy")],
        env={**environment, "MLFLOW_TRACKING_URI": registered.uri},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert "/code/medtune/" in said["from"]
    found = [[row[name] for name in CLASSES] for row in said["answers"]]
    np.testing.assert_allclose(found, Predictor(model).probabilities(drawn(4, 28, 28)), atol=1e-6)


@pytest.fixture
def uv() -> Callable[..., None]:
    import shutil

    if shutil.which("uv") is None:
        pytest.skip("uv is not there")
    return lambda *words: subprocess.run(["uv", *words], check=True, timeout=1500) and None
