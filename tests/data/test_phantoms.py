import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medtune.data import DataError, phantoms
from medtune.data.catalogue import dataset_info
from medtune.data.phantoms import (
    NAMES,
    Lesions,
    PhantomName,
    best_auroc,
    class_means,
    draw_lesions,
    make_phantom,
    render,
    write_npz,
)
from medtune.data.splits import read_search_splits
from medtune.task import TASKS, Task


def auroc_of_signs(task: Task, difficulty: float, labels: np.ndarray, z: np.ndarray) -> float:
    """AUROC of the best possible scores for somebody who sees z: its likelihood ratios."""
    means = class_means(task, difficulty)
    if task == "multilabel":
        return float(roc_auc_score(labels, z, average="macro"))
    likelihood = np.exp(-((z[:, None] - means[None]) ** 2).sum(axis=2) / 2)
    posterior = likelihood / likelihood.sum(axis=1, keepdims=True)
    if task == "binary":
        return float(roc_auc_score(labels, posterior[:, 1]))
    return float(roc_auc_score(labels, posterior, multi_class="ovr", average="macro"))


def read_signs(images: np.ndarray, lesions: Lesions, task: Task, difficulty: float) -> np.ndarray:
    """z as the ideal observer of the pixels reads it: knows the shapes, whitens the texture, fits three contrasts."""
    size = images.shape[-1]
    whiten = 1 / np.sqrt(phantoms.texture_spectrum(size))

    def white(pictures: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(np.fft.rfft2(pictures) * whiten, s=(size, size)).reshape(*pictures.shape[:-2], -1)

    shapes = phantoms.templates(lesions, size)
    seen = white(images - phantoms.BACKGROUND - phantoms.CORE * shapes[:, 0])
    shapes = white(shapes)
    normal = np.einsum("nip,njp->nij", shapes, shapes)
    contrasts = np.linalg.solve(normal, np.einsum("nip,np->ni", shapes, seen)[..., None])[..., 0]
    return contrasts / phantoms.CONTRAST * phantoms.sign_range(task, difficulty)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("difficulty", [0.4, 0.5, 0.7])
def test_best_auroc_is_that_of_the_signs(task: Task, difficulty: float) -> None:
    lesions = draw_lesions(task, difficulty, 20_000, np.random.default_rng(0))
    found = auroc_of_signs(task, difficulty, lesions.labels, lesions.z)
    assert found == pytest.approx(best_auroc(task, difficulty), abs=0.006)


@pytest.mark.parametrize("task", TASKS)
def test_the_pixels_hold_the_signs(task: Task) -> None:
    rng = np.random.default_rng(1)
    lesions = draw_lesions(task, 0.5, 4_000, rng)
    read = read_signs(render(lesions, 28, rng), lesions, task, 0.5)
    ideal = auroc_of_signs(task, 0.5, lesions.labels, lesions.z)
    assert ideal - 0.01 < auroc_of_signs(task, 0.5, lesions.labels, read) <= ideal + 0.002
    assert (np.std(read - lesions.z, axis=0) < 0.35).all()


@pytest.mark.parametrize("size", [64, 128])
def test_larger_pictures_hold_them_too(size: int) -> None:
    rng = np.random.default_rng(2)
    lesions = draw_lesions("binary", 0.5, 100, rng)
    read = read_signs(render(lesions, size, rng), lesions, "binary", 0.5)
    assert (np.std(read - lesions.z, axis=0) < 0.35).all()


@pytest.mark.parametrize("name", NAMES)
def test_difficulty(name: PhantomName) -> None:
    best = [best_auroc(name, difficulty) for difficulty in (0.01, 0.3, 0.5, 0.7, 0.99)]
    assert best == sorted(best, reverse=True)
    assert best[2] == pytest.approx(0.95, abs=0.0005)
    assert best[0] == pytest.approx(1) and best[-1] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="difficulty"):
        best_auroc(name, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_form_is_that_of_a_medmnist_set(name: PhantomName) -> None:
    info = dataset_info(f"phantom-{name}")
    for split_name, cases in info.cases.items():
        split = make_phantom(name, split_name)
        assert split.images.shape == (cases, 28, 28) and split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        if info.task == "multilabel":
            assert split.labels.shape == (cases, len(info.classes))
            np.testing.assert_allclose(split.labels.mean(axis=0), phantoms.PREVALENCE, atol=0.01)
        else:
            np.testing.assert_array_equal(np.bincount(split.labels), [cases // len(info.classes)] * len(info.classes))
        assert ((split.images == 0) | (split.images == 255)).mean() < 1e-4  # nothing is lost at the ends


def test_splits_are_the_same_on_every_call_and_differ_from_each_other() -> None:
    one, again = make_phantom("binary", "val"), make_phantom("binary", "val")
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert not np.array_equal(one.images, make_phantom("binary", "test").images[:120])
    assert not np.array_equal(one.images, make_phantom("ordinal", "val").images)
    texture = make_phantom("texture", "val")
    np.testing.assert_array_equal(texture.images, make_phantom("texture", "val").images)
    assert not np.array_equal(texture.images, make_phantom("texture", "test").images[:120])


def test_size_and_difficulty_keep_the_cases() -> None:
    small, large = make_phantom("multiclass", "val"), make_phantom("multiclass", "val", 0.3, size=64)
    np.testing.assert_array_equal(small.labels, large.labels)
    assert large.images.shape == (120, 64, 64)


def test_hash_names_what_a_phantom_is() -> None:
    made: list[tuple[PhantomName, float, int]]
    made = [("binary", 0.5, 28), ("binary", 0.4, 28), ("ordinal", 0.5, 28), ("texture", 0.5, 28)]
    hashes = {phantoms.phantom_md5(*one) for one in made}
    assert len(hashes) == 4 and all(len(md5) == 32 for md5 in hashes)


def test_pixels_stay_as_they_are() -> None:
    """Changing a phantom is allowed, but then VERSION goes up and this mean with it."""
    images = make_phantom("binary", "val").images
    assert phantoms.VERSION == 1 and images.mean() == pytest.approx(123.5461, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_file(name: PhantomName, tmp_path: Path) -> None:
    file = tmp_path / f"phantom-{name}.npz"
    write_npz(file, name, difficulty=0.3)
    train, val = read_search_splits(file, dataset_info(f"phantom-{name}"), 28)
    np.testing.assert_array_equal(train.images, make_phantom(name, "train", 0.3).images)
    np.testing.assert_array_equal(val.labels, make_phantom(name, "val", 0.3).labels)
    with np.load(file) as members:
        assert members["test_labels"].shape == (240, 3 if name == "multilabel" else 1)
    first = hashlib.md5(file.read_bytes()).hexdigest()
    write_npz(file, name, difficulty=0.3)
    assert first == hashlib.md5(file.read_bytes()).hexdigest()
    assert [left.name for left in tmp_path.iterdir()] == [file.name]


def test_file_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_npz(tmp_path / "none" / "phantom.npz", "binary")
