"""The verbs on data sets."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import Json
from medtune.config.sweep import MEDMNIST, PHANTOMS, SIZES, Data

data_app = typer.Typer(no_args_is_help=True, help="The data sets.")

Name = Annotated[str, typer.Argument(help="a data set, as `medtune data list` names it", show_default=False)]
Size = Annotated[int, typer.Option(help="pixels a side: 28, 64, 128 or 224")]
Root = Annotated[str | None, typer.Option(help="where the files are; the medmnist cache unless given")]


@data_app.command("list")
def list_() -> None:
    """All data sets that a sweep file can name."""
    from medtune.data.catalogue import all_datasets

    print(f"{'name':<20} {'task':<11} {'classes':>7} {'train':>7} {'val':>6} {'test':>6}  licence")
    for info in all_datasets():
        cases = f"{info.cases['train']:>7} {info.cases['val']:>6} {info.cases['test']:>6}"
        print(f"{info.flag:<20} {info.task:<11} {len(info.classes):>7} {cases}  {info.licence}")


@data_app.command()
def info(
    name: Annotated[str, typer.Argument(help="a data set, or a folder that was imported", show_default=False)],
) -> None:
    """What is known of a data set: classes, sizes, hashes, licence, traps; of a folder, what its imports found."""
    from medtune.data.catalogue import dataset_info

    if _is_folder(name):
        return _print_readings(Path(name))
    found = dataset_info(name)
    cases = ", ".join(f"{split} {count}" for split, count in found.cases.items())
    print(f"{found.flag}: {found.title}, {found.task}, {'grey' if found.channels == 1 else 'colour'}, {cases}")
    print(f"licence  {found.licence}")
    for index, label in enumerate(found.classes):
        print(f"{'classes' if index == 0 else '':<8} {index} {label}")
    for size, md5 in found.md5.items():
        print(f"{size:>4} px  MD5 {md5}, {found.raw_bytes(size) / 1e6:,.0f} MB unpacked")
    for trap in found.traps:
        print(f"beware   {trap}")


def _print_readings(folder: Path) -> None:
    from medtune.cli.reading import reading_lines
    from medtune.data import DataError
    from medtune.data.folders import readings_of

    readings = readings_of(folder)
    if not readings:
        raise DataError(f"{folder}: has not been read yet; `medtune data import {folder}` does it")
    for path, reading in readings:
        print("\n".join(reading_lines(path, reading)))


@data_app.command()
def fetch(name: Name, size: Size = 28, root: Root = None) -> None:
    """Download a data set if it is not there, and verify it."""
    from medtune.data.fetch import fetch as fetch_file

    def report(done: int, total: int) -> None:
        _show(f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    print(f"{fetch_file(_data(name, size, root), report=report)}: whole, MD5 as published")


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress}", end="", file=sys.stderr, flush=True)


@data_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="one folder a class, or train/, val/, test/", show_default=False)],
    size: Annotated[int, typer.Option(min=8, max=1024, help="pixels a side")] = 64,
    exclude: Annotated[list[str] | None, typer.Option(help="a class that is left out; may be given again")] = None,
    split: Annotated[str, typer.Option(help="train, val and test in proportion")] = "0.7,0.15,0.15",
    out: Annotated[Path | None, typer.Option(help="an .npz file to write too", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Read a folder of pictures, and say what is in it and what is doubtful."""
    from medtune.cli.reading import reading_lines, sweep_file_data
    from medtune.cli.text import print_json
    from medtune.data.folders import export, import_folder, reading_of

    data = Data(folder=str(folder), size=size, exclude=tuple(exclude or ()), split=_proportions(split))
    path = import_folder(data, lambda done, total: _show(f"{done:,} of {total:,} pictures"))
    reading = reading_of(data)
    if out is not None:
        export(path, out)
    print("\n".join(reading_lines(out or path, reading)), file=sys.stderr if json else sys.stdout)
    if json:
        about = {"file": str(out or path), "md5": reading.md5, "size": reading.size, **asdict(reading.found)}
        print_json({**about, "data": sweep_file_data(reading)})


@data_app.command()
def audit(
    name: Annotated[str, typer.Argument(help="a data set, or a folder of pictures", show_default=False)],
    size: Annotated[
        int | None, typer.Option(help="pixels a side; 28, and 64 for a folder, unless given", show_default=False)
    ] = None,
    root: Root = None,
    exclude: Annotated[list[str] | None, typer.Option(help="a class of a folder that is left out")] = None,
    split: Annotated[str, typer.Option(help="of a folder: train, val and test in proportion")] = "0.7,0.15,0.15",
    out: Annotated[
        Path | None, typer.Option(help="the folder to write; audits/NAME-SIZE unless given", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Look at all of a data set, test too, with no model: counts, values, twins, shifts; write a page."""
    from medtune.cli.text import print_json
    from medtune.data.audit import all_splits
    from medtune.data.audit import audit as audit_data
    from medtune.report.audit import findings, write_audit

    if _is_folder(name):
        options = {"exclude": tuple(exclude or ()), "split": _proportions(split)}
        data = Data.model_validate({"folder": name, "size": 64 if size is None else size, **options})
    else:
        data = _data(name, 28 if size is None else size, root)
    splits = all_splits(data)
    found = audit_data(data, splits)
    folder = out or Path("audits") / f"{data.title}-{data.size}"
    write_audit(found, splits, folder)
    told = sys.stderr if json else sys.stdout
    cases = ", ".join(f"{split} {of.cases:,}" for split, of in found.splits.items())
    print(f"{found.name}: {found.task}, {found.side} px, {cases}", file=told)
    for line in findings(found):
        print(f"found    {line}", file=told)
    for trap in found.traps:
        print(f"beware   {trap}", file=told)
    print(f"page     {folder / 'audit.html'}", file=told)
    if json:
        print_json({"folder": str(folder), **asdict(found)})


def _is_folder(name: str) -> bool:
    """Whether a folder of pictures is meant; a data set of that name comes first."""
    return name not in (*MEDMNIST, *PHANTOMS) and Path(name).is_dir()


def _proportions(text: str) -> tuple[float, float, float]:
    from medtune.data import DataError

    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        train = val = test = 0.0
    if not 0 < min(train, val, test) <= max(train, val, test) < float("inf"):
        raise DataError(f"--split {text}: write three numbers above 0, as 0.7,0.15,0.15")
    return train, val, test


@data_app.command()
def phantom(
    name: Name,
    file: Annotated[Path, typer.Argument(help="the .npz file to write")],
    size: Size = 28,
    difficulty: Annotated[float, typer.Option(help="between 0 and 1")] = 0.5,
) -> None:
    """Write a phantom as a file in MedMNIST's form."""
    from medtune.data import DataError
    from medtune.data.catalogue import dataset_info
    from medtune.data.phantoms import best_auroc, write_npz

    found = dataset_info(_data(name, size, None).dataset)
    if not found.made:
        raise DataError(f"{name}: this is no phantom; `medtune data fetch {name}` gets it")
    write_npz(file, found.phantom, difficulty, size)
    print(f"{file}: {name} at {size} px; the best reachable AUROC is {best_auroc(found.phantom, difficulty):.3f}")


def _data(name: str, size: int, root: str | None) -> Data:
    from medtune.data import DataError
    from medtune.data.catalogue import dataset_info

    dataset_info(name)
    if size not in SIZES:
        raise DataError(f"--size {size}: there are {', '.join(map(str, SIZES))}")
    return Data.model_validate({"dataset": name, "size": size, "root": root})
