"""`--set key=value` on top of a file, and where each place of the result was written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medtune.config.notation import kinds_in
from medtune.config.problems import Place, Problem, dotted, key_shown
from medtune.config.yaml_text import MAX_DEPTH, Document, YamlSyntaxError, parse


@dataclass
class Sources:
    """Where the places of a tree were written: in the file, or in an override."""

    file: str
    document: Document
    overrides: dict[Place, str] = field(default_factory=dict)

    def line(self, problem: Problem) -> str:
        """The problem as people read it: `file:line:column: text`, or `--set key=value: text`."""
        override = self._override(problem.place)
        if override:
            return f"--set {key_shown(override)}: {problem.text}"
        line, column = self._mark(problem)
        return f"{self.file}:{line}:{column}: {problem.text}"

    def order(self, problem: Problem) -> tuple[bool, tuple[int, int]]:
        """For sorting: as the file reads, overrides last."""
        return self._override(problem.place) is not None, self._mark(problem)

    def _override(self, place: Place) -> str | None:
        above = [place[:length] for length in range(len(place), 0, -1) if place[:length] in self.overrides]
        if above:
            return self.overrides[above[0]]
        if place in self.document.values:
            return None
        # a mapping that only exists because an override stands below it
        below = [text for key, text in self.overrides.items() if place and key[: len(place)] == place]
        return below[0] if below else None

    def _mark(self, problem: Problem) -> tuple[int, int]:
        if problem.at_key and problem.place in self.document.keys:
            return self.document.keys[problem.place]
        for length in range(len(problem.place), -1, -1):
            if problem.place[:length] in self.document.values:
                return self.document.values[problem.place[:length]]
        return 1, 1


def apply_overrides(sources: Sources, overrides: Sequence[str]) -> list[str]:
    """Put each `key=value` into the document's tree, in order. Returns a line for each that cannot be."""
    problems = []
    for override in overrides:
        try:
            place, value = _read(override)
            _put(sources.document.tree, place, value)
        except _RefusedError as refused:
            problems.append(f"--set {key_shown(override)}: {refused}")
            continue
        for older in [key for key in sources.overrides if key[: len(place)] == place]:
            del sources.overrides[older]
        sources.overrides[place] = override
    return problems


class _RefusedError(Exception):
    """Why an override cannot be; its text ends the line that is reported."""


def _read(override: str) -> tuple[Place, Any]:
    key, equals, text = override.partition("=")
    place = tuple(key.strip().split("."))
    if not equals or not all(place):
        raise _RefusedError("this is no key=value; write for example trial.epochs=20")
    if len(place) > MAX_DEPTH:
        raise _RefusedError("nested too deeply; no key has more than a few levels")
    try:
        document = parse(text)
    except YamlSyntaxError as error:
        raise _RefusedError(f"the value is wrong: {error.text}") from error
    if document.problems:
        raise _RefusedError(f"the value is wrong: {document.problems[0].text}")
    return place, document.tree


def _put(tree: dict[str, Any], place: Place, value: Any) -> None:
    for length, step in enumerate(place[:-1], start=1):
        # an empty section reads as null
        if tree.get(str(step)) is None:
            tree[str(step)] = {}
        tree = tree[str(step)]
        _refuse_below(tree, dotted(place[:length]))
    tree[str(place[-1])] = value


def _refuse_below(tree: Any, name: str) -> None:
    """Raise where nothing can be set below the node `tree`, called `name`."""
    if isinstance(tree, list):
        raise _RefusedError(f"{name} is a list; set the whole list, {name}=[...]")
    if not isinstance(tree, Mapping):
        raise _RefusedError(f"{name} is a plain value, so nothing stands below it; set {name}=...")
    if kinds_in(tree):
        raise _RefusedError(f"{name} is a distribution ({kinds_in(tree)[0]}); set the whole of it, {name}=...")
