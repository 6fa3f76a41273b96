"""What is wrong with a file: where it stands, in which words, and the error that holds all of it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Place = tuple[str | int, ...]  # the keys and indices that lead to a node of the file


@dataclass(frozen=True)
class Problem:
    place: Place
    text: str  # what is wrong and what to do, in one line
    at_key: bool = False  # the key itself is wrong, not its value


class ConfigError(Exception):
    """Everything that is wrong with a file: `problems`, one `file:line:column: what; what to do` each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def dotted(place: Iterable[str | int]) -> str:
    """A place as people write it, `trial.optimizer.lr` or `search.start_with.0`, without the options of choices."""
    words: list[str] = []
    for step in place:
        if isinstance(step, int) and words and words[-1] == "choice":
            words.pop()
        else:
            words.append(str(step))
    return ".".join(words)


def listed(words: Iterable[object], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    texts = [str(word) for word in words]
    return f" {last} ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def nearest(word: object, words: Iterable[str]) -> str | None:
    """The one of `words` that `word` was most likely meant to be, if any is near."""
    lowered = {candidate.lower(): candidate for candidate in words}
    found = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def shown(value: Any) -> str:
    """A value of the file in a few characters."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
