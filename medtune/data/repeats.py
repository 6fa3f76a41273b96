"""The twins of a data set, as cases of its splits: where they are, whether their labels agree, who has one in train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtune.data import Split, SplitName
from medtune.data.twins import NearTwins, exact_twins, near_twins, small_grey

LISTED = 1_000  # twins that are named one by one
Splits = Mapping[SplitName, Split]


@dataclass(frozen=True)
class Case:
    """One image: the split, its place there counted from 0, and its label; of several labels those that are 1."""

    split: SplitName
    index: int
    label: int | list[int]


@dataclass(frozen=True)
class ExactTwins:
    """Groups of images with identical pixels. across: how many are in more than one split. contradicting: how many have
    different labels. first: the groups, those across splits first."""

    groups: int
    across: int
    contradicting: int
    first: list[list[Case]]


@dataclass(frozen=True)
class Pair:
    """distance: bits of 64 by which the hashes differ. correlation: of the pixels, laid on each other."""

    a: Case
    b: Case
    distance: int
    correlation: float


@dataclass(frozen=True)
class NearPairs:
    """Pairs of near twins, identical images not among them; the rest as in `ExactTwins`. reach, compared: of
    `medtune.data.twins.NearTwins`."""

    pairs: int
    across: int
    contradicting: int
    reach: int
    compared: int
    first: list[Pair]


@dataclass(frozen=True)
class Repeats:
    """in_train: how many cases of each other split have a twin in train, an exact or a near one."""

    exact: ExactTwins
    near: NearPairs
    in_train: dict[SplitName, int]


def find_repeats(splits: Splits) -> Repeats:
    """All twins within and between splits. The first split is train."""
    cases = _Cases(splits)
    groups = exact_twins([image for split in splits.values() for image in split.images])
    near = near_twins(np.concatenate([small_grey(split.images) for split in splits.values()]))
    pairs = np.stack([near.first, near.second], axis=1)
    return Repeats(_exact(cases, groups), _near(cases, groups, near), _in_train(cases, groups, pairs))


class _Cases:
    """All cases of a set in one row, split after split."""

    def __init__(self, splits: Splits) -> None:
        self.names = list(splits)
        self.split = np.repeat(np.arange(len(splits)), [len(split) for split in splits.values()])
        self.index = np.concatenate([np.arange(len(split)) for split in splits.values()])
        self.labels = np.concatenate([split.labels for split in splits.values()])

    def __getitem__(self, number: int) -> Case:
        label = self.labels[number]
        told = int(label) if label.ndim == 0 else np.flatnonzero(label).tolist()
        return Case(self.names[self.split[number]], int(self.index[number]), told)

    def across(self, numbers: Sequence[int]) -> bool:
        return len(set(self.split[numbers].tolist())) > 1

    def contradict(self, numbers: Sequence[int]) -> bool:
        return bool((self.labels[numbers] != self.labels[numbers[0]]).any())


def _exact(cases: _Cases, groups: Sequence[list[int]]) -> ExactTwins:
    ordered = sorted(groups, key=lambda group: not cases.across(group))
    return ExactTwins(
        groups=len(groups),
        across=sum(map(cases.across, groups)),
        contradicting=sum(map(cases.contradict, groups)),
        first=[[cases[number] for number in group] for group in ordered[:LISTED]],
    )


def _near(cases: _Cases, groups: Sequence[list[int]], near: NearTwins) -> NearPairs:
    group_of = {number: place for place, group in enumerate(groups) for number in group}
    pairs = [[int(a), int(b)] for a, b in zip(near.first, near.second, strict=True)]
    own = [place for place, (a, b) in enumerate(pairs) if a not in group_of or group_of[a] != group_of.get(b)]
    ordered = sorted(own, key=lambda place: not cases.across(pairs[place]))
    return NearPairs(
        pairs=len(own),
        across=sum(cases.across(pairs[place]) for place in own),
        contradicting=sum(cases.contradict(pairs[place]) for place in own),
        reach=near.reach,
        compared=near.compared,
        first=[
            Pair(cases[a], cases[b], int(near.distance[place]), round(float(near.agreement[place]), 4))
            for place in ordered[:LISTED]
            for a, b in [pairs[place]]
        ],
    )


def _in_train(cases: _Cases, groups: Sequence[list[int]], pairs: npt.NDArray[np.int64]) -> dict[SplitName, int]:
    train = cases.split == 0
    known = np.zeros(len(train), bool)
    for group in groups:
        known[group] |= train[group].any()
    for one, other in (pairs.T, pairs.T[::-1]):
        known[one[train[other]]] = True
    return {name: int(known[cases.split == place].sum()) for place, name in enumerate(cases.names) if place}
