"""The figures of an appraisal: every file that `medtune evaluate` draws from predictions alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtune.evaluation.appraisal import Appraisal, OperatingPoint
from medtune.evaluation.metrics import one_vs_rest
from medtune.figures.confusion import confusion_figure
from medtune.figures.epochs import epochs_figure
from medtune.figures.net_benefit import net_benefit_figure
from medtune.figures.operating_points import operating_points_figure
from medtune.figures.pr import pr_figure
from medtune.figures.recalibration import recalibration_figure
from medtune.figures.reliability import reliability_figure
from medtune.figures.roc import roc_figure


def draw_appraisal(found: Appraisal, records: Sequence[Mapping[str, Any]], best: int | None, folder: Path) -> None:
    """`reliability`, `roc`, `pr`, `confusion`, `recalibration`, and for binary `operating-points` and `net-benefit`,
    else one of each a class with its number behind it; `epochs` where there are epoch records. All PNG."""
    shown, labels, task = found.probabilities, found.labels, found.task
    reliability_figure(shown, labels, task, folder / "reliability.png")
    roc_figure(shown, labels, task, found.classes, folder / "roc.png")
    pr_figure(shown, labels, task, found.classes, folder / "pr.png")
    confusion_figure(shown, labels, task, found.classes, folder / "confusion.png")
    after = {kind: one.probabilities for kind, one in found.recalibrated.items()}
    recalibration_figure(shown, after, labels, task, folder / "recalibration.png")
    for number, curve in enumerate(found.decision_curves):
        path = folder / f"net-benefit{_behind(found, number)}.png"
        net_benefit_figure(
            curve.thresholds, curve.model, curve.low, curve.high, curve.treat_all, path, _name(found, number)
        )
    _draw_operating_points(found, folder)
    if records:
        epochs_figure(records, folder / "epochs.png", best)


def _draw_operating_points(found: Appraisal, folder: Path) -> None:
    scores, positive = one_vs_rest(found.calibrated, found.labels, found.task)
    for number in range(len(scores)):
        problem = 1 if found.task == "binary" else number
        rows = [_row(point) for point in found.operating_points if point.threshold.problem == problem]
        path = folder / f"operating-points{_behind(found, number)}.png"
        operating_points_figure(scores[number], positive[number], rows, path, _name(found, number))


def _name(found: Appraisal, number: int) -> str:
    """Of the class that is positive in a figure."""
    return found.classes[1 if found.task == "binary" else number]


def _behind(found: Appraisal, number: int) -> str:
    """What stands behind a name where there are several."""
    return "" if found.task == "binary" else f"-{number}"


def _row(point: OperatingPoint) -> dict[str, Any]:
    rates = {name: getattr(point.report, name) for name in ("sensitivity", "specificity", "ppv", "npv")}
    return {"name": str(point.threshold.target), "threshold": point.threshold.threshold, **rates}
