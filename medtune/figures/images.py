"""Images beside each other, as they are or with words below them; and how the classes are spread over the splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from medtune.data import SPLITS, SplitName
from medtune.figures.canvas import COLOURS, GRID, INK, WARNING, add_axes, new_figure, save, shorten

Bytes = npt.NDArray[np.uint8]

TILE, GAP, COLUMNS = 96, 4, 8  # pixels, pixels, images in a row
SHOWN = 2 * COLUMNS  # images of a class
SIDE, FRAME, LETTERS, LINE = 132, 4, 14, 18  # pixels, of a gallery: an image, the frame of a wrong one, words
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
        row.paste(_scaled(image, TILE), (number * (TILE + GAP), 0))
    return row


def _scaled(image: Bytes, side: int) -> Image.Image:
    how = Image.Resampling.NEAREST if len(image) < side else Image.Resampling.BILINEAR
    return Image.fromarray(image).convert("RGB").resize((side, side), how)


def gallery(
    images: Sequence[Bytes | Sequence[Bytes]] | Bytes,
    captions: Sequence[Sequence[str]],
    path: Path,
    columns: int | None = None,
    wrong: Sequence[bool] | None = None,
) -> None:
    """Write a PNG of images at 132 pixels a side with short lines of text below each: 552 pixels wide with four images
    beside each other, so that it can be read at 400.

    images: uint8 (cases, side, side) or (cases, side, side, 3); or for each case a sequence of such images, which
    stand side by side, as an image and its overlay. captions: the lines of each case, cut where they are too long for
    what is above them. columns: cases in a row; without it as many as make four images. wrong: of each case, whether it
    gets a frame and letters in the warning colour. No case at all gives a picture that says so. The folder of `path`
    must be there. Raises ValueError where the numbers of images, captions and `wrong` differ.
    """
    groups = [[of] if isinstance(of, np.ndarray) and of.dtype == np.uint8 and _alone(of) else list(of) for of in images]
    bad = [False] * len(groups) if wrong is None else list(wrong)
    if not len(groups) == len(captions) == len(bad):
        raise ValueError(f"{len(groups)} images, {len(captions)} captions, {len(bad)} marks: one of each a case")
    across = max((len(group) for group in groups), default=4)
    columns = columns or max(1, 4 // across)
    width = across * (SIDE + GAP) - GAP
    height = SIDE + LINE * max((len(lines) for lines in captions), default=0) + 10
    rows = -(-len(groups) // columns)
    shown = min(columns, len(groups)) or 1
    paper = Image.new("RGB", (shown * (width + 2 * GAP) - 2 * GAP, max(rows * height, 40)), "white")
    draw, font = ImageDraw.Draw(paper), _font()
    for number, (group, lines, mark) in enumerate(zip(groups, captions, bad, strict=True)):
        place = (number % columns * (width + 2 * GAP), number // columns * height)
        for along, image in enumerate(group):
            paper.paste(_scaled(image, SIDE), (place[0] + along * (SIDE + GAP), place[1]))
        if mark:
            draw.rectangle((*place, place[0] + width - 1, place[1] + SIDE - 1), outline=WARNING, width=FRAME)
        for line, text in enumerate(lines):
            below = (place[0], place[1] + SIDE + 3 + LINE * line)
            draw.text(below, _fitted(text, width, font), fill=WARNING if mark else INK, font=font)
    if not groups:
        draw.text((8, 10), "nothing to show", fill=INK, font=font)
    paper.save(path)


def _alone(image: Bytes) -> bool:
    """One image, and not an array of several."""
    return image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """On one line of at most so many pixels."""
    text = " ".join(text.split())
    length = len(text)
    while length > 1 and font.getlength(shorten(text, length)) > width:
        length -= 1
    return shorten(text, length) if text else text


def _font() -> ImageFont.FreeTypeFont:
    """That of the other pictures; Pillow's own has no letter beyond ASCII."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), LETTERS)


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
