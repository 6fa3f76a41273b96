"""Which split each case of an undivided set goes to."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from medtune.data import DataError

SEED = 0  # the division of a folder is part of the data, and no sweep's choice


def divide(labels: Sequence[str], twins: Sequence[bytes], parts: Mapping[str, float]) -> list[str]:
    """The part of each case, by class in proportion to `parts`; every part gets at least one case of every class.

    labels: the class of each case. twins: equal for cases that must not be parted. The division depends on the order
    of the cases and on nothing else. Raises DataError, without a place, for a class with too few different cases."""
    members: dict[str, dict[bytes, int]] = defaultdict(lambda: defaultdict(int))  # cases by class and twins
    for label, twin in zip(labels, twins, strict=True):
        members[label][twin] += 1
    generator = np.random.default_rng(SEED)
    placed: dict[bytes, str] = {}
    for label in sorted(members, key=lambda label: (len(members[label]), label)):  # the rare ones are the harder ones
        _place(label, members[label], parts, placed, generator)
    return [placed[twin] for twin in twins]


def _place(
    label: str,
    members: Mapping[bytes, int],
    parts: Mapping[str, float],
    placed: dict[bytes, str],
    generator: np.random.Generator,
) -> None:
    """Places the twins of a class, the largest groups first, each where most is lacking."""
    lacking = _shares(sum(members.values()), parts)
    empty = set(parts)
    for twin in members.keys() & placed.keys():  # another class has them too
        lacking[placed[twin]] -= members[twin]
        empty.discard(placed[twin])
    left = [twin for twin in members if twin not in placed]
    if len(left) < len(empty):
        raise DataError(
            f"the class {label} has {len(members)} different pictures, and each of {', '.join(parts)} needs one; "
            "add some, or leave it out with data.exclude"
        )
    shuffled = [left[index] for index in generator.permutation(len(left))]
    for done, twin in enumerate(sorted(shuffled, key=lambda twin: -members[twin])):
        must = len(left) - done == len(empty)
        part = max((part for part in parts if part in empty or not must), key=lambda part: lacking[part])
        placed[twin] = part
        lacking[part] -= members[twin]
        empty.discard(part)


def _shares(cases: int, parts: Mapping[str, float]) -> dict[str, int]:
    """Cases of each part: rounded, at least one; the first part has the rest."""
    first, *others = parts
    total = sum(parts.values())
    shares = {part: max(1, round(cases * parts[part] / total)) for part in others}
    return {first: cases - sum(shares.values()), **shares}
