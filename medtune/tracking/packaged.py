"""A trained model as MLflow keeps one: models-from-code, the weights, and the rooms of medtune that it runs in."""

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import medtune
from medtune.config.trial import TIMM
from medtune.models import pretrained
from medtune.trained.model import DESCRIPTION, read_description

SCRIPT = Path(__file__).with_name("served.py")
ARTIFACT = "model"  # the folder of the trained model among the artifacts
CARD = "MODEL_CARD.md"
BESIDE = ("outliers.safetensors", CARD)  # the weights, where they are there
ROOMS = ("config", "data", "evaluation", "inspection", "models", "trained", "training")
MODULES = ("__init__.py", "files.py", "task.py")
NEEDED = ("mlflow", "numpy", "pillow", "pydantic", "safetensors", "scipy", "torch", "torchvision")


def pack(folder: Path, into: Path) -> str:
    """What the registry has of a folder, into an empty one; and what that is, in words. An encoder says nothing of
    pictures by itself, so there is nothing to be called: its files alone. Raises DataError where the folder holds
    neither a model nor an encoder."""
    if (folder / pretrained.NEWEST).exists():
        copied = into / "artifacts" / ARTIFACT  # where MLflow puts those of a model
        copied.mkdir(parents=True)
        for name in _files(folder):
            shutil.copyfile(folder / name, copied / name)
        return "Pretrained by medtune without labels; `md5-...` is the newest one of that very data."
    save_pyfunc(folder, into)
    return "Retrained by medtune; `champion` is the one to use."


def save_pyfunc(folder: Path, into: Path) -> None:
    """The model of a folder such as `retrain/model` into an empty folder, as `mlflow.pyfunc.load_model` reads it.

    Beside the model lies a copy of what it needs of medtune, which is on no package index: who loads it installs only
    the requirements. Raises DataError where the folder holds no model.
    """
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"  # the project of whoever started this is not the model's
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory(prefix="medtune-") as scratch:
        model, code = Path(scratch, ARTIFACT), Path(scratch, "medtune")
        model.mkdir()
        for name in dict.fromkeys([*_files(folder), *BESIDE]):
            if (folder / name).exists():
                shutil.copyfile(folder / name, model / name)
        _copy_rooms(code)
        script = shutil.copy(SCRIPT, scratch)  # MLflow writes down where it was
        with contextlib.redirect_stderr(io.StringIO()):  # it warns of no signature: two kinds of input have none
            mlflow.pyfunc.save_model(
                path=str(into),
                python_model=str(script),
                artifacts={ARTIFACT: str(model)},
                code_paths=[str(code)],
                pip_requirements=requirements(folder),
            )


def requirements(folder: Path) -> list[str]:
    """What a model needs to be loaded, each as it is here; a local build, such as `+cu126`, is on no index."""
    names = [member["config"]["model"]["name"] for member in read_description(folder)["members"]]
    needed = (*NEEDED, *(["timm"] if any(name.startswith(TIMM) for name in names) else []))
    return [f"{name}=={version(name).partition('+')[0]}" for name in sorted(needed)]


def version_tags(folder: Path, sweep_id: str) -> dict[str, Any]:
    """What a version says of its model, without the prefix `medtune.`. `model` is the same for the same model wherever
    it lies, see `model_digest`."""
    description = read_description(folder)
    first = max(description["members"], key=lambda member: member["weight"])
    known = {name: description.get(name) for name in ("sweep", "dataset", "size", "data_md5", "train_on", "chosen")}
    tags = {**known, "model": model_digest(folder), "sweep_id": sweep_id, "trial": first["trial"]}
    return {name: value for name, value in tags.items() if value is not None}


def model_digest(folder: Path) -> str:
    """MD5 of a model's description and weights."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in _files(folder):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "md5").digest())
    return digest.hexdigest()


def _files(folder: Path) -> list[str]:
    """The description, and the weights that it names."""
    if (folder / pretrained.NEWEST).exists():
        return pretrained.encoder_files(folder)
    return [DESCRIPTION, *(member["weights"] for member in read_description(folder)["members"])]


def _copy_rooms(into: Path) -> None:
    house = Path(medtune.__file__).parent
    into.mkdir()
    for name in MODULES:
        shutil.copyfile(house / name, into / name)
    for room in ROOMS:
        for path in sorted((house / room).rglob("*.py")):
            target = into / path.relative_to(house)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
