"""The verbs on data sets."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from medtune.config.sweep import Data

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
def info(name: Name) -> None:
    """What is known of a data set: classes, sizes, hashes, licence, traps."""
    from medtune.data.catalogue import dataset_info

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


@data_app.command()
def fetch(name: Name, size: Size = 28, root: Root = None) -> None:
    """Download a data set if it is not there, and verify it."""
    from medtune.data.fetch import fetch as fetch_file

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done / 1e6:,.0f} of {total / 1e6:,.0f} MB", end="", file=sys.stderr, flush=True)

    print(f"{fetch_file(_data(name, size, root), report=report)}: whole, MD5 as published")


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
    task = found.task
    write_npz(file, task, difficulty, size)
    print(f"{file}: {name} at {size} px; the best reachable AUROC is {best_auroc(task, difficulty):.3f}")


def _data(name: str, size: int, root: str | None) -> Data:
    from medtune.data import DataError
    from medtune.data.catalogue import SIZES, dataset_info

    dataset_info(name)
    if size not in SIZES:
        raise DataError(f"--size {size}: there are {', '.join(map(str, SIZES))}")
    return Data.model_validate({"dataset": name, "size": size, "root": root})
