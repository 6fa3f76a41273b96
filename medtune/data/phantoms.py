"""Made data sets with a known best AUROC: a lesion, its rim and the band below it on textured noise.

Each case has three signs, as a lesion in ultrasound has: the brightness of its core, of its rim, and of the band below
it (darker: shadow, brighter: enhancement). The label decides nothing but the mean of the signs:

    z ~ Normal(mean(label), identity),   image = render(z, position, shape, texture)

and position, shape and texture do not know the label. No classifier of the images can therefore beat the likelihood
ratio of z (data-processing inequality), whose AUROC is `best_auroc`. The texture is weak enough that an observer who
knows where the lesion is reads z back from the pixels almost without loss (a test holds it to .01 of AUROC).

One more phantom is made for pretraining, and has a module of its own: `texture_phantom`.

Every split has a random stream of its own: making train and val never makes test.
"""

import hashlib
import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from medtune.data import SPLITS, DataError, Split, SplitName, texture_phantom
from medtune.task import TASKS, Task

PhantomName = Task | Literal["texture"]  # what follows `phantom-` in a sweep file
NAMES: tuple[PhantomName, ...] = (*TASKS, "texture")  # the place is part of the seed: new ones come last
CASES: dict[SplitName, int] = {"train": 600, "val": 120, "test": 240}
CLASSES: dict[PhantomName, tuple[str, ...]] = {
    "binary": ("enhancing", "shadowing"),
    "multiclass": ("all bright", "core bright", "rim bright", "band bright"),
    "multilabel": ("bright core", "bright rim", "bright band"),
    "ordinal": ("grade 0", "grade 1", "grade 2", "grade 3"),
    "texture": ("upright", "lying"),
}
PREVALENCE = (0.5, 0.35, 0.25)  # of the three labels of a multi-label phantom
VERSION = 1  # part of the seed and of the hash: raise it with any change of the pixels

# How far apart (neighbouring) means lie at difficulty .5: there the best AUROC of every one is .95 (a test holds it).
_SPACING: dict[PhantomName, float] = {
    "binary": 2.3262,
    "multiclass": 2.63865,
    "multilabel": 2.3262,
    "ordinal": 2.16959,
    "texture": 2.3262,
}
_ALONG = np.array([1, 1, -1]) / np.sqrt(3)  # bright core and rim, dark band: the mean grey level says little
_TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(8)  # edges of length 1

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]


def class_means(task: Task, difficulty: float) -> Floats:
    """Mean signs of each class: (classes, 3), in standard deviations of z. For multi-label: of each label when it is 1;
    it is minus that when the label is 0."""
    spacing = mean_distance(task, difficulty)
    if task == "multiclass":
        return np.asarray(spacing * _TETRAHEDRON)
    if task == "multilabel":
        return spacing / 2 * np.eye(3)
    grades = len(CLASSES[task])
    along = spacing * (np.arange(grades) - (grades - 1) / 2)
    return np.outer(along, _ALONG)


def mean_distance(name: PhantomName, difficulty: float) -> float:
    """Between two (neighbouring) means, in standard deviations of z."""
    if not 0 < difficulty < 1:
        raise ValueError(f"difficulty must lie between 0 and 1, not {difficulty}")
    return _SPACING[name] * (1 - difficulty) / difficulty


@cache
def best_auroc(name: PhantomName, difficulty: float) -> float:
    """The AUROC that no classifier of these images can beat, in expectation, as `medmnist.Evaluator` averages it:
    one class against the rest (multi-class, ordinal), the mean over the labels (multi-label)."""
    distance = mean_distance(name, difficulty)
    if distance > 12:  # 1 to the last digit of a double, and the grid would be large
        return 1.0
    if name == "texture" or name in ("binary", "multilabel"):
        return NormalDist().cdf(distance / 2**0.5)
    means = class_means(name, difficulty)
    if name == "ordinal":  # all means lie on a line: only the coordinate along it says anything
        means = means @ _ALONG[:, None]
        return float(np.mean([_one_against_rest(means, c, step=0.002) for c in range(len(means))]))
    return _one_against_rest(means, 0, step=0.15)  # a regular tetrahedron: every class is like the first


