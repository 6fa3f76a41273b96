"""What is known of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from medtune.config.sweep import PHANTOMS
from medtune.data import DataError, SplitName
from medtune.data.phantoms import PhantomName
from medtune.task import Task


@dataclass(frozen=True)
class DatasetInfo:
    """One data set.

    flag: the word in a sweep file, or a folder's name. channels: 1 (greyscale) or 3. classes: by label value; for
    multi-label, the labels.
    cases: by split. md5, urls: of the published file, by size in pixels; both empty for a phantom.
    A folder has the hash of the file that it was read into, and no url.
    """

    flag: str
    title: str
    task: Task
    classes: tuple[str, ...]
    channels: int
    cases: Mapping[SplitName, int]
    licence: str
    md5: Mapping[int, str] = field(default_factory=dict)
    urls: Mapping[int, str] = field(default_factory=dict)
    traps: tuple[str, ...] = ()

    @property
    def made(self) -> bool:
        """True for a phantom, which needs no file."""
        return self.flag in PHANTOMS and not self.md5  # a folder may be called so

    @property
    def phantom(self) -> PhantomName:
        """Of a phantom alone: which one it is."""
        return cast(PhantomName, self.flag.removeprefix("phantom-"))

    def url(self, size: int) -> str:
        """Where the file of this size is published. Raises DataError for a phantom and for an unknown size."""
        if size not in self.urls:
            raise DataError(f"{self.flag}: nothing to download" + (f" at {size} px" if self.urls else ", it is made"))
        return self.urls[size]

    def raw_bytes(self, size: int) -> int:
        """Bytes of all images once unpacked."""
        return sum(self.cases.values()) * size * size * self.channels
