"""Which classes a model takes for which: counts, and the shares of each true class as colour."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medtune.evaluation.metrics import Floats, Integers, accuracy, check_probabilities, correct, predicted_labels
from medtune.figures.canvas import (
    INK,
    PALE,
    add_axes,
    cases,
    check_names,
    heading,
    label,
    new_figure,
    save,
    short_count,
    shorten,
)
from medtune.task import Task

DARKEST = np.array([0x00, 0x4B, 0x87]) / 255  # of one hue, from white
FEW = 4  # classes whose names fit below the columns
WIDTH = 6.0  # inches
PANELS = 4  # labels in a row
PANEL, PANEL_HEIGHT, TOP, BOTTOM = 1.42, 1.62, 0.5, 0.36  # inches


def confusion_matrix(probabilities: Floats, labels: Integers, task: Task) -> NDArray[np.intp]:
    """Counts (classes, classes), true by predicted, of the decisions that `metrics.accuracy` judges; for multilabel
    (labels, 2, 2), of which each is no and yes. Raises ValueError as `metrics`."""
    labels = check_probabilities(probabilities, labels, task)
    predicted = predicted_labels(probabilities, task)
    if task == "multilabel":
        cells = 4 * np.arange(labels.shape[1]) + 2 * (labels == 1) + predicted
        return np.bincount(cells.ravel(), minlength=4 * labels.shape[1]).reshape(-1, 2, 2)
    classes = probabilities.shape[1]
    return np.bincount(classes * labels + predicted, minlength=classes**2).reshape(classes, classes)


def confusion_figure(probabilities: Floats, labels: Integers, task: Task, classes: Sequence[str], path: Path) -> None:
    """Write a PNG: true classes in rows, predicted ones in columns, in each cell the number of cases and, as colour
    from white to blue, their share of the row. 400 x 400 pixels for binary, else 600 x 560; for multilabel a 2 x 2 a
    label, four in a row, 600 wide and 86 + 162 a row high.

    Up to four classes have names on the columns and the share in the cell; more have numbers on the columns. Where
    there are more than two, the share of each class that is right stands right of its row. The title has the accuracy,
    which is `metrics.accuracy`, and the number of cases. classes: one name per column of `probabilities`. The folder
    of `path` must be there. Raises ValueError when the number of names is wrong, and as `metrics`.
    """
    check_names(classes, probabilities.shape[1])
    labels = check_probabilities(probabilities, labels, task)
    counts = confusion_matrix(probabilities, labels, task)
    title = f"accuracy {accuracy(probabilities, labels, task):.3f} on {cases(len(labels))}"
    if task == "multilabel":
        none_wrong = float(correct(probabilities, labels, task).all(axis=1).mean())
        title += f", {none_wrong:.3f} with every label right"
        figure = _panels(counts, classes)
    elif task == "binary":
        figure = new_figure(4, 4)
        axes = _matrix(figure, (1.15, 0.95, 2.7, 2.5), counts, 13)
        names = [_two_lines(name, 13) for name in classes]
        axes.set_xticks((0, 1), names, parse_math=False)
        axes.set_yticks((0, 1), names, parse_math=False)
        label(axes, "predicted")
    else:
        figure = _many(counts, classes)
    if task != "multilabel":
        left, top = figure.axes[0].get_position().corners()[1]
        figure.text(left - 0.01, top + 0.015, "true", fontsize=10, color=INK, ha="right")
    heading(figure, title)
    save(figure, path)


def _many(counts: NDArray[np.intp], classes: Sequence[str]) -> Figure:
    """Rows with names, and the share that is right beside them."""
    few, places = len(classes) <= FEW, range(len(classes))
    figure = new_figure(WIDTH, 5.6)
    axes = _matrix(figure, (1.62, 0.75, 3.85, 4.28), counts, min(13.0, 118 / len(classes)))
    names = [shorten(name, 18 if few else 16) for name in classes]
    columns = [_two_lines(name, 46 // len(classes)) if few else str(place) for place, name in enumerate(classes)]
    rows = [name if few or name == str(place) else f"{name}  {place}" for place, name in enumerate(names)]
    axes.set_xticks(places, columns, parse_math=False)
    axes.set_yticks(places, rows, parse_math=False)
    axes.tick_params(labelsize=9)
    for row, share in enumerate(np.diagonal(_shares(counts))):
        seen = "none" if np.isnan(share) else _percent(share)
        axes.text(len(classes) - 0.4, row, seen, fontsize=9.5, color=INK, va="center")
    axes.text(len(classes) - 0.4, -0.62, "right", fontsize=10, color=INK, va="bottom")
    label(axes, "predicted")
    return figure


def _panels(counts: NDArray[np.intp], classes: Sequence[str]) -> Figure:
    """One 2 x 2 a label."""
    height = TOP + BOTTOM + PANEL_HEIGHT * -(-len(classes) // PANELS)
    figure = new_figure(WIDTH, height)
    for place, (of, name) in enumerate(zip(counts, classes, strict=True)):
        left = 0.34 + PANEL * (place % PANELS)
        bottom = height - TOP - PANEL_HEIGHT * (place // PANELS + 1) + 0.16
        axes = _matrix(figure, (left, bottom, 1.2, 1.16), of, 9.5)
        axes.set_yticks((0, 1), ("no", "yes") if place % PANELS == 0 else ("", ""))
        last = place + PANELS >= len(classes)
        axes.set_xticks((0, 1), ("no", "yes") if last else ("", ""))
        axes.set_title(shorten(name, 16), fontsize=10, color=INK, pad=3, parse_math=False)
    rows = "rows: the label is there or not; columns: predicted, cut at .5"
    figure.text(0.5, 0.1 / height, rows, fontsize=9.5, color=PALE, ha="center", va="center")
    return figure


def _matrix(figure: Figure, box: tuple[float, float, float, float], counts: NDArray[np.intp], points: float) -> Axes:
    """The cells with their colours and numbers; what is 0 stays empty."""
    size = len(counts)
    axes = add_axes(figure, box, (-0.5, size - 0.5), (size - 0.5, -0.5))
    shares = np.nan_to_num(_shares(counts))
    colours = 1 - shares[..., None] * (1 - DARKEST)
    axes.imshow(colours, aspect="auto", interpolation="nearest")
    axes.spines[["top", "right"]].set_visible(True)
    axes.tick_params(length=0)
    axes.hlines(np.arange(size - 1) + 0.5, -0.5, size - 0.5, color="#D0D0D0", linewidth=0.6)
    for row, column in np.argwhere(counts):
        ink = _readable_on(colours[row, column])
        text = short_count(int(counts[row, column]))
        if size <= FEW:
            text += f"\n{_percent(shares[row, column])}"
        axes.text(column, row, text, fontsize=points, color=ink, ha="center", va="center", linespacing=1.1)
    return axes


def _shares(counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Of each row; NaN where it has no case."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)


def _percent(share: float) -> str:
    """No rounding to what is not so: 99.7 % is not all of them."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _readable_on(colour: NDArray[np.float64]) -> str:
    """Dark or white, whichever has the higher contrast (WCAG 2: relative luminance)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.066 else INK


def _two_lines(name: str, longest: int) -> str:
    """Broken at the space nearest its middle, each line so many characters at most."""
    name = " ".join(name.split())
    spaces = [place for place, letter in enumerate(name) if letter == " "]
    if len(name) <= longest or not spaces:
        return shorten(name, longest)
    middle = min(spaces, key=lambda place: abs(2 * place - len(name)))
    return f"{shorten(name[:middle], longest)}\n{shorten(name[middle + 1 :], longest)}"
