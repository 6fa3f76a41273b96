"""What happens to a model when its images get worse: six corruptions at five strengths each.

After Hendrycks & Dietterich 2019, with lengths as a fraction of the side, so that a strength looks alike at any size.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from medtune.data.batches import DeviceSplit
from medtune.inspection.test_time import View
from medtune.training.loop import predict_logits

Bytes = NDArray[np.uint8]
Values = NDArray[np.float32]

BRIGHTEST = 255
CASES_AT_ONCE = 512  # as float32: bounds the memory

STRENGTHS = (1, 2, 3, 4, 5)
# what the numbers mean stands at the function of each name
PARAMETERS: dict[str, tuple[float, ...]] = {
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    "blur": (0.02, 0.03, 0.04, 0.05, 0.07),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "rotation": (5, 10, 15, 20, 30),
    "jpeg": (50, 25, 15, 10, 7),
}
NAMES = tuple(PARAMETERS)


def corrupted(images: Bytes, name: str, strength: int, generator: np.random.Generator) -> Bytes:
    """Images made worse; a copy. images: uint8 (cases, height, width) or (cases, height, width, 3), and so is what
    comes back.

    name: one of `NAMES`. strength: 1 to 5. What is random is drawn for each case: the noise, whether it becomes
    brighter or darker, which way it turns. The same generator state at another strength gives the same draws, stronger.
    Raises ValueError for other names, strengths, shapes or types.
    """
    if name not in PARAMETERS or strength not in STRENGTHS:
        raise ValueError(f"{name!r} at strength {strength}: {', '.join(NAMES)}, at strengths 1 to 5, are known")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise ValueError(f"images {images.dtype} {images.shape}: uint8 (cases, height, width) or (…, 3) is needed")
    parameter = PARAMETERS[name][strength - 1]
    made = np.empty_like(images)
    for start in range(0, len(images), CASES_AT_ONCE):
        part = slice(start, start + CASES_AT_ONCE)
        made[part] = _CORRUPTIONS[name](images[part], parameter, generator)
    return made


def _bytes(values: Values) -> Bytes:
    return np.rint(values).clip(0, BRIGHTEST).astype(np.uint8)


def _signs(images: Bytes, generator: np.random.Generator) -> Values:
    """-1 or 1 for each case, shaped to be multiplied with the images."""
    drawn = generator.integers(0, 2, len(images)) * 2 - 1
    return drawn.astype(np.float32).reshape(-1, *[1] * (images.ndim - 1))


def _noise(images: Bytes, deviation: float, generator: np.random.Generator) -> Bytes:
    """Gaussian, for each pixel and channel; its standard deviation as a fraction of the brightest."""
    drawn = generator.standard_normal(images.shape, dtype=np.float32)
    return _bytes(images + drawn * np.float32(deviation * BRIGHTEST))


def _blur(images: Bytes, deviation: float, generator: np.random.Generator) -> Bytes:
    """Gaussian; its standard deviation as a fraction of the side; mirrored outside."""
    sigma = (0, deviation * images.shape[1], deviation * images.shape[2], 0)[: images.ndim]
    return _bytes(gaussian_filter(images.astype(np.float32), sigma))


def _contrast(images: Bytes, factor: float, generator: np.random.Generator) -> Bytes:
    """The distance of each pixel from its image's mean, of each channel, times a factor."""
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _bytes(mean + (images - mean) * np.float32(factor))


def _brightness(images: Bytes, amount: float, generator: np.random.Generator) -> Bytes:
    """Each pixel brighter or darker by a fraction of the brightest."""
    return _bytes(images + _signs(images, generator) * np.float32(amount * BRIGHTEST))


def _rotation(images: Bytes, degrees: float, generator: np.random.Generator) -> Bytes:
    """Left or right, in degrees; mirrored outside."""
    made, signs = np.empty_like(images), _signs(images, generator).reshape(-1)
    for sign in np.unique(signs):
        chosen = images[signs == sign].reshape(-1, *images.shape[1:3], images.shape[3] if images.ndim == 4 else 1)
        turned = View("", degrees=sign * degrees)(torch.from_numpy(chosen).permute(0, 3, 1, 2).float())
        made[signs == sign] = _bytes(turned.permute(0, 2, 3, 1).numpy()).reshape(-1, *images.shape[1:])
    return made


def _jpeg(images: Bytes, quality: float, generator: np.random.Generator) -> Bytes:
    """Through JPEG at a quality, of 100."""
    made = np.empty_like(images)
    for index, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        made[index] = np.asarray(Image.open(file, formats=["JPEG"]))
    return made


_CORRUPTIONS: dict[str, Callable[[Bytes, float, np.random.Generator], Bytes]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "rotation": _rotation,
    "jpeg": _jpeg,
}


class Worse(NamedTuple):
    """Predictions on corrupted images. logits: float32 (cases, classes)."""

    name: str
    strength: int
    logits: NDArray[np.float32]


def robustness(
    model: nn.Module, split: DeviceSplit, autocast: torch.autocast, seed: int, names: Sequence[str] = NAMES
) -> Iterator[Worse]:
    """The predictions on the split under each corruption, from strength 1 to 5, one after the other, so that a caller
    can tell how far it is: `len(names) * len(STRENGTHS)` of them. Each name has its own draws, the same at every
    strength. Raises ValueError for an unknown name."""
    images = _images(split)
    for name in names:
        for strength in STRENGTHS:
            worse = corrupted(images, name, strength, _generator(seed, name))
            seen = torch.from_numpy(worse.reshape(*worse.shape[:3], -1)).to(split.device)
            logits = predict_logits(model, replace(split, images=seen, cases=None), autocast)
            yield Worse(name, strength, logits)


def _images(split: DeviceSplit) -> Bytes:
    images = (split.images if split.cases is None else split.images[split.cases]).cpu().numpy()
    return images[..., 0] if images.shape[3] == 1 else images


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def mean_degradation(clean: float, worse: Mapping[str, Sequence[float]]) -> float:
    """What the AUROC loses on average, over all names and strengths alike: mean of clean - corrupted.

    clean: AUROC of the images as they are. worse: AUROC of each strength, by name. Below 0 where corruption helped.
    Raises ValueError where an AUROC is NaN, as all are when the split lacks a class, or where there is none.
    """
    values = np.array([value for aurocs in worse.values() for value in aurocs], np.float64)
    if not values.size or np.isnan(clean) or np.isnan(values).any():
        raise ValueError("the degradation is undefined: it needs an AUROC with and without corruption")
    return float((clean - values).mean())
