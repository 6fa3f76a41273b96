"""The pictures of an audit: images beside each other as they are, and how the classes are spread over the splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator
from PIL import Image

from medtune.data import SPLITS, SplitName
from medtune.figures.canvas import COLOURS, GRID, INK, add_axes, new_figure, save

Bytes = npt.NDArray[np.uint8]

TILE, GAP, COLUMNS = 96, 4, 8  # pixels, pixels, images in a row
SHOWN = 2 * COLUMNS  # images of a class
WIDTH, ROW = 4.2, 0.85  # inches: of the distribution, and what a class takes of its height


def samples_grid(images: Bytes, path: Path) -> None:
    """Write a PNG of images in rows of eight. images: uint8 (cases, side, side) or (cases, side, side, 3)."""
    rows = [tiles(images[start : start + COLUMNS]) for start in range(0, len(images), COLUMNS)]
    width = max(row.width for row in rows)
    grid = Image.new("RGB", (width, len(rows) * (TILE + GAP) - GAP), "white")
    for number, row in enumerate(rows):
        grid.paste(row, (0, number * (TILE + GAP)))
    grid.save(path)


def tiles(images: Sequence[Bytes] | Bytes) -> Image.Image:
    """Images in one row, each at 96 pixels a side; small ones keep their pixels visible."""
    row = Image.new("RGB", (len(images) * (TILE + GAP) - GAP, TILE), "white")
    for number, image in enumerate(images):
        how = Image.Resampling.NEAREST if len(image) < TILE else Image.Resampling.BILINEAR
        row.paste(Image.fromarray(image).convert("RGB").resize((TILE, TILE), how), (number * (TILE + GAP), 0))
    return row


def distribution_figure(shares: Mapping[SplitName, Sequence[float]], classes: Sequence[str], path: Path) -> None:
    """Write a PNG, 420 pixels wide, so that it can be read on a phone: for each class its name and a bar a split.
    shares: 0 to 1, of the split's cases."""
    height = ROW * len(classes) + 0.8
    figure = new_figure(WIDTH, height)
    most = max(max(share) for share in shares.values()) * 1.18
    axes = add_axes(figure, (0.25, 0.4, WIDTH - 0.35, height - 0.75), (0, most), (len(classes) - 0.3, -0.6))
    axes.spines["left"].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8, axis="x")
    for place, split in enumerate(SPLITS):
        rows = np.arange(len(classes)) + 0.2 * (place - 0.6)
        axes.barh(rows, shares[split], height=0.18, color=COLOURS[place])
        for row, share in zip(rows, shares[split], strict=True):
            axes.text(share + most / 150, row, f"{share:.1%}", fontsize=8, color=INK, va="center")
        figure.text((0.25 + 0.8 * place) / WIDTH, 1 - 0.25 / height, f"■ {split}", fontsize=11, color=COLOURS[place])
    for row, name in enumerate(classes):
        axes.text(0, row - 0.36, _short(name), fontsize=10, color=INK, va="center")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    save(figure, path)


def _short(name: str) -> str:
    return (name if len(name) <= 50 else name[:49] + "…").replace("$", r"\$")  # a dollar begins a formula
