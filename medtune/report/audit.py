"""An audit as a folder: a page that needs nothing beside itself, its pictures, and the numbers as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np

from medtune.data import DataError, SplitName
from medtune.data.audit import Audit, ShiftBetween
from medtune.data.repeats import Case, Splits
from medtune.data.twins import AGREEMENT
from medtune.figures.images import SHOWN, distribution_figure, samples_grid, tiles
from medtune.files import write_whole
from medtune.report.document import Block, Bullets, Document, Picture, Pictures, Section, Table, Text
from medtune.report.html import as_html

SHOWN_TWINS = 24  # groups and pairs; all of them are in the JSON


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
        write_whole(folder / "audit.json", (json.dumps(asdict(found), indent=1) + "\n").encode())
        write_whole(folder / "audit.html", as_html(audit_page(found, splits, folder)).encode())
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


def _samples(splits: Splits, label: int) -> np.ndarray:
    """Cases of train with this label, in the order of the file."""
    labels = splits["train"].labels
    of = np.flatnonzero(labels == label if labels.ndim == 1 else labels[:, label])
    return np.sort(np.random.default_rng(label).permutation(of)[:SHOWN])


def audit_page(found: Audit, splits: Splits, folder: Path) -> Document:
    """The page; the pictures of the classes are those in the folder."""
    kind = "grey" if found.channels == 1 else "colour"
    return Document(
        f"Audit of {found.name}",
        [
            Text(f"{found.title}: {found.task}, {kind}, {found.side} x {found.side} px."),
            Text(f"Licence {found.licence} · MD5 {found.md5}", "pale"),
        ],
        [
            Section("What stands out", [Bullets(findings(found))]),
            Section("Known traps", [Bullets(found.traps)]),
            Section("Classes", list(_classes(found, folder))),
            Section("Values", list(_values(found))),
            *_twins(found, splits),
            Section("Samples", [Text("Drawn from train; the test is not shown.", "pale")]),
            *_sample_grids(found, folder),
        ],
    )


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


def _classes(found: Audit, folder: Path) -> Iterator[Block]:
    part = shares(found)
    rows = [
        [name, *(f"{of.counts[label]:,} ({part[split][label]:.1%})" for split, of in found.splits.items())]
        for label, name in enumerate(found.classes)
    ]
    yield Table(["", *found.splits], [*rows, ["cases", *(f"{of.cases:,}" for of in found.splits.values())]])
    yield _picture(folder / "classes.png", "share of each class in train, val and test")
    yield Bullets([verdict(shift, found.classes) for shift in found.shifts])
    if found.task == "multilabel":
        yield Text("p-values of the labels by Holm's method: there is one test a label.", "pale")


def _values(found: Audit) -> Iterator[Block]:
    rows = [
        [name, str(of.min), str(of.max), f"{of.mean:.1f}", f"{of.deviation:.1f}", f"{of.blank:,}"]
        for name, of in found.splits.items()
    ]
    yield Table(["", "min", "max", "mean", "deviation", "blank images"], rows)
    for name, of in found.splits.items():
        if of.blank:
            first = ", ".join(map(str, of.blank_first[:SHOWN]))
            yield Text(f"Blank in {name}: {first}{' …' if of.blank > SHOWN else ''}")


def _twins(found: Audit, splits: Splits) -> Iterator[Section]:
    exact, near = found.repeats.exact, found.repeats.near
    same = [_twin(found, splits, group, f"identical-{n}") for n, group in enumerate(exact.first[:SHOWN_TWINS])]
    title = f"Identical pixels: {exact.groups:,} groups, {exact.across:,} across splits"
    yield Section("Twins", [])
    yield Section(title, [Pictures(same), *_more(exact.groups)], level=3)
    how = (
        f"{near.compared:,} pairs whose hashes differ by {near.reach} of 64 bits at most were laid on "
        f"each other; those whose pixels then correlate by {AGREEMENT} or more are here."
    )
    pairs = [
        _twin(found, splits, [p.a, p.b], f"near-{n}", f"correlation {p.correlation:.4f}, {p.distance} bits")
        for n, p in enumerate(near.first[:SHOWN_TWINS])
    ]
    title = f"Near twins: {near.pairs:,} pairs, {near.across:,} across splits"
    yield Section(title, [Text(how, "pale"), Pictures(pairs), *_more(near.pairs)], level=3)


def _more(count: int) -> Iterator[Block]:
    if count > SHOWN_TWINS:
        yield Text(f"The first {SHOWN_TWINS} of {count:,}; more in audit.json.", "pale")


def _twin(found: Audit, splits: Splits, cases: Sequence[Case], name: str, told: str = "") -> Picture:
    picture = BytesIO()
    tiles([splits[case.split].images[case.index] for case in cases[:2]]).save(picture, "PNG")
    lines = [f"{case.split} {case.index}: {_label(found, case)}" for case in cases[:4]]
    lines += [f"and {len(cases) - 4} more"] if len(cases) > 4 else []
    caption = [Text(line) for line in (*lines, told) if line]
    if any(case.label != cases[0].label for case in cases):
        caption.append(Text("different labels", "warning"))
    return Picture(picture.getvalue(), name, "twins", caption)


def _label(found: Audit, case: Case) -> str:
    labels = [case.label] if isinstance(case.label, int) else case.label
    return ", ".join(found.classes[label] for label in labels) or "none"


def _sample_grids(found: Audit, folder: Path) -> Iterator[Section]:
    for label, name in enumerate(found.classes):
        path = folder / f"samples-{label}.png"
        shown: Block = _picture(path, f"images of {name}") if path.exists() else Text("None in train.")
        yield Section(f"{label} {name}", [shown], level=3)


def _picture(path: Path, alt: str) -> Picture:
    return Picture(path.read_bytes(), path.stem, alt)
