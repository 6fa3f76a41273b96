"""What holds for the whole house: libraries in their rooms, the seal, the verbs, the files to start from."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch
import torchvision
import typer
from PIL import Image

from medtune import unseal as unsealing
from medtune.cli.verbs import app
from medtune.config.kinds import settings_of
from medtune.config.read import read_sweep
from medtune.config.space import Choice, corners, distributions, resolve
from medtune.config.sweep import Data, SweepConfig
from medtune.config.trial import EncoderConfig
from medtune.data import DataError, Split, catalogue, splits
from medtune.data.catalogue import describe
from medtune.data.download import file_md5
from medtune.finalists import run_finalists
from medtune.models.build import build_encoder
from medtune.replay import replay
from medtune.retraining.plan import plan_retrain
from medtune.retraining.train import retrain
from medtune.search.folder import SweepFolder
from medtune.search.launch import in_this_process
from medtune.search.loading import load_search_data
from medtune.search.plan import wanted_trials
from medtune.search.record import record_in_folder
from medtune.search.summary import Summary
from medtune.search.worker import build_training
from medtune.select import select, winner
from medtune.training.checkpoint import encode_weights
from medtune.training.progress import AUROC
from medtune.unseal import unseal

Offline = Callable[[SweepConfig], SweepConfig]
HOUSE = Path(__file__).parents[1]
MODULES = sorted((HOUSE / "medtune").rglob("*.py"))
ROOMS = {
    "ray": {"search/cluster.py", "search/engine.py", "search/pruning.py"},
    "optuna": {f"search/{name}.py" for name in "ledger storage database sampler whole_space importance".split()},
    "mlflow": {f"tracking/{path.name}" for path in (HOUSE / "medtune" / "tracking").glob("*.py")},
}
# who may name the function that opens the sealed test; the audit shows it to people and asks no model
OPENERS = {"unseal.py", "data/splits.py", "data/audit.py"}
SWEEPS = sorted((HOUSE / "sweeps").glob("*.yaml"))
REAL_DATA = HOUSE.parent / "shared" / "data"


def where(path: Path) -> str:
    return str(path.relative_to(HOUSE / "medtune"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("library", ROOMS)
def test_ray_optuna_and_mlflow_only_in_their_rooms(library: str) -> None:
    users = {where(path) for path in MODULES if any(name.split(".")[0] == library for name in imported(path))}
    assert users and users <= ROOMS[library]


def test_there_is_no_pickle() -> None:
    for path in MODULES:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path
        assert "allow_pickle=True" not in path.read_text() and "weights_only=False" not in path.read_text(), path
        safe = re.sub(r"torch\.load\([^()]*, weights_only=True\)", "", path.read_text())
        assert "torch.load(" not in safe and "torch.save(" not in safe, path


def test_training_knows_no_engine() -> None:
    for path in (HOUSE / "medtune" / "training").glob("*.py"):
        assert not any(name.startswith(("medtune.search", "medtune.tracking")) for name in imported(path)), path


class TestTheSealedTest:
    def test_nobody_but_the_final_test_can_open_it(self) -> None:
        for path in MODULES:
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            names |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            opens = "load_sealed_test" in names or any(name.endswith("load_sealed_test") for name in imported(path))
            assert not opens or where(path) in OPENERS, path

    def test_the_audit_is_called_by_its_verb_alone_and_knows_no_model(self) -> None:
        rooms = ("data/audit.py", "data/repeats.py", "data/twins.py", "data/prevalence.py", "report/audit.py")
        for path in MODULES:
            names = imported(path)
            calls = any(name.startswith("medtune.data.audit") for name in names)
            assert not calls or where(path) in ("cli/data.py", *rooms), path
            models = ("torch", "medtune.models", "medtune.training", "medtune.search")
            assert where(path) not in rooms or not any(name.startswith(models) for name in names), path

    def test_and_no_worker_imports_the_unsealing(self) -> None:
        sealed = "search training pretraining data evaluation models config selection retraining trained inspection"
        for room in sealed.split():
            for path in (HOUSE / "medtune" / room).glob("*.py"):
                assert not any(name.startswith("medtune.unseal") for name in imported(path)), path
        for name in ("select", "finalists", "replay"):
            assert not any("unseal" in name for name in imported(HOUSE / "medtune" / f"{name}.py"))

    def test_a_whole_sweep_reads_nothing_of_it_before_the_unsealing(
        self, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, real_make = [], splits.make_phantom
        monkeypatch.setattr(
            splits, "make_phantom", lambda task, name, *rest: _note(made, name) or real_make(task, name, *rest)
        )
        _whole_way(tiny, tmp_path, lambda: made, "data.difficulty=0.35")  # made for this test alone

    @pytest.mark.skipif(not (REAL_DATA / "breastmnist.npz").exists(), reason="breastmnist.npz is not there")
    def test_nor_of_a_file(self, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded, real_read = [], np.lib.format.read_array

        def read(stream: Any, **options: Any) -> np.ndarray:
            decoded.append(Path(str(getattr(stream, "name", "-"))).stem.split("_")[0])
            return real_read(stream, **options)

        monkeypatch.setattr(np.lib.format, "read_array", read)
        data = f"data={{dataset: breastmnist, root: {REAL_DATA}, train_fraction: 0.1}}"
        _whole_way(tiny, tmp_path, lambda: [name for name in decoded if name in splits.SPLITS], data)

    def test_poisoned_values_are_not_noticed_before_it_is_opened(
        self, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file whose test split holds no class that there is: whoever looked at it would refuse it."""
        made = {name: splits.make_phantom("binary", name, 0.3, 28) for name in splits.SPLITS}
        members = {f"{name}_images": of.images for name, of in made.items()}
        members |= {f"{name}_labels": of.labels.astype(np.uint8)[:, None] for name, of in made.items()}
        members["test_images"][:], members["test_labels"][:] = 255, 77
        file = tmp_path / "breastmnist.npz"
        np.savez(file, **members)
        cases = {name: len(of.labels) for name, of in made.items()}
        info = replace(catalogue.dataset_info("breastmnist"), cases=cases, md5={28: file_md5(file)})
        monkeypatch.setattr(catalogue, "_published", lambda flag: info)
        data = f"data={{dataset: breastmnist, root: {tmp_path}}}"
        folder = tiny.create(tmp_path / "tiny", "search.trials=2", "trial.epochs=2", data)
        config = folder.config()
        tiny.run(tiny.open(folder))
        select(folder, config)
        run_finalists(folder, config, [(0, 1)], 1, lambda *_: None, in_this_process)
        plan = plan_retrain(folder, config, winner(folder, config), epochs=1, train_on="train+val")
        retrain(folder, config, plan, lambda *_: None, in_this_process)
        with pytest.raises(DataError, match="test_labels holds 77"):
            unseal(folder, config)


