"""RandAugment and TrivialAugment on a whole batch: every image draws its own operations, strengths and signs.

Cubuk et al. 2020 and Müller & Hutter 2021, with the strengths that torchvision has. Three things differ: shears are
about the centre and not about a corner, what comes in from outside is the mirrored image and not black, and images
without colour never draw saturation, which would leave them as they are.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medtune.config.trial import NoPolicy, Policy, RandAugment, TrivialAugment

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = ("brightness", "contrast", "sharpness", "saturation")
# saturation is the last, because images without colour draw from those before it
OPERATIONS = ("identity", "posterize", "solarize", "autocontrast", "equalize", *GEOMETRIC, *BLENDS)
CHOOSING = ("cpu",)  # devices that compute for its images alone; the others all for all, rather than be waited for
LEVELS = 31  # of TrivialAugment, from 0 to the strongest
GREYS = 255  # the brightest of the 8-bit levels
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Strongest(NamedTuple):
    """What an operation does at level 1."""

    shear: float  # pixels a pixel
    shift: float  # as a fraction of the side
    degrees: float
    factor: float  # brightness, contrast, sharpness and saturation are multiplied by 1 +- this
    bits: int  # taken from each pixel's eight


class Layer(NamedTuple):
    """One operation an image: its place in `OPERATIONS`, a level from 0 to 1 and a sign, each (cases, 1, 1, 1)."""

    operations: Tensor
    levels: Tensor
    signs: Tensor

    def draws(self, *names: str) -> Tensor:
        """Whether an image has one of these operations."""
        first, *others = (self.operations == OPERATIONS.index(name) for name in names)
        for other in others:
            first = first | other
        return first

    def signed(self, *names: str) -> Tensor:
        """From -1 to 1, and 0 for images that have none of these operations."""
        return self.levels * self.signs * self.draws(*names)


def strongest(policy: RandAugment | TrivialAugment, side: int) -> Strongest:
    """For square images of so many pixels a side. TrivialAugment's is its wide space: 32 pixels at any size."""
    if isinstance(policy, TrivialAugment):
        return Strongest(shear=0.99, shift=32 / side, degrees=135, factor=0.99, bits=6)
    return Strongest(shear=0.3, shift=150 / 331, degrees=30, factor=0.9, bits=4)


def apply_policy(policy: Policy, images: Tensor, generator: torch.Generator) -> Tensor:
    """images: float (cases, channels, side, side) from 0 to 1, on the generator's device; the range is kept."""
    if isinstance(policy, NoPolicy):
        return images
    limits = strongest(policy, images.shape[3])
    colourless = (images == images[:, :1]).all(dim=(1, 2, 3))  # of three channels, too: repeated greyscale
    choices = len(OPERATIONS) - colourless.long()
    for _ in range(1 if isinstance(policy, TrivialAugment) else policy.ops):
        images = apply_layer(images, _draw(policy, choices.view(-1, 1, 1, 1), generator), limits)
    return images


def _draw(policy: RandAugment | TrivialAugment, choices: Tensor, generator: torch.Generator) -> Layer:
    """Each image draws from so many of the operations."""

    def integers(below: int) -> Tensor:
        return torch.randint(below, choices.shape, generator=generator, device=choices.device)

    operations = integers(len(OPERATIONS) * (len(OPERATIONS) - 1)) % choices  # a multiple of either number
    signs = integers(2) * 2 - 1
    if isinstance(policy, TrivialAugment):
        return Layer(operations, integers(LEVELS) / (LEVELS - 1), signs)
    return Layer(operations, torch.full(choices.shape, policy.magnitude, device=choices.device), signs)


