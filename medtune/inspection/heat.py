"""Heat maps to colours, over the image that they are of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.data.policies import GREY

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

# dark violet over green to yellow, ever brighter: told apart by colour-blind readers and in grey print
ANCHORS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
COVERED = 0.65  # of the image, where the heat is 1


def colours(heat: Floats) -> Bytes:
    """Of values from 0 to 1: uint8 (…, 3). What lies outside has the colour of the end."""
    places = np.linspace(0, 1, len(ANCHORS))
    channels = [np.interp(heat, places, anchors) for anchors in zip(*ANCHORS, strict=True)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def overlay(image: Bytes, heat: Floats) -> Bytes:
    """The image in grey with the heat over it: uint8 (height, width, 3). The hotter, the more it covers: where the heat
    is 0, the image is as it was.

    image: uint8 (height, width) or (height, width, 3). heat: (height, width), 0 to 1. Raises ValueError where their
    sizes differ.
    """
    if image.shape[:2] != heat.shape:
        raise ValueError(f"a heat map of {heat.shape} for an image of {image.shape[:2]}")
    grey = image if image.ndim == 2 else image @ np.array(GREY)
    covered = COVERED * heat[..., None].clip(0, 1)
    return np.rint(grey[..., None] * (1 - covered) + colours(heat) * covered).astype(np.uint8)
