"""What is in a data set: counts, values, twins, shifts between the splits.

This looks at the images and labels of the test too, which no sweep does; only the verb `data audit` may call it, and
no model is ever asked. What it finds says whether a number measured on this data can be believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from medtune.config.sweep import Data
from medtune.data import SPLITS, Split, SplitName
from medtune.data.catalogue import describe
from medtune.data.dataset import DatasetInfo
from medtune.data.prevalence import Shift, holm, prevalence_shift
from medtune.data.repeats import LISTED, Repeats, Splits, find_repeats
from medtune.data.splits import data_md5, load_sealed_test, load_search_splits
from medtune.task import Task

PAIRS: tuple[tuple[SplitName, ...], ...] = (SPLITS, ("train", "val"), ("train", "test"))


@dataclass(frozen=True)
class SplitFacts:
    """counts: cases by class or label. deviation: the standard deviation of all values. blank: images of one single
    value, and where the first of them are."""

    cases: int
    counts: list[int]
    min: int
    max: int
    mean: float
    deviation: float
    blank: int
    blank_first: list[int]


@dataclass(frozen=True)
class ShiftBetween:
    """splits: which are compared. label: of a multi-label set; its p-values are Holm's over the labels."""

    splits: list[SplitName]
    label: int | None
    shift: Shift


@dataclass(frozen=True)
class Audit:
    """All that is found. side: pixels a side. traps: what the catalogue, or the reading of a folder, warns of."""

    name: str
    title: str
    task: Task
    classes: list[str]
    channels: int
    side: int
    licence: str
    md5: str
    splits: dict[SplitName, SplitFacts]
    shifts: list[ShiftBetween]
    repeats: Repeats
    traps: list[str]


def all_splits(data: Data) -> dict[SplitName, Split]:
    """Train, val and the test, to be looked at by people and never by a model. Raises DataError."""
    train, val = load_search_splits(data)
    return {"train": train, "val": val, "test": load_sealed_test(data)}


def audit(data: Data, splits: Splits) -> Audit:
    """What is in a data set. splits: as `all_splits` gives them."""
    info = describe(data)
    facts = {name: split_facts(split, info) for name, split in splits.items()}
    return Audit(
        name=data.title,
        title=info.title,
        task=info.task,
        classes=list(info.classes),
        channels=info.channels,
        side=data.side,
        licence=info.licence,
        md5=data_md5(data),
        splits=facts,
        shifts=find_shifts(facts, info.task),
        repeats=find_repeats(splits),
        traps=list(info.traps),
    )


def split_facts(split: Split, info: DatasetInfo) -> SplitFacts:
    several = info.task == "multilabel"
    counts = split.labels.sum(axis=0) if several else np.bincount(split.labels, minlength=len(info.classes))
    values = np.bincount(split.images.ravel(), minlength=256)  # how often each grey level is there
    levels = np.arange(256)
    mean = float(values @ levels / values.sum())
    rows = split.images.reshape(len(split), -1)
    blank = np.flatnonzero(rows.min(axis=1) == rows.max(axis=1))
    return SplitFacts(
        cases=len(split),
        counts=counts.tolist(),
        min=int(np.flatnonzero(values)[0]),
        max=int(np.flatnonzero(values)[-1]),
        mean=mean,
        deviation=float(np.sqrt(values @ (levels - mean) ** 2 / values.sum())),
        blank=len(blank),
        blank_first=blank[:LISTED].tolist(),
    )


def find_shifts(facts: Mapping[SplitName, SplitFacts], task: Task) -> list[ShiftBetween]:
    """Whether classes are as frequent in all splits, and in val and in test as in train; label by label where a case
    has several."""
    rng = np.random.default_rng(0)
    shifts = []
    for names in PAIRS:
        counts = np.array([facts[name].counts for name in names])
        if task != "multilabel":
            shifts.append(ShiftBetween(list(names), None, prevalence_shift(counts, rng)))
            continue
        cases = np.array([facts[name].cases for name in names])
        each = [prevalence_shift(np.stack([ones, cases - ones], axis=1), rng) for ones in counts.T]
        adjusted = holm([shift.p for shift in each])
        for label, (shift, p) in enumerate(zip(each, adjusted, strict=True)):
            shifts.append(ShiftBetween(list(names), label, replace(shift, p=p)))
    return shifts
