"""A phantom for pretraining: what tells the classes apart is which of two textures is the stronger one.

Each picture is a grey level and two random textures, one whose waves run across (upright stripes) and one whose waves
run down (lying stripes). The label decides nothing but the mean of one number, which is their balance:

    z ~ Normal(mean(label), 1),   image = level + gain * (cos(balance(z)) * across + sin(balance(z)) * down) + noise

Level, gain, grain and the textures themselves do not know the label, so that no classifier of the images can beat the
likelihood ratio of z. Each texture has mean 0 and standard deviation 1 in every picture, and the two share no
frequency: somebody who measures their powers has z almost without loss, and need not know any nuisance (a test).

Why pretraining helps here: most of what differs between two pictures is level, gain and grain. As the pixels do, the
features of a random network grow with the gain and move with the level, and a balance of powers is no linear function
of them: a few labels do not show where in them z is. But two views of a picture share little else than z. Brightness
and contrast change level and gain, crops change the grain; flips and turns by 10 degrees leave what runs across running
across. An encoder that is to know a picture again by its views must read z.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL, GAIN = (96.0, 160.0), (6.0, 24.0)  # grey levels: of the whole picture, and the texture's standard deviation
GRAIN = (3.0, 7.0)  # waves in a side, so that grain is as large in the picture at every size
OCTAVE = 0.5  # standard deviation of a texture's frequencies around its grain
NOISE = 3.0  # grey levels (standard deviation), of each pixel
WEDGE = np.radians(25)  # of directions on either side of an axis: turned by 10 degrees, the two are still apart

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Textures:
    """What is drawn, a number per case: z, the balance that it makes in radians (0: all across, pi / 2: all down), and
    what the label does not touch."""

    labels: npt.NDArray[np.int64]
    z: Floats
    balance: Floats
    level: Floats  # grey levels
    gain: Floats  # grey levels
    grain: Floats  # waves in a side


def draw_textures(distance: float, cases: int, rng: np.random.Generator) -> Textures:
    """As many cases of one class as of the other, in random order. distance: between the means of z."""
    labels = rng.permutation(np.arange(cases) % 2)
    z = distance * (labels - 0.5) + rng.standard_normal(cases)
    return Textures(
        labels=labels,
        z=z,
        balance=np.pi / 4 * (1 + np.clip(z / z_range(distance), -1, 1)),
        level=rng.uniform(*LEVEL, cases),
        gain=_log_uniform(GAIN, cases, rng),
        grain=_log_uniform(GRAIN, cases, rng),
    )


def _log_uniform(between: tuple[float, float], cases: int, rng: np.random.Generator) -> Floats:
    return np.exp(rng.uniform(np.log(between[0]), np.log(between[1]), cases))


def z_range(distance: float) -> float:
    """The |z| at which one texture is alone; beyond it (one case in some hundreds) nothing changes."""
    return distance / 2 + 3


def directions(size: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Waves in a side at the frequencies of `numpy.fft.rfft2`, and which of them run across and which down:
    (2, size, size // 2 + 1)."""
    across, down = np.fft.rfftfreq(size, 1 / size)[None, :], np.abs(np.fft.fftfreq(size, 1 / size))[:, None]
    angle = np.arctan2(down, across)
    waves = np.hypot(across, down)
    return waves, np.stack([angle < WEDGE, angle > np.pi / 2 - WEDGE]) & (waves > 0)


def render(textures: Textures, size: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Images of textures: (cases, size, size), uint8."""
    waves, wedges = directions(size)
    octaves = np.log2(np.maximum(waves, 1))
    images = np.empty((len(textures.z), size, size), np.uint8)
    for case, balance in enumerate(textures.balance):
        ring = np.exp(-(((octaves - np.log2(textures.grain[case])) / OCTAVE) ** 2) / 2)
        white = np.fft.rfft2(rng.standard_normal((2, size, size)))
        pair = np.fft.irfft2(white * ring * wedges, s=(size, size))
        pair /= pair.std(axis=(1, 2), keepdims=True)
        pattern = np.tensordot([np.cos(balance), np.sin(balance)], pair, 1)
        noise = NOISE * rng.standard_normal((size, size))
        images[case] = np.clip(np.rint(textures.level[case] + textures.gain[case] * pattern + noise), 0, 255)
    return images
