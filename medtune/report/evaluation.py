"""One model's evaluation as sections of a page: what each number means, in a sentence beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medtune.report.document import Block, Bullets, Picture, Pictures, Section, Table, Text
from medtune.report.words import believed, interval, number

Found = Mapping[str, Any]


def evaluation_sections(found: Found, figures: Path) -> list[Section]:
    """found: as `evaluation.json` has it; figures: the folder that it lies in."""
    return [
        Section("How well it tells the classes apart", list(_discrimination(found, figures))),
        Section("Whether its probabilities can be believed", list(_calibration(found, figures))),
        Section("Thresholds", list(_thresholds(found, figures))),
        Section("What it does not know", list(_uncertainty(found, figures))),
        Section("Worse images", list(_robustness(found, figures))),
        Section("Where it is wrong", list(_errors(found, figures))),
    ]


def _pictures(figures: Path, *names: str) -> Iterator[Block]:
    """Those that are there, beside each other where there are several; a name with a star stands for all that begin
    so."""
    paths = [path for name in names for path in sorted(figures.glob(f"{name}.png"), key=lambda path: _order(path.stem))]
    shown = [Picture(path.read_bytes(), path.stem, path.stem.replace("-", " ")) for path in paths]
    if shown:
        yield Pictures(shown) if len(shown) > 1 else shown[0]


def _order(stem: str) -> tuple[str, int]:
    name, _, behind = stem.rpartition("-")
    return (name, int(behind)) if behind.isdigit() else (stem, -1)


OVERALL = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "precision, mean over classes",
    "macro_recall": "recall, mean over classes",
    "macro_f1": "F1, mean over classes",
    "quadratic_kappa": "quadratic weighted kappa",
}
OF_CLASS = {"auroc": "AUROC", "average_precision": "AP", "precision": "precision", "recall": "recall", "f1": "F1"}


def _discrimination(found: Found, figures: Path) -> Iterator[Block]:
    numbers = found["discrimination"]
    yield Text(f"{found['about']}. 95 % intervals in brackets: what other cases of the same kind could have given.")
    yield Table(["", "value"], [[words, interval(numbers[name])] for name, words in OVERALL.items() if name in numbers])
    yield from _pictures(figures, "roc", "pr", "confusion", "epochs")
    yield Text("Each class against the rest:")
    rows = [
        [one["name"], f"{one['cases']:,}", *(interval(one[name], 2) for name in OF_CLASS)]
        for one in numbers["per_class"]
    ]
    yield Table(["class", "cases", *OF_CLASS.values()], rows)


def _calibration(found: Found, figures: Path) -> Iterator[Block]:
    yield Text(
        "Of the cases of which a calibrated model says 80 %, 80 % come true. The expected calibration error (ECE) is "
        "the mean distance from that. On few cases it reads too high even for a perfect model, so beside it stand an "
        "estimate of the truth without that excess, what a perfect model would read, and a test against that."
    )
    rows = [
        [name, number(one["value"]), believed(one), number(one["if_perfect"]), number(one["p"])]
        for name, one in found["calibration"].items()
    ]
    yield Table(["ECE", "read", "debiased (95 %)", "if perfect", "p"], rows)
    first = next(iter(found["calibration"].values()))
    yield Text(f"In words: {first['words']}.")
    yield from _pictures(figures, "reliability", "recalibration")
    yield Text(_recalibration_words(found))
    rows = [
        [kind, number(one["ece"]["value"]), believed(one["ece"]), interval(one["nll"]), interval(one["brier"])]
        for kind, one in found["recalibration"]["after"].items()
    ]
    scores = found["scores"]
    raw = ["none", number(first["value"]), believed(first), interval(scores["nll"]), interval(scores["brier"])]
    yield Table(["recalibrated by", "ECE read", "debiased (95 %)", "NLL", "Brier"], [raw, *rows])
    within = scores["within_bin_variance"]["value"], scores["within_bin_covariance"]["value"]
    yield Text(
        "Brier score = reliability (lower is better) - resolution (higher is better) + uncertainty of the data + what "
        "lies within the bins; skill is 1 less Brier score / uncertainty:"
    )
    rows = [[part, interval(scores[part])] for part in ("reliability", "resolution", "uncertainty", "skill")]
    yield Table(["", "value"], [*rows, ["within bins", "" if None in within else number(within[0] - within[1])]])


def _recalibration_words(found: Found) -> str:
    decided, choice = found["recalibration"]["decided"], found["recalibration"].get("choice")
    what = f"temperature {decided['temperature']:.2f}" if decided["kind"] == "temperature" else decided["kind"]
    if choice is None:
        return f"Recalibrated by what was chosen on validation: {what}."
    notes = "".join(f" Note: {note}." for note in choice["notes"])
    return (
        f"Chosen for other cases by cross-fitted NLL: {what}. The numbers below are cross-fitted too: each case was "
        f"recalibrated by what the other folds taught.{notes}"
    )


CROSSED = (
    "The rates are of cases that each threshold was not chosen on: every fold had a threshold of its own, and so equal "
    "thresholds can have unequal rates. The curves are of all cases together."
)


def _thresholds(found: Found, figures: Path) -> Iterator[Block]:
    crossed = "choice" in found["recalibration"]
    yield Text(
        "A threshold on the recalibrated probability for each wanted sensitivity or specificity. "
        + (CROSSED if crossed else "Chosen on validation.")
        + (f" Positive means {found['classes'][1]}." if found["task"] == "binary" else "")
    )
    yield points_table(found["operating_points"], found["classes"])
    yield from _pictures(figures, "operating-points*")
    yield Text(
        "Net benefit: true positives a case, less the false ones at the price that the threshold implies. Where the "
        "model's line is above both others, acting on it does more good than treating everyone or no one."
    )
    yield from _pictures(figures, "net-benefit*")


def points_table(points: Sequence[Found], classes: Sequence[str]) -> Table:
    """Operating points as `evaluation.json` and `test.json` have them."""
    several = len({point["problem"] for point in points}) > 1
    rows = [
        [
            f"{classes[point['problem']]}: {point['target']}" if several else point["target"],
            cut(point["threshold"]),
            *(interval(point[rate], 2) for rate in ("sensitivity", "specificity", "ppv", "npv")),
        ]
        for point in points
    ]
    return Table(["wanted", "threshold", "sensitivity", "specificity", "PPV", "NPV"], rows)


def cut(threshold: float | None) -> str:
    """A threshold with as many digits as tell it from others, however rare the class is."""
    return "" if threshold is None else "above 1" if threshold > 1 else f"{threshold:.3g}"


def _uncertainty(found: Found, figures: Path) -> Iterator[Block]:
    yield Text(
        "The same model asked about several views of each image, with its dropout left on, or together with the other "
        "best trials. AURC: the mean error rate when the least sure cases are left out, one by one; lower is better. "
        "The trials of an ensemble were picked by these very cases, which flatters it as it does the best trial."
    )
    rows, missing = [], []
    for name, one in found["uncertainty"].items():
        if "undefined" in one:
            missing.append(f"{name}: {one['undefined']}")
            continue
        numbers = [interval(one["auroc"]), interval(one["accuracy"]), believed(one["ece"])]
        rows.append([name, *numbers, interval(one["coverage"]["aurc"])])
    yield Table(["", "AUROC", "accuracy", "ECE, debiased", "AURC"], rows)
    if missing:
        yield Bullets(missing)
    yield from _pictures(figures, "coverage")


def _robustness(found: Found, figures: Path) -> Iterator[Block]:
    numbers = found["robustness"]
    if "undefined" in numbers:
        yield Text(numbers["undefined"])
        return
    yield Text(
        f"AUROC after corruptions of five strengths; {number(numbers['clean'])} without any, and "
        f"{number(numbers['mean_degradation'])} less on average over all of them."
    )
    rows = [[name, *map(number, values)] for name, values in numbers["auroc"].items()]
    yield Table(["strength", "1", "2", "3", "4", "5"], rows)
    yield from _pictures(figures, "robustness")


def _errors(found: Found, figures: Path) -> Iterator[Block]:
    yield Text(f"Mistakes, the surest first, {len(found['mistakes'])} of them; p is the probability that it gave:")
    yield from _pictures(figures, "mistakes")
    yield Text("Of each class two cases that it got right and two that it got wrong, its surest ones:")
    yield from _pictures(figures, "right-and-wrong")
    suspects = found["label_noise"]["suspects"]
    yield Text(
        f"Labels that may be wrong, by confident learning: {suspects:,}. For a person to look at, not to be dropped."
        if suspects
        else "No label looks wrong by confident learning."
    )
    if suspects:
        yield from _pictures(figures, "label-noise")
    if "cases" in found["grad_cam"]:
        yield Text("Where it looked (Grad-CAM): the image, and beside it what spoke for the class that it said.")
        yield from _pictures(figures, "grad-cam")
    else:
        yield Text(f"Grad-CAM: {found['grad_cam']['undefined']}")