def _note(made: list[str], name: str) -> None:
    made.append(name)


def _whole_way(tiny: Any, tmp_path: Path, opened: Callable[[], list[str]], *overrides: str) -> None:
    """A sweep, its summary, a retrained model, and then the test; `opened`: the splits that were opened so far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "load_sealed_test", lambda data: pytest.fail("the seal is broken"))
        patch.setattr(unsealing, "load_sealed_test", lambda data: pytest.fail("the seal is broken"))
        folder = tiny.create(tmp_path / "tiny", "search.trials=2", "trial.epochs=2", *overrides)
        config = folder.config()
        tiny.run(tiny.open(folder))
        Summary(folder, config).as_json()
        select(folder, config)
        plan = plan_retrain(folder, config, winner(folder, config), epochs=1)
        retrain(folder, config, plan, lambda *_: None, in_this_process)
        replay(record_in_folder(folder.path, 1), lambda *_: None)
    assert set(opened()) == {"train", "val"}
    unseal(folder, config)
    assert set(opened()) == {"train", "val", "test"}


def _verbs(group: typer.Typer, before: str = "") -> Iterator[str]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield before + (command.name or command.callback.__name__)
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from _verbs(below.typer_instance, f"{before}{below.name} ")


def _verbs_of_the_readme() -> set[str]:
    """Of the table whose rows begin with `medtune VERB`; a row may name several of a group: `data list` · `info`."""
    found: set[str] = set()
    groups = {group.name for group in app.registered_groups}
    for row in re.findall(r"^\| (`medtune .*?) \|", (HOUSE / "README.md").read_text(), flags=re.MULTILINE):
        group = ""
        for code in re.findall(r"`([^`]+)`", row):
            words = code.removeprefix("medtune ").split()
            if words[0] in groups:
                group = words.pop(0) + " "
            found.add(f"{group}{words[0]}")
    return found


def test_every_verb_is_in_the_readme_and_every_verb_of_the_readme_exists() -> None:
    assert _verbs_of_the_readme() == set(_verbs(app))


def test_every_file_of_the_readmes_tree_is_there() -> None:
    (tree,) = re.findall(r"^```\n(sweeps/.*?)^```", (HOUSE / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    above: dict[int, Path] = {-2: HOUSE}
    for line in tree.splitlines():
        name = line.split()[0]
        depth = len(line) - len(line.lstrip())
        parent = above[max(level for level in above if level < depth)]
        above = {level: path for level, path in above.items() if level < depth} | {depth: parent / name}
        assert (parent / name).exists(), line


def small(path: Path, fraction: float, *further: str) -> list[str]:
    """What makes the sweep of a file small: overrides."""
    text = path.read_text()
    section = "pretrain" if "\npretrain:" in text else "trial"
    part = [] if "labels:" in text else [f"data.train_fraction={fraction}"]
    return [f"{section}.epochs=1", "pruning={name: none}", *part, *(one.format(section=section) for one in further)]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_file_runs_small(path: Path, tiny: Any, tmp_path: Path, offline: Offline) -> None:
    config = offline(read_sweep(path, small(path, 0.1, "search.trials=2")))
    folder = SweepFolder.create(tmp_path / "small", config)
    folder.unlock()
    tiny.run(tiny.open(folder))
    entries = tiny.entries(folder)
    assert [entry.state for entry in entries] == ["complete"] * min(config.search.trials, wanted_trials(config))
    assert all(0 < entry.value <= 1 for entry in entries)


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_option_of_every_sweep_file_trains(path: Path, offline: Offline) -> None:
    config = offline(read_sweep(path, small(path, 0.04, "{section}.batch_size=8")))
    whole, info = load_search_data(config), describe(config.data)
    some = Split(whole.train.images[:48], whole.train.labels[:48]) if config.trial["labels"] else whole.train
    data = replace(whole, key=str(path), train=some, val=Split(whole.val.images[:16], whole.val.labels[:16]))
    splits, seen = data.on_device("cpu"), set()
    for pick in corners(config.trial):
        trial = settings_of(resolve(config.trial, pick))
        known = repr(trial.model) in seen  # then it is another option's turn, and a small model does for it
        seen.add(repr(trial.model))
        trial = trial.model_copy(update={"model": type(trial.model)(name="smallcnn")}) if known else trial
        training = build_training(trial, info.task, len(info.classes), splits, 0, "float32", AUROC)
        assert training.run_epoch(splits.val).values["train/loss"] < 100, trial


def test_every_recipe_of_the_readme_is_a_sweep_file_and_every_file_is_in_the_readme() -> None:
    linked = set(re.findall(r"sweeps/([a-z_-]+)\.yaml", (HOUSE / "README.md").read_text()))
    assert linked == {path.stem for path in SWEEPS}


def test_the_widest_space_has_at_least_25_dimensions() -> None:
    space = read_sweep(HOUSE / "sweeps" / "everything.yaml").trial
    assert len(list(distributions(space))) >= 25


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_file_names_the_schema_and_itself(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=../medtune.schema.json\n")
    assert read_sweep(path).sweep == path.stem


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offline:
    """What a sweep file says, with what is here: the real set where it lies beside the checkout, else the phantom of
    its task; made pictures for a folder; weights of ImageNet's shape in the place of ImageNet's."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")

    def brought(config: SweepConfig) -> SweepConfig:
        trial = {**config.trial, "model": _local_weights(config.trial["model"], tmp_path)}
        return config.model_copy(update={"trial": trial, "data": _local_data(config.data, tmp_path / "pictures")})

    return brought


