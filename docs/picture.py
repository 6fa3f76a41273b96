"""Draws the picture of the README from a finished sweep: `uv run python docs/picture.py runs/breastmnist`."""

import sys
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medtune.data.catalogue import describe
from medtune.figures.trial import draw_predictions
from medtune.search.folder import SweepFolder
from medtune.search.summary import Summary


def main(path: Path) -> None:
    folder = SweepFolder.open(path)
    summary = Summary(folder, folder.config())
    assert summary.best is not None and summary.best.best_epoch is not None
    figure = Figure(figsize=(12.6, 4.1), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
    for entry in summary.entries:
        colour, width, order = {"complete": ("#0072B2", 1.2, 2)}.get(entry.state, ("#BBBBBB", 0.8, 1))
        label = "complete" if entry.state == "complete" else "pruned"
        if entry.number == summary.best.number:
            colour, width, order, label = "#D55E00", 2.2, 4, "best"
        elif entry.number == 0:
            colour, width, order, label = "#000000", 1.8, 3, "untuned default"
        epochs, values = list(entry.values), list(entry.values.values())
        axes[0].plot(epochs, values, color=colour, linewidth=width, zorder=order, label=label)
    unique = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))
    axes[0].legend(unique.values(), unique.keys(), frameon=False, loc="lower right")
    axes[0].set(xlabel="epoch", ylabel="validation AUROC", ylim=(0.4, 1))
    axes[0].set_title(f"{len(summary.entries)} trials, {summary.counts['pruned']} pruned", weight="bold")
    axes[0].spines[["top", "right"]].set_visible(False)
    axes[0].grid(alpha=0.3)
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    info, predictions = describe(summary.config.data), folder.predictions(summary.best.number)
    assert predictions is not None
    with tempfile.TemporaryDirectory() as drawn:
        draw_predictions(predictions, summary.best.best_epoch, info.task, info.classes, Path(drawn))
        for ax, name in zip(axes[1:], ("roc.png", "reliability.png"), strict=True):
            ax.imshow(matplotlib.image.imread(Path(drawn, name)), interpolation="antialiased")
            ax.axis("off")
    figure.tight_layout(w_pad=0)
    figure.savefig(Path(__file__).with_name("breastmnist.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