def _one_against_rest(means: Floats, positive: int, step: float) -> float:
    """AUROC of the likelihood ratio between one unit normal and the equal mixture of the others, summed on a grid."""
    reach = np.abs(means).max() + 5
    axis = np.arange(-reach, reach + step, step)
    densities = []
    for mean in means:  # a product of one-dimensional densities, so that the grid itself is never written out
        density = np.ones(1)
        for centre in mean:
            density = np.multiply.outer(density, np.exp(-((axis - centre) ** 2) / 2))
        densities.append(density.ravel())
    one = densities.pop(positive)
    rest = np.mean(densities, axis=0)
    order = np.argsort(one / rest, kind="stable")
    one, rest = one[order] / one.sum(), rest[order] / rest.sum()
    below = np.cumsum(rest) - rest / 2  # a cell against itself: half
    return float(np.sum(one * below))


@dataclass(frozen=True)
class Lesions:
    """What is drawn, per case: z (cases, 3), and what the label does not touch, in half image sides from the middle."""

    labels: npt.NDArray[np.int64]
    z: Floats
    signs: Floats  # (cases, 3) in -1..1: z on the scale of this task and difficulty
    centre: Floats  # (cases, 2): right, down
    radii: Floats  # (cases, 2)
    tilt: Floats  # (cases,) radians
    lobes: Floats  # (cases, 2): depth and phase of three bulges of the outline

    def __getitem__(self, cases: slice) -> "Lesions":
        return Lesions(*(getattr(self, part.name)[cases] for part in fields(self)))

    def __len__(self) -> int:
        return len(self.z)


def draw_lesions(task: Task, difficulty: float, cases: int, rng: np.random.Generator) -> Lesions:
    """Labels in fixed proportions and random order, and the signs and shapes that go with them."""
    means = class_means(task, difficulty)
    if task == "multilabel":
        labels = np.stack([rng.permutation(np.arange(cases) < round(p * cases)) for p in PREVALENCE], axis=1)
        labels = labels.astype(np.int64)
        mean = (2 * labels - 1) @ means
    else:
        labels = rng.permutation(np.arange(cases) % len(means))
        mean = means[labels]
    z = mean + rng.standard_normal((cases, 3))
    return Lesions(
        labels=labels,
        z=z,
        signs=np.clip(z / sign_range(task, difficulty), -1, 1),
        centre=np.stack([rng.uniform(-0.25, 0.25, cases), rng.uniform(-0.3, 0.0, cases)], axis=1),
        radii=np.stack([rng.uniform(0.32, 0.45, cases), rng.uniform(0.26, 0.36, cases)], axis=1),
        tilt=rng.uniform(-0.4, 0.4, cases),
        lobes=np.stack([rng.uniform(0, 0.1, cases), rng.uniform(0, 2 * np.pi, cases)], axis=1),
    )


def sign_range(task: Task, difficulty: float) -> float:
    """The |z| that is drawn with the full contrast; beyond it (one case in some hundreds) the picture saturates."""
    return float(np.abs(class_means(task, difficulty)).max()) + 3


def templates(lesions: Lesions, size: int) -> Floats32:
    """The shapes of core, rim and band: (cases, 3, size, size), 0 to 1. A sign scales its shape, nothing else."""
    steps = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    shape = (*lesions.centre.T, *lesions.radii.T, *lesions.lobes.T, np.cos(lesions.tilt), np.sin(lesions.tilt))
    right, down, width, height, lobe, phase, cos, sin = (part.astype(np.float32)[:, None, None] for part in shape)
    x, y = steps[None, None, :] - right, steps[None, :, None] - down
    u, v = (cos * x + sin * y) / width, (cos * y - sin * x) / height
    radius = np.hypot(u, v) / (1 + lobe * np.cos(3 * np.arctan2(v, u) + phase))  # 1 on the outline
    core = _step((1 - radius) / 0.08)
    rim = np.exp(-(((radius - 1.3) / 0.2) ** 2))
    band = _step((1 - np.abs(x / width)) / 0.1) * _step((y / height - 1.7) / 0.1)
    return np.stack([core, rim, band], axis=1)


