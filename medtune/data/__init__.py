"""Images and labels: what there is, where it is, whether it is whole, and what may be seen of it.

This file has only the two words that every module of the room uses, so that importing one of them stays cheap.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class DataError(Exception):
    """Data that is missing, damaged or not what it should be: one line that says where, what, and what to do."""


@dataclass(frozen=True)
class Split:
    """The cases of one split, in the order of the file.

    images: uint8, (cases, side, side) in greyscale, (cases, side, side, 3) in colour.
    labels: int64, (cases,) with the class index; (cases, labels) of 0 and 1 where a case has several labels.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)
