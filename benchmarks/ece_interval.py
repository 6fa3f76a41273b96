"""How often the 95 % interval of ECE holds the truth: `uv run python benchmarks/ece_interval.py [SIMULATIONS]`.

Binary models whose logits are normal(0.7, 1.8) meet worlds that differ from what they say in known ways. The truth is
the binned ECE of 400,000 cases, computed from the probabilities and so without noise. The percentile bootstrap stands
beside ours to show why it is not used. 400 simulations take a good minute on one core.
"""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medtune.evaluation.ece_interval import ece_interval
from medtune.evaluation.intervals import Interval
from medtune.evaluation.metrics import BINS, bin_of, ece

Array = NDArray[np.float64]
WORLDS: dict[str, Callable[[Array], Array]] = {
    "calibrated": expit,
    "slightly overconfident": lambda logit: expit(0.8 * logit),
    "overconfident": lambda logit: expit(0.6 * logit),
    "very overconfident": lambda logit: expit(0.4 * logit),
    "underconfident": lambda logit: expit(1.8 * logit),
    "wavy": lambda logit: expit(logit + 1.5 * np.sign(logit) * np.sign(np.sin(3 * logit))),
}


def draw_logits(cases: int, generator: np.random.Generator) -> Array:
    return generator.normal(0.7, 1.8, cases)


def two_columns(positive: Array) -> Array:
    return np.stack([1 - positive, positive], axis=1)


def true_ece(world: Callable[[Array], Array], generator: np.random.Generator) -> float:
    logit = draw_logits(400_000, generator)
    said, true = expit(logit), world(logit)
    confidence, right = np.maximum(said, 1 - said), np.where(said > 0.5, true, 1 - true)
    gaps = np.bincount(bin_of(confidence), weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(logit))


def percentile(probabilities: Array, labels: NDArray[np.int64], generator: np.random.Generator) -> Interval:
    drawn = generator.integers(0, len(labels), (200, len(labels)))
    eces = [ece(probabilities[cases], labels[cases], "binary") for cases in drawn]
    low, high = np.quantile(eces, [0.025, 0.975])
    return Interval(ece(probabilities, labels, "binary"), float(low), float(high))


def row(name: str, cases: int, simulations: int) -> str:
    generator = np.random.default_rng(cases)
    truth = true_ece(WORLDS[name], generator)
    ours, theirs = [], []
    for _ in range(simulations):
        logit = draw_logits(cases, generator)
        probabilities = two_columns(expit(logit))
        labels = (generator.random(cases) < WORLDS[name](logit)).astype(np.int64)
        ours.append(ece_interval(probabilities, labels, "binary", generator, resamples=500))
        theirs.append(percentile(probabilities, labels, generator))
    held = [np.mean([i.low <= truth <= i.high for i in intervals]) for intervals in (ours, theirs)]
    width, value = np.mean([i.high - i.low for i in ours]), np.mean([i.value for i in ours])
    return f"{name:<24}{cases:>6}{truth:>8.3f}{value:>10.3f}{held[0]:>8.2f}{width:>8.3f}{held[1]:>12.2f}"


def main() -> None:
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    print(f"{'world':<24}{'cases':>6}{'truth':>8}{'mean ECE':>10}{'held':>8}{'width':>8}{'percentile':>12}")
    for name in WORLDS:
        for cases in (78, 156, 624):
            print(row(name, cases, simulations), flush=True)


if __name__ == "__main__":
    main()
