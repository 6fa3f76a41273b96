"""A document as one HTML file that needs nothing beside itself: pictures in it, no script, no network."""

import base64
from collections.abc import Iterator, Sequence
from html import escape

from medtune.report.document import Block, Bullets, Commands, Document, Picture, Pictures, Section, Table, Text

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 54rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; } p { margin: .25rem 0 .5rem; overflow-wrap: anywhere; }
ul { padding-left: 1.25rem; } li { margin: .25rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; margin: .25rem 0 .75rem; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
th:first-child { white-space: normal; font-weight: 500; min-width: 6.5rem; } img { max-width: 100%; height: auto; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 150px), 1fr)); gap: 1rem; }
.many.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
figure { margin: 0 0 .75rem; } figcaption { font-size: .8rem; line-height: 1.35; }
figcaption p { margin: 0; } pre { background: #f5f5f5; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; }
.warning { color: #a33a00; font-weight: 600; } .pale { color: #666; font-size: .9rem; }
figcaption .pale { font-size: .8rem; }
@media (max-width: 480px) { table { font-size: .75rem; } th, td { padding-right: .5rem; } }
"""
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head><body>
"""
WIDE = 250  # pixels: pictures that are wider are set in wider columns


def as_html(document: Document) -> str:
    """The whole file. All that is not markup is escaped: names of classes come from folders."""
    return "".join(_page(document))


def _page(document: Document) -> Iterator[str]:
    yield HEAD.format(title=escape(document.title), style=STYLE)
    yield f"<h1>{escape(document.title)}</h1>\n"
    yield from map(_block, document.about)
    for section in document.sections:
        yield from _section(section)
    yield "</body></html>\n"


def _section(section: Section) -> Iterator[str]:
    yield f"<h{section.level}>{escape(section.title)}</h{section.level}>\n"
    yield from map(_block, section.blocks)


def _block(block: Block) -> str:
    match block:
        case Text():
            return _text(block) + "\n"
        case Bullets():
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block.items)}</ul>\n"
        case Table():
            rows = "".join(_row(row, "td") for row in block.rows)
            return f"<div class=scroll><table>{_row(block.head, 'th')}{rows}</table></div>\n"
        case Picture():
            return _picture(block)
        case Pictures():
            wide = any(_width(picture.png) > WIDE for picture in block.each)
            return f"<div class='many{' wide' if wide else ''}'>{''.join(map(_picture, block.each))}</div>\n"
        case Commands():
            return f"<pre>{escape(chr(10).join(block.lines))}</pre>\n"


def _text(text: Text) -> str:
    style = "" if text.tone == "plain" else f" class={text.tone}"
    return f"<p{style}>{escape(text.words)}</p>"


def _row(cells: Sequence[str], tag: str) -> str:
    first, *rest = cells
    numbers = "".join(f"<{tag} class=n>{escape(cell)}</{tag}>" for cell in rest)
    return f"<tr><th>{escape(first)}</th>{numbers}</tr>"


def _picture(picture: Picture) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    image = f'<img alt="{escape(picture.alt)}" src="{source}">'
    caption = "".join(map(_text, picture.caption))
    return f"<figure>{image}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>\n"


def _width(png: bytes) -> int:
    """Pixels, from the header of the file."""
    return int.from_bytes(png[16:20], "big")
