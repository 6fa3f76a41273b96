"""A document is the same whatever it is written as."""

import re
from io import BytesIO

import pytest
from PIL import Image

from medtune.report.document import Bullets, Commands, Document, Picture, Pictures, Section, Table, Text
from medtune.report.html import as_html
from medtune.report.markdown import as_markdown, pictures_of


def png(width: int) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (width, 10)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def document() -> Document:
    small = [Picture(png(96), f"small-{number}", "a small one", [Text("different", "warning")]) for number in (0, 1)]
    return Document(
        "A <b>title</b>",
        [Text("About *this* & that.", "pale")],
        [
            Section("First", [Bullets(["one", "a_b|c"]), Table(["", "n"], [["a|b", "1"]])]),
            Section("Second", [Picture(png(400), "large", "a large one"), Pictures(small)], level=3),
            Section("Third", [Commands(["medtune sweep <file>"])]),
        ],
    )


def test_html_escapes_all_that_is_not_markup(document: Document) -> None:
    text = as_html(document)
    assert "<b>" not in text and "A &lt;b&gt;title&lt;/b&gt;" in text and "medtune sweep &lt;file&gt;" in text
    assert text.count("data:image/png;base64,") == 3 and "http" not in text.replace("http-equiv", "")
    assert "<h3>Second</h3>" in text and "<p class=warning>different</p>" in text and "<p class=pale>About" in text


def test_small_pictures_stand_closer_than_large_ones() -> None:
    def written(width: int) -> str:
        return as_html(Document("", [Pictures([Picture(png(width), "a", "a")])], []))

    assert "class='many wide'" in written(400) and "class='many'" in written(96)


def test_markdown_escapes_what_it_would_take_for_its_own(document: Document) -> None:
    text = as_markdown(document, "beside")
    assert r"# A \<b\>title\</b\>" in text and r"About \*this\* & that." in text
    assert "- a_b|c" in text and r"| a\|b | 1 |" in text
    assert "### Second" in text and "```\nmedtune sweep <file>\n```" in text and "**different**" in text


def test_the_pictures_of_markdown_are_files_beside_it(document: Document) -> None:
    linked = re.findall(r"\]\(beside/(.*?)\)", as_markdown(document, "beside"))
    assert linked == list(pictures_of(document)) == ["large.png", "small-0.png", "small-1.png"]
    assert pictures_of(document)["large.png"] == png(400)
