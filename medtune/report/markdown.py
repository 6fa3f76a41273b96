"""A document as Markdown, for a repository or a wiki: its pictures are files beside it."""

import re
from collections.abc import Iterator

from medtune.report.document import Block, Bullets, Commands, Document, Picture, Pictures, Table, Text


def as_markdown(document: Document, pictures: str) -> str:
    """The text. pictures: the folder in which `pictures_of` are to lie, relative to the file."""
    return "\n".join(_lines(document, pictures))


def pictures_of(document: Document) -> dict[str, bytes]:
    """The files that the text links to, by their names."""
    blocks = [*document.about, *(block for section in document.sections for block in section.blocks)]
    found: dict[str, bytes] = {}
    for block in blocks:
        each = block.each if isinstance(block, Pictures) else [block] if isinstance(block, Picture) else []
        found |= {f"{picture.name}.png": picture.png for picture in each}
    return found


def _lines(document: Document, pictures: str) -> Iterator[str]:
    yield f"# {_plain(document.title)}\n"
    for block in document.about:
        yield _block(block, pictures)
    for section in document.sections:
        yield f"{'#' * section.level} {_plain(section.title)}\n"
        for block in section.blocks:
            yield _block(block, pictures)


def _block(block: Block, pictures: str) -> str:
    match block:
        case Text():
            return f"{_text(block)}\n"
        case Bullets():
            return "".join(f"- {_plain(item)}\n" for item in block.items)
        case Table():
            head, *rows = [f"| {' | '.join(map(_cell, cells))} |" for cells in (block.head, *block.rows)]
            return "\n".join([head, f"|{'---|' * len(block.head)}", *rows]) + "\n"
        case Picture():
            caption = "  \n".join(map(_text, block.caption))
            return f"![{_plain(block.alt)}]({pictures}/{block.name}.png)\n" + (f"\n{caption}\n" if caption else "")
        case Pictures():
            return "\n".join(_block(picture, pictures) for picture in block.each)
        case Commands():
            return "\n".join(["```", *block.lines, "```\n"])


def _text(text: Text) -> str:
    return f"**{_plain(text.words)}**" if text.tone == "warning" else _plain(text.words)


def _cell(words: str) -> str:
    return _plain(words).replace("|", r"\|") or " "


def _plain(words: str) -> str:
    """What Markdown would take for its own is escaped; underscores in words it leaves alone."""
    return re.sub(r"([\\*<>\[\]]|^[#+-](?= ))", r"\\\1", words.replace("\n", " "))
