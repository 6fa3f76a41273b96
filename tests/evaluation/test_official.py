import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from medmnist.evaluator import Evaluator

from medtune.evaluation.metrics import accuracy, auroc
from medtune.evaluation.official import official_metrics, official_name, write_official
from medtune.task import Task

OFFICIAL = {
    "binary": "binary-class",
    "multiclass": "multi-class",
    "multilabel": "multi-label, binary-class",
    "ordinal": "ordinal-regression",
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def predictions(task: Task, generator: np.random.Generator, cases: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Random probabilities, some of them equal, and labels."""
    classes = 2 if task == "binary" else 4
    if task == "multilabel":
        return generator.random((cases, classes)).round(2), generator.integers(0, 2, (cases, classes))
    raw = generator.random((cases, classes)).round(1) + 0.1
    return raw / raw.sum(axis=1, keepdims=True), generator.integers(0, classes, cases)


def evaluator(flag: str, split: str, size: int, labels: np.ndarray, task: Task) -> Evaluator:
    """The package's own, of labels that are in no file of its own; there they are (cases, 1) or (cases, labels)."""
    made = Evaluator.__new__(Evaluator)
    made.flag, made.split, made.size_flag = flag, split, "" if size == 28 else f"_{size}"
    made.labels, made.info = labels.reshape(len(labels), -1), {"task": OFFICIAL[task]}
    return made


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("task", OFFICIAL)
def test_it_is_the_file_that_the_package_writes(
    task: Task, size: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    probabilities, labels = predictions(task, rng)
    (tmp_path / "theirs").mkdir()
    evaluator("somemnist", "val", size, labels, task).evaluate(probabilities, str(tmp_path / "theirs"), "model-1")
    (theirs,) = (tmp_path / "theirs").iterdir()
    ours = write_official(tmp_path, official_name("somemnist", size), "val", probabilities, labels, task, "model-1")
    assert ours.name == theirs.name and ours.name.startswith(official_name("somemnist", size) + "_val_[AUC]0.")
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("task", OFFICIAL)
def test_its_numbers_are_the_packages_and_ours(task: Task, rng: np.random.Generator) -> None:
    for _ in range(20):
        probabilities, labels = predictions(task, rng)
        theirs = evaluator("f", "val", 28, labels, task).evaluate(probabilities)
        assert official_metrics(probabilities, labels, task) == tuple(theirs)
        ours = auroc(probabilities, labels, task), accuracy(probabilities, labels, task)
        assert ours == pytest.approx(tuple(theirs), abs=1e-12)


def test_the_package_reads_it_back(tmp_path: Path, rng: np.random.Generator) -> None:
    probabilities, labels = predictions("binary", rng)
    path = write_official(tmp_path, "f", "test", probabilities, labels, "binary", "model")
    read = pd.read_csv(path, index_col=0, header=None).sort_index().values  # as Evaluator.parse_and_evaluate
    assert read.shape == (80, 2)
    np.testing.assert_allclose(read, probabilities, rtol=1e-15)


@pytest.mark.parametrize("task", OFFICIAL)
def test_an_undefined_auc_is_nan(task: Task, tmp_path: Path, rng: np.random.Generator, recwarn: Any) -> None:
    probabilities, labels = predictions(task, rng)
    path = write_official(tmp_path, "f", "test", probabilities, np.zeros_like(labels), task, "model")
    assert "_[AUC]nan_[ACC]0." in path.name and not len(recwarn)
    assert math.isnan(official_metrics(probabilities, np.zeros_like(labels), task)[0])


def test_a_file_of_the_same_model_with_other_numbers_makes_room(tmp_path: Path, rng: np.random.Generator) -> None:
    kept = [tmp_path / name for name in ("f[1]_test_[AUC]0.500_[ACC]0.500@model-1.csv", "f[1]_val_[AUC]0.5@model.csv")]
    for path in (*kept, tmp_path / "f[1]_test_[AUC]0.500_[ACC]0.500@model.csv"):
        path.touch()
    written = write_official(tmp_path, "f[1]", "test", *predictions("binary", rng), "binary", "model")
    assert set(tmp_path.iterdir()) == {*kept, written}


def test_labels_of_another_shape_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    probabilities, labels = predictions("binary", rng)
    with pytest.raises(ValueError):
        write_official(tmp_path, "f", "test", probabilities, labels[None], "binary", "model")