def apply_layer(images: Tensor, layer: Layer, limits: Strongest) -> Tensor:
    """Does to every image its operation."""
    steps: list[tuple[tuple[str, ...], Callable[[Tensor, Layer], Tensor]]] = [
        (GEOMETRIC, lambda images, layer: resample(images, _affine(layer, limits))),
        (BLENDS, lambda images, layer: _blend(images, layer, limits.factor)),
        (("posterize",), lambda images, layer: posterize(images, torch.round(layer.levels * limits.bits))),
        (("solarize",), lambda images, layer: solarize(images, 1 - layer.levels)),
        (("autocontrast",), lambda images, layer: autocontrast(images)),
        (("equalize",), lambda images, layer: equalize(images)),
    ]
    images = images.clone()
    for names, operation in steps:
        drawn = layer.draws(*names)
        if images.device.type not in CHOOSING:
            images = torch.where(drawn, operation(images, layer), images)
        elif len(cases := drawn.flatten().nonzero()[:, 0]):
            images[cases] = operation(images[cases], Layer(*(numbers[cases] for numbers in layer)))
    return images


def _affine(layer: Layer, limits: Strongest) -> Tensor:
    """(cases, 2, 3), from -1 to 1 along each side: the identity, or the one operation that an image has."""
    angle = layer.signed("rotate") * math.radians(limits.degrees)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shear_x, shear_y = (layer.signed(name) * limits.shear for name in ("shear_x", "shear_y"))
    shift_x, shift_y = (layer.signed(name) * 2 * limits.shift for name in ("translate_x", "translate_y"))
    theta = torch.cat([cos, shear_x - sin, shift_x, shear_y + sin, cos, shift_y], dim=1)
    return theta.view(-1, 2, 3)


def resample(images: Tensor, theta: Tensor) -> Tensor:
    """Each image through its affine map (cases, 2, 3) of target to source; mirrored outside."""
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _blend(images: Tensor, layer: Layer, factor: float) -> Tensor:
    """Towards and away from black, the mean grey, the smoothed image or the grey image: four operations in one."""
    shades = grey(images)
    other = torch.where(layer.draws("contrast"), shades.mean(dim=(1, 2, 3), keepdim=True), 0)
    other = torch.where(layer.draws("saturation"), shades, other)
    other = torch.where(layer.draws("sharpness"), smooth(images), other)
    return torch.addcmul(images, images - other, layer.signed(*BLENDS) * factor).clamp_(0, 1)


def grey(images: Tensor) -> Tensor:
    """(cases, 1, height, width) of colour images; others are grey already."""
    if images.shape[1] != 3:
        return images
    red, green, blue = (images[:, channel : channel + 1] * weight for channel, weight in enumerate(GREY))
    return red + green + blue


def smooth(images: Tensor) -> Tensor:
    """A 3x3 mean in which the middle counts five times; the border stays as it is. As PIL and torchvision have it."""
    if min(images.shape[2:]) < 3:
        return images
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    means = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smoothed = images.clone()
    inside = smoothed[:, :, 1:-1, 1:-1]
    inside.mul_(4).add_(means).div_(13)
    return smoothed


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The last `bits` (cases, 1, 1, 1) of each 8-bit level set to zero."""
    step = torch.exp2(bits)
    return torch.where(bits > 0, torch.floor(torch.round(images * GREYS) / step) * step / GREYS, images)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Inverts the pixels from a threshold (cases, 1, 1, 1) on: 0: all of them; 1: none, as 256 of 8-bit levels."""
    return torch.where(images * GREYS >= threshold * (GREYS + 1), 1 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched from 0 to 1; one that has a single grey level stays as it is."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    flat = high - low < 0.5 / GREYS  # resampling leaves a flat channel with rounding errors, which are no contrast
    return torch.where(flat, images, (images - low) / (high - low).clamp(min=0.5 / GREYS))


def equalize(images: Tensor) -> Tensor:
    """Each channel's histogram of 8-bit levels made flat, with PIL's rounding; one that has few pixels stays."""
    greys = torch.round(images * GREYS).long().flatten(2)
    counts = torch.zeros((*greys.shape[:2], GREYS + 1), dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, greys, torch.ones_like(greys))
    below = counts.cumsum(dim=2) - counts
    brightest = greys.amax(dim=2, keepdim=True)
    step = (greys.shape[2] - counts.gather(2, brightest)) // GREYS
    table = ((below + step // 2) // step.clamp(min=1)).clamp(0, GREYS) / GREYS
    return torch.where(step[..., None] > 0, table.gather(2, greys).view_as(images), images)
