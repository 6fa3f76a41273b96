"""What is wrong with a file: where it stands, in which words, and the error that holds all of it."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Place = tuple[str | int, ...]  # the keys and indices that lead to a node of the file
MOST = 100  # lines that are said about a file
LONGEST = 60  # characters of the file in a line about it


@dataclass(frozen=True)
class Problem:
    place: Place
    text: str  # what is wrong and what to do, in one line
    at_key: bool = False  # the key itself is wrong, not its value


class ConfigError(Exception):
    """Everything that is wrong with a file: `problems`, one `file:line:column: what; what to do` each, up to MOST."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        if len(self.problems) > MOST:
            self.problems[MOST:] = [f"and {len(self.problems) - MOST:,} more mistakes; correct these first"]
        super().__init__("\n".join(self.problems))


def dotted(place: Iterable[str | int]) -> str:
    """A place as people write it, `trial.optimizer.lr` or `search.start_with.0`, without the options of choices."""
    words: list[str] = []
    for step in place:
        if isinstance(step, int) and words and words[-1] == "choice":
            words.pop()
        else:
            words.append(key_shown(step))
    return ".".join(words)


def key_shown(key: object) -> str:
    """A key as people read it: short, and in quotes where it would not be seen as it is."""
    text = str(key)
    plain = text.isprintable() and text == text.strip() and text != ""
    return _short(text if plain else repr(text))


def listed(words: Iterable[object], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    texts = [str(word) for word in words]
    return f" {last} ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def nearest(word: object, words: Iterable[str]) -> str | None:
    """The one of `words` that `word` was most likely meant to be, if any is near."""
    lowered = {candidate.lower(): candidate for candidate in words}
    # wide letters and spaces that do not break are read as their usual forms; no word of a file is longer
    usual = unicodedata.normalize("NFKC", str(word)[:LONGEST]).strip().lower()
    found = difflib.get_close_matches(usual, lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def did_you_mean(word: object, meant: str, where: str = "") -> str:
    """`did you mean lr, which stands in trial.optimizer?`, and which letter it is where the two may look the same."""
    question = f"did you mean {meant}, which stands in {where}?" if where else f"did you mean {meant}?"
    strange = next((letter for letter in str(word) if not letter.isascii()), None)
    if strange is None:
        return question
    return f"{question} its {strange!a} is {unicodedata.name(strange, 'no letter')}"


def shown(value: Any) -> str:
    """A value of the file in a few characters."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty one"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _short(repr(value) if isinstance(value, str) else str(value))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