def _local_data(data: Data, pictures: Path) -> Data:
    if data.folder is not None:
        _draw_pictures(pictures)
        return data.model_copy(update={"folder": str(pictures), "train_fraction": 1.0, "size": 32})
    data = data.model_copy(update={"resize": data.resize and 32})
    info = describe(data)
    if info.made:
        return data
    there = (REAL_DATA / f"{info.flag}.npz").exists() and data.size == 28
    return data.model_copy(update={"root": str(REAL_DATA)} if there else {"dataset": f"phantom-{info.task}"})


def _draw_pictures(where: Path) -> None:
    generator = np.random.default_rng(0)
    for name, brightness in (("eczema", 90), ("psoriasis", 160)):
        (where / name).mkdir(parents=True)
        for index in range(24):
            pixels = np.clip(generator.normal(brightness, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(where / name / f"{index}.png")


def _local_weights(space: Any, path: Path) -> Any:
    if isinstance(space, Choice):
        return Choice(tuple(_local_weights(option, path) for option in space.options))
    if not isinstance(space, dict):
        return space
    if space.get("weights") == "imagenet":
        path = path / "resnet18.pth"
        if not path.exists():
            torch.save(torchvision.models.resnet18().state_dict(), path)
        return {**space, "weights": str(path)}
    if space.get("weights"):  # an encoder
        path = path / "encoder.safetensors"
        encoder = build_encoder(EncoderConfig(name=space["name"]), 1, 28, torch.Generator().manual_seed(0))
        path.write_bytes(encode_weights(encoder))
        return {**space, "weights": str(path)}
    return space