def _step(x: Floats32) -> Floats32:
    """A soft edge: 0 outside, 1 inside."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)


BACKGROUND, CORE, CONTRAST = 128.0, -45.0, 38.0  # grey levels: tissue, core with sign 0, a sign of 1
GRAIN, NOISE = 9.0, 3.0  # grey levels (standard deviation): speckle, and the noise of each pixel


def texture_spectrum(size: int) -> Floats:
    """Power of the texture at the frequencies of `numpy.fft.rfft2`; its mean over all frequencies is the variance.
    Grain is as large in the picture at every size, and wider than it is high."""
    across, along = np.fft.rfftfreq(size), np.fft.fftfreq(size)
    power = np.exp(-((across[None, :] * size / 5) ** 2) - (along[:, None] * size / 10) ** 2)
    whole = np.exp(-((np.fft.fftfreq(size)[None, :] * size / 5) ** 2) - (along[:, None] * size / 10) ** 2)
    return np.asarray(GRAIN**2 * power / whole.mean() + NOISE**2)


def render(lesions: Lesions, size: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Images of lesions: (cases, size, size), uint8."""
    amplitude = np.sqrt(texture_spectrum(size))
    images = np.empty((len(lesions), size, size), np.uint8)
    for case in range(len(lesions)):  # one by one: all shapes at 224 px would be a gigabyte
        one = lesions[case : case + 1]
        white = rng.standard_normal((size, size), dtype=np.float32)
        texture = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(size, size))
        contrast = CONTRAST * one.signs[0] + (CORE, 0, 0)
        picture = BACKGROUND + texture + np.tensordot(contrast, templates(one, size)[0], 1)
        images[case] = np.clip(np.rint(picture), 0, 255)
    return images


def make_phantom(
    name: PhantomName, split: SplitName, difficulty: float = 0.5, size: int = 28, cases: int | None = None
) -> Split:
    """One split of a phantom, the same on every call. cases: other than the usual number, for tests."""
    parts = np.random.SeedSequence([VERSION, NAMES.index(name), SPLITS.index(split)]).spawn(2)
    drawing, rendering = (np.random.default_rng(part) for part in parts)
    count = CASES[split] if cases is None else cases
    if name == "texture":
        textures = texture_phantom.draw_textures(mean_distance(name, difficulty), count, drawing)
        return Split(texture_phantom.render(textures, size, rendering), textures.labels)
    lesions = draw_lesions(name, difficulty, count, drawing)
    return Split(render(lesions, size, rendering), lesions.labels)


def phantom_md5(name: PhantomName, difficulty: float, size: int) -> str:
    """A hash of what a phantom is made from. Its pixels need not be made for it."""
    words = f"medtune phantom {VERSION} {name} {difficulty!r} {size} {sorted(CASES.items())}"
    return hashlib.md5(words.encode(), usedforsecurity=False).hexdigest()


def write_npz(path: Path, name: PhantomName, difficulty: float = 0.5, size: int = 28) -> None:
    """All three splits as a file with the members of a MedMNIST set: `{split}_images`, and `{split}_labels` of
    (cases, 1) or (cases, labels), uint8. Raises DataError where the file cannot be written."""
    members: dict[str, npt.NDArray[np.uint8]] = {}
    for split_name in SPLITS:
        split = make_phantom(name, split_name, difficulty, size)
        members[f"{split_name}_images"] = split.images
        members[f"{split_name}_labels"] = split.labels.reshape(len(split), -1).astype(np.uint8)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **members)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        part.unlink(missing_ok=True)
