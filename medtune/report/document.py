"""What a page is made of, whatever it is written as: `html.py` and `markdown.py` write the same document."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["plain", "pale", "warning"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """The first column names the rows; the others are numbers, or words short enough to stand among them."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """png: the file's bytes. name: a file name without a suffix, unique in its document. alt: what it shows."""

    png: bytes
    name: str
    alt: str
    caption: Sequence[Text] = ()


@dataclass(frozen=True)
class Pictures:
    """Small ones, beside each other where there is room."""

    each: Sequence[Picture]


@dataclass(frozen=True)
class Commands:
    """Lines for a shell, or of a file."""

    lines: Sequence[str]


Block = Text | Bullets | Table | Picture | Pictures | Commands


@dataclass(frozen=True)
class Section:
    """level: 2 or 3, below the document's title."""

    title: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True)
class Document:
    title: str
    about: Sequence[Block]
    sections: Sequence[Section]
