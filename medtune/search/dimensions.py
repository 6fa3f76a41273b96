"""The dimensions of a space as people name them: `optimizer.lr`, and of which branch it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medtune.config.default import Point
from medtune.config.space import Choice, Distribution, Range, distributions

Scale = Literal["linear", "log", "choice"]
_BRANCH = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Dimension:
    """path: as in the ledger, `optimizer[0].lr`. name: without the branch, `optimizer.lr`, which several dimensions may
    share. branch: of which options it is, in words, `adam`; empty for one that every trial has."""

    path: str
    name: str
    branch: str
    distribution: Distribution

    @property
    def label(self) -> str:
        return f"{self.name} ({self.branch})" if self.branch else self.name

    @property
    def group(self) -> str:
        """The branch as in the ledger, `optimizer[0]`: the dimensions of one are active in the same trials."""
        return self.path[: self.path.rfind("]") + 1]

    @property
    def scale(self) -> Scale:
        if isinstance(self.distribution, Choice):
            return "choice"
        return "log" if self.distribution.log else "linear"

    def active(self, point: Point) -> bool:
        return self.path in point


def dimensions(space: Mapping[str, Any]) -> list[Dimension]:
    """Every dimension of a `trial:` tree in the order of the file, outer ones first."""
    named = dict(distributions(space))
    return [Dimension(path, without_branch(path), _branch(path, named), named[path]) for path in named]


def without_branch(path: str) -> str:
    """`optimizer.lr` of `optimizer[0].lr`."""
    return _BRANCH.sub("", path)


def scale_of(name: str, all_dimensions: list[Dimension]) -> Scale:
    """How the values of a swept name are to be laid out: by the ranges that give them, where there are any."""
    scales = {dimension.scale for dimension in all_dimensions if dimension.name == name}
    # a range in a choice, as in `mixup: {choice: [0, {uniform: [0.1, 0.4]}]}`, has its own line and the choice's
    return "log" if scales == {"log"} else "linear" if scales - {"choice"} else "choice"


def _branch(path: str, named: Mapping[str, Distribution]) -> str:
    words = []
    for found in _BRANCH.finditer(path):
        choice = named[path[: found.start()]]
        assert isinstance(choice, Choice)
        words.append(_option(choice, int(found[1])))
    return ", ".join(words)


def _option(choice: Choice, index: int) -> str:
    """An option in a word or two that no other option has."""
    words = [_word(option) for option in choice.options]
    return words[index] if words[index] and words.count(words[index]) == 1 else f"option {index + 1}"


def _word(option: Any) -> str:
    if isinstance(option, Range):
        return f"{option.low:g} to {option.high:g}"
    name = option.get("name", "") if isinstance(option, Mapping) else ""
    return name if isinstance(name, str) else ""
