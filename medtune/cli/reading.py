"""A folder of pictures in words."""

import json
from pathlib import Path
from typing import Any

from medtune.config.sweep import Data
from medtune.data.folders import Reading, doubts
from medtune.data.listing import in_words


def reading_lines(path: Path, reading: Reading) -> list[str]:
    """What was found in a folder, what is doubtful, and the line for a sweep file."""
    found = reading.found
    cases = ", ".join(f"{split} {sum(counts)}" for split, counts in found.counts.items())
    kind = "grey" if found.channels == 1 else "colour"
    options = ", ".join(f"{key}: {json.dumps(value)}" for key, value in sweep_file_data(reading).items())
    own = f"{', '.join(found.ready)}: the folder's own; " if found.ready else ""
    drawn = [split for split in found.counts if split not in found.ready]
    return [
        f"{reading.source}: {len(found.classes)} classes, {kind}, {reading.size} px, {cases}",
        *_table(reading),
        f"splits   {own}{', '.join(drawn) + ': drawn here, by class' if drawn else ''}".rstrip("; "),
        f"skipped  {in_words(found.skipped) or 'nothing'}",
        f"twins    {found.twins['pictures']['count']} groups of identical pictures",
        *(f"beware   {doubt}" for doubt in doubts(found)),
        f"file     {path}, MD5 {reading.md5}",
        f"sweep    data: {{{options}}}",
    ]


def _table(reading: Reading) -> list[str]:
    """Cases by class and split."""
    counts = reading.found.counts
    width = max(len(name) for name in reading.found.classes)
    lines = [f"classes  {'':>3} {'':<{width}} {' '.join(f'{split:>7}' for split in counts)}"]
    for label, name in enumerate(reading.found.classes):
        lines.append(f"{label:>12} {name:<{width}} {' '.join(f'{of[label]:>7}' for of in counts.values())}")
    return lines


def sweep_file_data(reading: Reading) -> dict[str, Any]:
    """What stands under `data:` in a sweep file."""
    usual = list(Data.model_fields["split"].default)
    exclude = {"exclude": reading.exclude} if reading.exclude else {}
    split = {"split": reading.split} if reading.split != usual else {}
    return {"folder": reading.source, **exclude, **split, "size": reading.size}
