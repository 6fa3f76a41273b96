"""How often the 95 % intervals of AUROC and of calibration errors hold the truth, in simulated validation sets.

    OMP_NUM_THREADS=1 uv run python benchmarks/intervals.py --parts auroc binary --simulations 1000

Prints one table in markdown for each part. `auroc` is a binormal model with a third of the cases positive, beside
DeLong's interval as it is and the percentile bootstrap of the cases. `binary` is the ECE of models whose logits are
normal(0.7, 1.8) and who meet worlds that differ from what they say in known ways; `kinds` other calibration errors of
these; `many` means over seven classes, or over five or fourteen correlated labels. The true error is that of 400,000
cases, from the probabilities and so without noise. A thousand simulations of all parts take half an hour on two cores.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri, softmax

from medtune.evaluation.calibration import KINDS, Kind, calibration_error, looked_at, put_in_bins
from medtune.evaluation.calibration_error import calibration_estimate
from medtune.evaluation.intervals import auroc_interval
from medtune.evaluation.metrics import auroc
from medtune.task import Task

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Generator = np.random.Generator
RESAMPLES = 200  # of the percentile bootstrap
Z = 1.959964


def two_columns(positive: Array) -> Array:
    return np.stack([1 - positive, positive], axis=1)


def percentile(measure: Callable[[NDArray[np.intp]], float], cases: int, generator: Generator) -> tuple[float, float]:
    drawn = [measure(generator.integers(0, cases, cases)) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def share_held(ends: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in ends]))


def width(ends: list[tuple[float, float]]) -> float:
    return float(np.mean([high - low for low, high in ends]))


# AUROC


def delong(positives: Array, negatives: Array) -> tuple[float, float]:
    """DeLong et al. 1988, without a transformation."""
    psi = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    variance = psi.mean(axis=1).var(ddof=1) / len(positives) + psi.mean(axis=0).var(ddof=1) / len(negatives)
    return float(psi.mean() - Z * math.sqrt(variance)), float(psi.mean() + Z * math.sqrt(variance))


def auroc_row(true: float, cases: int, simulations: int) -> str:
    generator = np.random.default_rng(cases)
    labels = (np.arange(cases) < cases // 3).astype(np.int64)
    ends: dict[str, list[tuple[float, float]]] = {"ours": [], "delong": [], "percentile": []}
    for _ in range(simulations):
        scores = generator.normal(size=cases) + labels * math.sqrt(2) * float(ndtri(true))
        shown = two_columns(ndtr(scores))
        ours = auroc_interval(shown, labels, "binary")
        ends["ours"].append((ours.low, ours.high))
        ends["delong"].append(delong(scores[labels == 1], scores[labels == 0]))
        of_cases = partial(lambda shown, drawn: auroc(shown[drawn], labels[drawn], "binary"), shown)
        ends["percentile"].append(percentile(of_cases, cases, generator))
    held = [f"{share_held(each, true):.3f}" for each in ends.values()]
    return f"| {true:.2f} | {cases} | {held[0]} | {width(ends['ours']):.3f} | {held[1]} | {held[2]} |"


# calibration errors


@dataclass(frozen=True)
class World:
    """`draw(cases, generator)`: probabilities, what is true of them, and labels."""

    name: str
    task: Task
    draw: Callable[[int, Generator], tuple[Array, Array, Labels]]
    cases_for_truth: int = 400_000

    def truth(self, kind: Kind, generator: Generator) -> float:
        shown, true, _ = self.draw(self.cases_for_truth, generator)
        classes = looked_at(shown, self.task, kind)
        return put_in_bins(*(np.take_along_axis(each, classes, axis=1) for each in (shown, true)), kind).value


def times(factor: float, logit: Array) -> Array:
    return np.asarray(expit(factor * logit))


def shifted(logit: Array) -> Array:
    return np.asarray(expit(logit - 1.2))


def wavy(logit: Array) -> Array:
    return np.asarray(expit(logit + 1.5 * np.sign(logit) * np.sign(np.sin(3 * logit))))


def one_bin(logit: Array) -> Array:
    """Calibrated but for confidences of .73 to .80."""
    return np.where((np.abs(logit) > 1) & (np.abs(logit) < 1.4), np.where(logit > 0, 0.25, 0.75), expit(logit))


def draw_binary(world: Callable[[Array], Array], cases: int, generator: Generator) -> tuple[Array, Array, Labels]:
    logit = generator.normal(0.7, 1.8, cases)
    true = world(logit)
    return two_columns(expit(logit)), two_columns(true), (generator.random(cases) < true).astype(np.int64)


def draw_classes(slope: float, cases: int, generator: Generator) -> tuple[Array, Array, Labels]:
    logits = generator.normal(0, 2, (cases, 7))
    true = softmax(slope * logits, axis=1)
    labels = (generator.random((cases, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, 6)
    return softmax(logits, axis=1), true, labels


def draw_labels(labels: int, slope: float, wrong: int, cases: int, generator: Generator) -> tuple[Array, Array, Labels]:
    """So many `wrong` labels have the slope; residuals of a case's labels are correlated, .5 before they are cut."""
    logits = generator.normal(-1.5, 1.5, (cases, labels))
    true = expit(np.where(np.arange(labels) < wrong, slope, 1.0) * logits)
    latent = math.sqrt(0.5) * (generator.normal(size=(cases, 1)) + generator.normal(size=(cases, labels)))
    return expit(logits), true, (latent < ndtri(true)).astype(np.int64)


