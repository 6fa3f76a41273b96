"""The report of a sweep as files in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtune.files import write_whole
from medtune.frames import load_sweep
from medtune.overview import draw_overview, draw_selection
from medtune.report.html import as_html
from medtune.report.markdown import as_markdown, pictures_of
from medtune.report.sweep import sweep_document
from medtune.search.folder import SweepFolder

PICTURES = "report"  # the folder beside the Markdown
OVERVIEW = "overview"  # and that of the figures of the whole sweep


def write_report(
    folder: SweepFolder, selection: Mapping[str, Any], evaluation: Mapping[str, Any], figures: Path
) -> tuple[Path, Path]:
    """`report.html`, which needs nothing beside itself, and `report.md` with its pictures in `report/`. Both paths.

    selection: as `selection.json` has it. evaluation: of its winner, whose figures lie in `figures`.
    """
    sweep, beside = load_sweep(folder.path), folder.path / PICTURES
    beside.mkdir(exist_ok=True)
    for old in beside.glob("*.png"):
        old.unlink()
    overview = folder.path / OVERVIEW
    draw_overview(sweep, overview)
    draw_selection(selection, overview)
    document = sweep_document(sweep, selection, evaluation, figures, overview)
    html, markdown = folder.path / "report.html", folder.path / "report.md"
    for name, png in pictures_of(document).items():
        write_whole(beside / name, png)
    write_whole(markdown, as_markdown(document, PICTURES).encode())
    write_whole(html, as_html(document).encode())
    return html, markdown
