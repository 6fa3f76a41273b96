"""Test-time augmentation: a model asked about several views of every image (Krizhevsky et al. 2012).

The views are fixed, not drawn: the same model and images always give the same numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medtune.data.batches import DeviceSplit
from medtune.data.policies import resample
from medtune.training.loop import predict_logits


@dataclass(frozen=True)
class View:
    """One way to look at an image: first flipped, then turned and shifted in one resampling; what comes in from outside
    is the mirrored image. right, down: as a fraction of the side."""

    name: str
    flip: bool = False  # left to right
    flip_vertical: bool = False
    degrees: float = 0.0  # clockwise
    right: float = 0.0
    down: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """images: float (cases, channels, height, width). Shape, dtype and memory layout are kept."""
        dims = [dim for dim, wanted in ((3, self.flip), (2, self.flip_vertical)) if wanted]
        seen = images.flip(dims) if dims else images
        if self.degrees or self.right or self.down:
            seen = resample(seen, self._theta(seen).expand(len(seen), 2, 3))
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        return seen.contiguous(memory_format=torch.channels_last) if channels_last else seen

    def _theta(self, images: Tensor) -> Tensor:
        """The affine map of target to source, on -1..1 along each side: hence the 2."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        right, down = 2 * self.right, 2 * self.down
        rows = [[cos, sin, -cos * right - sin * down], [-sin, cos, sin * right - cos * down]]
        return torch.tensor(rows, dtype=images.dtype, device=images.device)


SHIFT = 2 / 28  # two pixels of a MedMNIST image, whole pixels at any multiple of 14 a side
DEGREES = 10.0

IDENTITY = View("identity")
FLIP = View("flip", flip=True)
FLIP_VERTICAL = View("flip vertical", flip_vertical=True)
ROTATIONS = (View("10 degrees left", degrees=-DEGREES), View("10 degrees right", degrees=DEGREES))
SHIFTS = (
    View("shift left", right=-SHIFT),
    View("shift right", right=SHIFT),
    View("shift up", down=-SHIFT),
    View("shift down", down=SHIFT),
)
# no vertical flip: in most images of the body up is not down; a caller that knows better adds FLIP_VERTICAL
DEFAULT = (IDENTITY, FLIP, *ROTATIONS, *SHIFTS)


class _Seen(nn.Module):
    """A view as the first layer of a model."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def forward(self, images: Tensor) -> Tensor:
        return self.view(images)


def test_time_logits(
    model: nn.Module, split: DeviceSplit, autocast: torch.autocast, views: Sequence[View] = DEFAULT
) -> NDArray[np.float32]:
    """float32 logits (views, cases, classes): the members of `evaluation.ensembles`.

    views: the default has eight, the image as it is, its mirror image, 10 degrees to each side, and a shift of 1/14 of
    the side to each of four. Costs one prediction a view. The model is left in evaluation mode. Raises ValueError where
    there is no view.
    """
    if not views:
        raise ValueError("test-time augmentation needs a view")
    return np.stack([predict_logits(nn.Sequential(_Seen(view), model), split, autocast) for view in views])


test_time_logits.__test__ = False  # type: ignore[attr-defined]  # pytest would take an imported one for a test
