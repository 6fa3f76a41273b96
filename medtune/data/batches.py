"""A split on a device: uint8 images and labels, and batches of them by index."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from medtune.config.sweep import TrainOn
from medtune.config.trial import Labels
from medtune.data import Split
from medtune.data.labelled import labelled_subset


@dataclass(frozen=True)
class DeviceSplit:
    """Cases on a device: all of the images, or some of them.

    images: uint8 (images, height, width, channels). labels: int64 (cases,), or float32 (cases, labels).
    rgb: greyscale is repeated to three channels in each batch, never in memory. cases: which images these are, in the
    order of the labels; None: all of them. On the CPU the tensors are views of the arrays that they came from.
    """

    images: Tensor
    labels: Tensor
    rgb: bool = False
    cases: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """Of a batch."""
        return 3 if self.rgb else self.images.shape[3]

    @property
    def size(self) -> int:
        return self.images.shape[1]

    @property
    def device(self) -> torch.device:
        return self.images.device

    def part(self, indices: Tensor) -> "DeviceSplit":
        """The cases at these positions, in this order; their images are not copied."""
        chosen = indices.to(self.device)
        cases = chosen if self.cases is None else self.cases[chosen]
        return replace(self, labels=self.labels[chosen], cases=cases)

    def batch(self, cases: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images as float32 (cases, channels, height, width) from 0 to 1, channels last in memory, and labels."""
        chosen = cases if self.cases is None else self.cases[cases]
        images = self.images[chosen].permute(0, 3, 1, 2).float().div_(255)
        if images.shape[1] != self.channels:
            images = images.expand(-1, self.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        return images, self.labels[cases]


@dataclass(frozen=True)
class DeviceSplits:
    """Train and val of a data set on a device."""

    train: DeviceSplit
    val: DeviceSplit

    @cached_property
    def both(self) -> DeviceSplit:
        """Made once for all trials, because it is a copy."""
        return join(self.train, self.val)

    def fitted(self, train_on: TrainOn, labels: Labels | None) -> DeviceSplit:
        """What a model is fitted to: train, or both, and of train the cases whose labels are known."""
        whole = self.train if train_on == "train" else self.both
        if labels is None or labels.fraction == 1:
            return whole
        known = labelled_subset(self.train.labels.cpu().numpy(), labels.fraction, labels.seed)
        added = np.arange(len(self.train), len(whole))
        return whole.part(torch.from_numpy(np.concatenate([known, added])))


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # arrays of Ray's object store are read-only, and nothing here writes into them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def to_device(split: Split, device: torch.device | str, rgb: bool = False) -> DeviceSplit:
    """A split's arrays on a device; with `rgb`, as a model of three channels sees them."""
    images = _tensor(split.images)
    if images.ndim == 3:
        images = images.unsqueeze(3)
    labels = _tensor(split.labels)
    if labels.ndim == 2:
        labels = labels.float()  # what binary cross-entropy wants
    return DeviceSplit(images.to(device), labels.to(device), rgb)


def join(first: DeviceSplit, second: DeviceSplit) -> DeviceSplit:
    """The cases of two whole splits of one data set, the first's before the second's. A copy."""
    images, labels = (torch.cat([getattr(first, name), getattr(second, name)]) for name in ("images", "labels"))
    return DeviceSplit(images, labels, first.rgb)
