"""A split on a device: uint8 images and labels, and batches of them by index."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class DeviceSplit:
    """`images`: uint8 (cases, height, width, channels); `labels`: int64 (cases,), or float32 (cases, labels).

    On the CPU the tensors are views of the arrays that they came from: no copy of the data is made.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        return self.images.shape[3]

    @property
    def size(self) -> int:
        return self.images.shape[1]

    def batch(self, cases: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images as float32 (cases, channels, height, width) from 0 to 1, channels last in memory, and labels."""
        return self.images[cases].permute(0, 3, 1, 2).float().div_(255), self.labels[cases]


def normalise(images: Tensor) -> Tensor:
    """From 0..1 to -1..1, as the official recipe's mean .5 and standard deviation .5 do it."""
    return images.sub_(0.5).div_(0.5)


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # arrays of Ray's object store are read-only, and nothing here writes into them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def to_device(images: np.ndarray, labels: np.ndarray, device: torch.device | str) -> DeviceSplit:
    """A split's arrays on a device.

    images: uint8 (cases, height, width) or (cases, height, width, 3); labels: int64 (cases,) or (cases, labels).
    """
    tensor = _tensor(images)
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(3)
    targets = _tensor(labels)
    if targets.ndim == 2:
        targets = targets.float()  # what binary cross-entropy wants
    return DeviceSplit(tensor.to(device), targets.to(device))