BINARY = [
    World(name, "binary", partial(draw_binary, world))
    for name, world in {
        "calibrated": partial(times, 1.0),
        **{f"logits x {factor}": partial(times, factor) for factor in (0.8, 0.69, 0.6, 0.4, 1.8)},
        "logits - 1.2": shifted,
        "wavy": wavy,
        "one bin": one_bin,
    }.items()
]
CLASSES = [World(f"7 classes, x {slope}", "multiclass", partial(draw_classes, slope)) for slope in (1.0, 0.6, 0.4, 1.5)]
LABELS = [
    World(
        f"{labels} labels, {wrong} of them x {slope}", "multilabel", partial(draw_labels, labels, slope, wrong), 100_000
    )
    for labels, wrong, slope in ((5, 0, 1.0), (5, 5, 0.6), (5, 1, 0.3), (14, 0, 1.0), (14, 14, 0.6), (14, 4, 0.3))
]
ROWS: dict[str, list[tuple[World, Kind]]] = {
    "binary": [(world, KINDS["top-label-15-width"]) for world in BINARY],
    "kinds": [
        (world, KINDS[name])
        for name in ("top-label-10-width", "top-label-15-mass", "top-label-10-mass", "positive-class-15-width")
        for world in (BINARY[0], BINARY[2], BINARY[4])
    ],
    "many": [
        *((world, KINDS[name]) for name in ("top-label-15-width", "class-wise-15-width") for world in CLASSES),
        *((world, KINDS["positive-class-15-width"]) for world in LABELS),
    ],
}


def calibration_row(world: World, kind: Kind, cases: int, simulations: int) -> str:
    generator = np.random.default_rng(cases)
    truth = world.truth(kind, generator)
    found, theirs = [], []
    for _ in range(simulations):
        shown, _, labels = world.draw(cases, generator)
        found.append(calibration_estimate(shown, labels, world.task, kind, generator))
        of_cases = partial(
            lambda shown, labels, drawn: calibration_error(shown[drawn], labels[drawn], world.task, kind), shown, labels
        )
        theirs.append(percentile(of_cases, cases, generator))
    ours = [(one.low, one.high) for one in found]
    plain, debiased = np.mean([(one.value, one.debiased) for one in found], axis=0)
    told = np.mean([one.told_from_perfect for one in found])
    return (
        f"| {world.name} | {kind.name} | {cases} | {truth:.3f} | {plain:.3f} | {debiased:.3f} | "
        f"{share_held(ours, truth):.3f} | {width(ours):.3f} | {share_held(theirs, truth):.3f} | {told:.3f} |"
    )


AUROC_HEAD = "| true AUROC | cases | held | width | DeLong's held | percentile bootstrap's |\n|" + "---|" * 6
CALIBRATION_HEAD = (
    "| world | error | cases | truth | mean plain | mean debiased | held | width | percentile bootstrap's | told |\n|"
    + "---|" * 10
)


def jobs(part: str, every: list[int], simulations: int) -> Iterator[Callable[[], str]]:
    for cases in every:
        if part == "auroc":
            yield from (partial(auroc_row, true, cases, simulations) for true in (0.8, 0.9, 0.95))
        else:
            yield from (partial(calibration_row, *row, cases, simulations) for row in ROWS[part])


def run(job: Callable[[], str]) -> str:
    return job()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["auroc", *ROWS], default=["auroc", *ROWS])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--cases", type=int, nargs="+", default=[78, 600])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        for part in options.parts:
            print(f"\n{AUROC_HEAD if part == 'auroc' else CALIBRATION_HEAD}", flush=True)
            for line in pool.map(run, jobs(part, options.cases, options.simulations)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
