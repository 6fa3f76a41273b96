"""The picture of a model: boxes from top to bottom, what skips some of them as a curve beside them."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from medtune.models.graph import Box

HEIGHT, PITCH = 0.3, 0.52  # inches: of a box, and from one box to the next
LETTER = 0.066  # inches that a letter takes at most
INK, PALE = "#222222", "#8A8A8A"
FILL = {"weights": "#D9E8F5", "merge": "#FBEBC8", "other": "#EFEFEF"}
DPI = 110


def draw_graph(boxes: Sequence[Box], title: str, path: Path) -> None:
    """boxes: as `model_graph` gives them. path: a .png or .svg file; its folder must be there."""
    spine = _longest_path(boxes)
    places = _places(boxes, spine)
    width = LETTER * max(len(_text(box)) for box in boxes) + 0.3
    left = LETTER * max(len(box.path) for box in boxes) + 0.3
    reach = max((places[i][1] - places[s][1] for i, box in enumerate(boxes) for s in box.sources), default=1.0)
    columns = 1 + max(column for column, _ in places)
    right = columns * (width + 0.4) + _bulge(reach)
    height = (max(row for _, row in places) + 1) * PITCH + 0.6
    figure = Figure(figsize=(left + right, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-left, right), ylim=(height - 0.5, -0.5))
    axes.axis("off")
    axes.text(-left + 0.15, -0.28, title, fontsize=10, color=INK, weight="bold", va="center")
    _draw(axes, boxes, [(column * (width + 0.4), row * PITCH) for column, row in places], width)
    with matplotlib.rc_context({"svg.hashsalt": "medtune"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


def _longest_path(boxes: Sequence[Box]) -> list[int]:
    """The boxes of the longest way from the images to the head."""
    depth: list[int] = []
    for box in boxes:
        depth.append(1 + max((depth[source] for source in box.sources), default=0))
    way = [len(boxes) - 1]
    while boxes[way[-1]].sources:
        way.append(max(boxes[way[-1]].sources, key=lambda source: depth[source]))
    return way[::-1]


def _places(boxes: Sequence[Box], spine: Sequence[int]) -> list[tuple[int, int]]:
    """Column and row of each box: the longest way in the first column, all others in the second, after their source."""
    rows = {index: row for row, index in enumerate(spine)}
    taken: set[int] = set()
    for index, box in enumerate(boxes):
        if index not in rows:
            users = [rows[user] for user, other in enumerate(boxes) if index in other.sources and user in rows]
            row = 1 + max((rows[source] for source in box.sources), default=min(users, default=1) - 2)
            while row in taken:
                row += 1
            rows[index] = row
            taken.add(row)
    return [(0 if index in set(spine) else 1, rows[index]) for index in range(len(boxes))]


def _draw(axes: Axes, boxes: Sequence[Box], corners: Sequence[tuple[float, float]], width: float) -> None:
    for box, (x, y) in zip(boxes, corners, strict=True):
        kind = "merge" if len(box.sources) > 1 else "weights" if box.weighs else "other"
        frame = FancyBboxPatch((x, y), width, HEIGHT, "round,pad=0,rounding_size=0.06", linewidth=0.7)
        frame.set(facecolor=FILL[kind], edgecolor=PALE)
        axes.add_patch(frame)
        axes.text(x + width / 2, y + HEIGHT / 2, _text(box), fontsize=8, color=INK, ha="center", va="center")
        if box.shape:
            shape = " x ".join(map(str, box.shape))
            axes.text(x + width / 2 + 0.07, y + HEIGHT + 0.11, shape, fontsize=6, color=PALE, va="center")
        if x == 0:
            axes.text(-0.12, y + HEIGHT / 2, box.path, fontsize=7, color=PALE, ha="right", va="center")
        for source in box.sources:
            _connect(axes, corners[source], (x, y), width)


def _connect(axes: Axes, source: tuple[float, float], target: tuple[float, float], width: float) -> None:
    """From box to box, by their upper left corners: straight to the next one, else a curve along the right."""
    (x0, y0), (x1, y1) = source, target
    middle = width / 2
    if x0 == x1 and y1 - y0 < 1.5 * PITCH:
        points, codes = [(x0 + middle, y0 + HEIGHT), (x1 + middle, y1)], [Curve.MOVETO, Curve.LINETO]
    else:
        codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
        begin, end = (x0 + width, y0 + HEIGHT * 0.75), (x1 + width, y1 + HEIGHT * 0.25)
        if x0 == x1:
            out = x0 + width + _bulge((y1 - y0) / PITCH)
            points = [begin, (out, begin[1]), (out, end[1]), end]
        elif x1 > x0:  # out to a box beside, from above
            end = (x1 + middle, y1)
            points = [begin, (end[0], begin[1]), (end[0], begin[1]), end]
        else:  # and back
            begin = (x0 + middle, y0 + HEIGHT)
            points = [begin, (begin[0], end[1]), (begin[0], end[1]), end]
    way = Curve(points, codes)
    axes.add_patch(FancyArrowPatch(path=way, arrowstyle="-|>", mutation_scale=6, color=INK, linewidth=0.8, fill=False))


def _bulge(rows: float) -> float:
    """How far to the right the control points of a curve over so many rows lie."""
    return 0.35 + 0.06 * rows


def _text(box: Box) -> str:
    return " · ".join(box.steps)
