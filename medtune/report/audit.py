"""An audit as a folder: a page that needs nothing beside itself, its pictures, and the numbers as JSON."""

import base64
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np

from medtune.data import DataError, SplitName
from medtune.data.audit import Audit, ShiftBetween
from medtune.data.repeats import Case, Splits
from medtune.data.twins import AGREEMENT
from medtune.figures.images import SHOWN, distribution_figure, samples_grid, tiles

SHOWN_TWINS = 24  # groups and pairs; all of them are in the JSON

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; } p { margin: .25rem 0 .5rem; } li { margin: .25rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
th:first-child { white-space: normal; } img { max-width: 100%; height: auto; }
.twins { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .8rem; line-height: 1.35; } .bad { color: #a33a00; font-weight: 600; }
.pale { color: #666; font-size: .9rem; overflow-wrap: anywhere; }
"""
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head><body>
"""


def write_audit(found: Audit, splits: Splits, folder: Path) -> None:
    """`audit.html`, `audit.json`, `classes.png` and a `samples-N.png` a class, in a folder, made if need be; what was
    there under these names is replaced. The samples are of train. Raises DataError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        distribution_figure(shares(found), found.classes, folder / "classes.png")
        for label in range(len(found.classes)):
            (folder / f"samples-{label}.png").unlink(missing_ok=True)
            if len(chosen := _samples(splits, label)):
                samples_grid(splits["train"].images[chosen], folder / f"samples-{label}.png")
        _write(folder / "audit.json", json.dumps(asdict(found), indent=1) + "\n")
        _write(folder / "audit.html", "".join(_page(found, splits, folder)))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); choose another --out") from error


def shares(found: Audit) -> dict[SplitName, list[float]]:
    """Of each class, by split: 0 to 1 of the split's cases."""
    return {name: [count / of.cases for count in of.counts] for name, of in found.splits.items()}


def verdict(shift: ShiftBetween, classes: Sequence[str]) -> str:
    """A shift in one line."""
    what = " and ".join(shift.splits) if len(shift.splits) == 2 else "all splits"
    label = "" if shift.label is None else f", {classes[shift.label]}"
    p = shift.shift.p
    if p is None:
        return f"{what}{label}: nothing to test"
    told = "p < .0001" if p < 0.0001 else f"p = {p:.2g}"
    seen = "frequencies differ" if p < 0.05 else "no shift seen"
    return f"{what}{label}: {seen}, {told}, Cramér's V = {shift.shift.v:.3f} ({shift.shift.test})"


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _samples(splits: Splits, label: int) -> np.ndarray:
    """Cases of train with this label, in the order of the file."""
    labels = splits["train"].labels
    of = np.flatnonzero(labels == label if labels.ndim == 1 else labels[:, label])
    return np.sort(np.random.default_rng(label).permutation(of)[:SHOWN])


def _page(found: Audit, splits: Splits, folder: Path) -> Iterator[str]:
    kind = "grey" if found.channels == 1 else "colour"
    yield HEAD.format(title=f"Audit of {escape(found.name)}", style=STYLE)
    yield f"<h1>Audit of {escape(found.name)}</h1>"
    yield f"<p>{escape(found.title)}: {found.task}, {kind}, {found.side} x {found.side} px.</p>"
    yield f"<p class=pale>Licence {escape(found.licence)} · MD5 {found.md5}</p>"
    yield "<h2>What stands out</h2><ul>"
    yield from (f"<li>{escape(line)}</li>" for line in findings(found))
    yield "</ul><h2>Known traps</h2>"
    yield "".join(f"<li>{escape(trap)}</li>" for trap in found.traps).join(("<ul>", "</ul>"))
    yield from _counts(found, folder)
    yield from _values(found)
    yield from _twins(found, splits)
    yield from _sample_grids(found, folder)
    yield "</body></html>\n"


def findings(found: Audit) -> list[str]:
    """What a person should know first, a line each."""
    exact, near = found.repeats.exact, found.repeats.near
    lines = [
        f"{exact.groups:,} groups of identical images, {exact.across:,} of them across splits, "
        f"{exact.contradicting:,} with different labels.",
        f"{near.pairs:,} pairs of near twins, {near.across:,} of them across splits, "
        f"{near.contradicting:,} with different labels.",
    ]
    for name, count in found.repeats.in_train.items():
        if count:
            of = found.splits[name].cases
            lines.append(f"{count:,} of {of:,} cases of {name} ({count / of:.1%}) have a twin in train.")
    lines += [f"{of.blank:,} images of {name} are blank." for name, of in found.splits.items() if of.blank]
    seen = [shift for shift in found.shifts if shift.shift.p is not None and shift.shift.p < 0.05]
    lines += [f"{verdict(shift, found.classes)}." for shift in seen]
    return lines if seen else [*lines, "Class frequencies: no shift between the splits seen."]


def _counts(found: Audit, folder: Path) -> Iterator[str]:
    yield "<h2>Classes</h2>"
    part = shares(found)
    rows = [
        [name, *(f"{of.counts[label]:,} ({part[split][label]:.1%})" for split, of in found.splits.items())]
        for label, name in enumerate(found.classes)
    ]
    rows.append(["cases", *(f"{of.cases:,}" for of in found.splits.values())])
    yield _table(["", *found.splits], rows)
    yield _image(folder / "classes.png", "share of each class in train, val and test")
    yield "<ul>"
    yield from (f"<li>{escape(verdict(shift, found.classes))}</li>" for shift in found.shifts)
    yield "</ul>"
    if found.task == "multilabel":
        yield "<p class=pale>p-values of the labels by Holm's method: there is one test a label.</p>"


def _values(found: Audit) -> Iterator[str]:
    yield "<h2>Values</h2>"
    rows = [
        [name, str(of.min), str(of.max), f"{of.mean:.1f}", f"{of.deviation:.1f}", f"{of.blank:,}"]
        for name, of in found.splits.items()
    ]
    yield _table(["", "min", "max", "mean", "deviation", "blank images"], rows)
    for name, of in found.splits.items():
        if of.blank:
            first = ", ".join(map(str, of.blank_first[:SHOWN]))
            yield f"<p>Blank in {name}: {first}{' …' if of.blank > SHOWN else ''}</p>"


def _twins(found: Audit, splits: Splits) -> Iterator[str]:
    exact, near = found.repeats.exact, found.repeats.near
    yield f"<h2>Twins</h2><h3>Identical pixels: {exact.groups:,} groups, {exact.across:,} across splits</h3>"
    yield "<div class=twins>"
    yield from (_twin(found, splits, group, "") for group in exact.first[:SHOWN_TWINS])
    yield f"</div>{_more(exact.groups)}"
    yield f"<h3>Near twins: {near.pairs:,} pairs, {near.across:,} across splits</h3>"
    yield (
        f"<p class=pale>{near.compared:,} pairs whose hashes differ by {near.reach} of 64 bits at most were laid on "
        f"each other; those whose pixels then correlate by {AGREEMENT} or more are here.</p><div class=twins>"
    )
    for pair in near.first[:SHOWN_TWINS]:
        told = f"correlation {pair.correlation:.4f}, {pair.distance} bits"
        yield _twin(found, splits, [pair.a, pair.b], told)
    yield f"</div>{_more(near.pairs)}"


def _more(count: int) -> str:
    return f"<p class=pale>The first {SHOWN_TWINS} of {count:,}; more in audit.json.</p>" if count > SHOWN_TWINS else ""


def _twin(found: Audit, splits: Splits, cases: Sequence[Case], told: str) -> str:
    picture = BytesIO()
    tiles([splits[case.split].images[case.index] for case in cases[:2]]).save(picture, "PNG")
    names = "<br>".join(f"{case.split} {case.index}: {escape(_label(found, case))}" for case in cases[:4])
    more = f"and {len(cases) - 4} more" if len(cases) > 4 else ""
    doubt = "<span class=bad>different labels</span>" if any(c.label != cases[0].label for c in cases) else ""
    below = "<br>".join(part for part in (names, more, told, doubt) if part)
    return f"<figure>{_inline(picture.getvalue(), 'twins')}<figcaption>{below}</figcaption></figure>"


def _label(found: Audit, case: Case) -> str:
    labels = [case.label] if isinstance(case.label, int) else case.label
    return ", ".join(found.classes[label] for label in labels) or "none"


def _sample_grids(found: Audit, folder: Path) -> Iterator[str]:
    yield "<h2>Samples</h2><p class=pale>Drawn from train; the test is not shown.</p>"
    for label, name in enumerate(found.classes):
        path = folder / f"samples-{label}.png"
        yield f"<h3>{label} {escape(name)}</h3>"
        yield _image(path, f"images of {name}") if path.exists() else "<p>None in train.</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        numbers = "".join(f"<{tag} class=n>{escape(cell)}</{tag}>" for cell in cells[1:])
        return f"<tr><th>{escape(cells[0])}</th>{numbers}</tr>"

    return f"<div class=scroll><table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table></div>"


def _image(path: Path, text: str) -> str:
    return _inline(path.read_bytes(), text)


def _inline(png: bytes, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
