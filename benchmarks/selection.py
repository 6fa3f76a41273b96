"""How far off a chosen score is, and what is done about it, in simulated sweeps whose true scores are known.

    OMP_NUM_THREADS=1 uv run python benchmarks/selection.py --cases 78 --sweeps 1000

A sweep is 64 trials of 10 epochs. Scores are binormal: negatives N(0, 1), positives N(mu, 1), 27 % of the cases, so
that the true AUROC is Phi(mu / sqrt 2). Two trials share 65 % of a case's variance, two epochs of a trial 90 %.
`equal`: every true AUROC is .88. `unequal`: the trials' best epochs are N(.88, .025), on learning curves that rise at
their own speeds and fall a little after their best epoch.

Prints two tables in markdown. The truth that errors are taken to is the true score of the candidate that reads best.
`held`: in how many sweeps the tie set holds the truly best trial; where all are equal, so that each is truly best and
some are in every set, the share of the single trials that are in it. `pairwise`: the trials whose own 95 % interval
of the difference to the best holds 0. The cheapest trial within a quarter of a standard error and within one: how much
lower its true score is than that of the one that reads best, with costs that have nothing to do with the score, and
with costs that correlate by .3 with it.
"""

import argparse
import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from medtune.selection.candidates import Candidates, best_of_trials, draw
from medtune.selection.corrected import corrected
from medtune.selection.standing import intervals
from medtune.selection.thrifty import thrifty
from medtune.selection.tie_set import tie_set

Array = NDArray[np.float64]
TRIALS, EPOCHS = 64, 10
POSITIVE = 0.27
BETWEEN_TRIALS, BETWEEN_EPOCHS = 0.65, 0.9  # correlations of the scores of a case
LEVEL, SPREAD = 0.88, 0.025
COST_AND_QUALITY = 0.3  # their correlation, where cheap trials are worse
WORLDS = ("equal", "unequal")


class Simulated(Candidates):
    """AUROC alone, from ranks, for speed."""

    @cached_property
    def goodness(self) -> Array:
        positive = self.labels[np.argsort(self.logits[..., 1], axis=1)] == 1
        below = np.cumsum(~positive, axis=1) * positive
        return below.sum(axis=1) / ((self.labels == 1).sum() * (self.labels == 0).sum())


def true_scores(world: str, generator: np.random.Generator) -> tuple[Array, Array]:
    """(trials, epochs), and the quality of each trial in standard deviations."""
    quality = generator.normal(size=TRIALS)
    if world == "equal":
        return np.full((TRIALS, EPOCHS), LEVEL), quality
    best = np.clip(LEVEL + SPREAD * quality, 0.6, 0.985)[:, None]
    speed, peak = generator.uniform(1, 3, (TRIALS, 1)), generator.integers(5, 11, (TRIALS, 1))
    epoch = np.arange(1, EPOCHS + 1)
    return best - (best - 0.6) * np.exp(-epoch / speed) - 0.004 * np.maximum(epoch - peak, 0), quality


def candidates_of(true: Array, cases: int, generator: np.random.Generator) -> Simulated:
    labels = (np.arange(cases) < round(POSITIVE * cases)).astype(np.int64)

    def noise(share: float, *shape: int) -> NDArray[np.float32]:
        return np.float32(math.sqrt(share)) * generator.standard_normal((*shape, cases), dtype=np.float32)

    scores = noise(1 - BETWEEN_EPOCHS, TRIALS, EPOCHS) + noise(BETWEEN_EPOCHS - BETWEEN_TRIALS, TRIALS, 1)
    scores += noise(BETWEEN_TRIALS)
    scores += (math.sqrt(2) * ndtri(true)[..., None] * labels).astype(np.float32)
    scores = scores.reshape(TRIALS * EPOCHS, cases)
    trials, epochs = np.repeat(np.arange(TRIALS), EPOCHS), np.tile(np.arange(1, EPOCHS + 1), TRIALS)
    logits = np.stack([np.zeros_like(scores), scores], axis=2)
    return Simulated(trials, epochs, logits, labels, "binary", "val/auroc")


def simulate(world: str, cases: int, resamples: int, seed: int) -> Mapping[str, float]:
    """One sweep."""
    generator = np.random.default_rng([cases, WORLDS.index(world), seed])
    true, quality = true_scores(world, generator)
    candidates = candidates_of(true, cases, generator)
    draws = draw(candidates, resamples, generator)
    best = int(candidates.goodness.argmax())
    truth = true.ravel()
    tie = tie_set(candidates, draws)
    worth = corrected(candidates, draws, tie, intervals(candidates, np.array([best]), draws.resamples.counts)[0])
    each = best_of_trials(candidates)
    leads = candidates.goodness[best] - candidates.goodness[each]
    deviation = (draws.in_bag[:, [best]] - draws.in_bag[:, each]).std(axis=0)
    truly_best = true.max(axis=1) == true.max()
    tied = np.isin(np.arange(TRIALS), tie)
    pairwise = leads <= 1.96 * deviation
    noise = generator.normal(size=TRIALS)
    related = COST_AND_QUALITY * quality + math.sqrt(1 - COST_AND_QUALITY**2) * noise

    def loss(costs: Array, errors: float = 0.25) -> float:
        return float(truth[best] - truth[thrifty(candidates, draws, dict(enumerate(costs)), errors)])

    return {
        "raw": worth.raw - truth[best],
        "bbc": float(np.nanmean(draws.out_of_bag)) - truth[best],
        "corrected": worth.value - truth[best],
        "covered": worth.interval.low <= truth[best] <= worth.interval.high,
        "width": worth.interval.high - worth.interval.low,
        "held": tied[truly_best].mean(),
        "tied": tied.sum(),
        "pairwise held": pairwise[truly_best].mean(),
        "pairwise tied": pairwise.sum(),
        "loss": loss(noise),
        "loss, related": loss(related),
        "loss, one": loss(noise, 1.0),
        "loss, one, related": loss(related, 1.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[78, 600, 5000])
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=WORLDS)
    options = parser.parse_args()
    scores, choices = [], []
    with ProcessPoolExecutor(options.processes) as pool:
        for cases in options.cases:
            for world in options.worlds:
                one = partial(simulate, world, cases, options.resamples)
                sweeps = list(pool.map(one, range(options.sweeps), chunksize=2))
                found = {name: np.array([sweep[name] for sweep in sweeps], float) for name in sweeps[0]}
                where = f"| {cases} | {world} | {options.sweeps} |"
                scores.append(f"{where} {score_cells(found)} |")
                choices.append(f"{where} {choice_cells(found)} |")
                print(scores[-1], choices[-1], sep="\n", flush=True)
    print(
        "\n| cases | trials | sweeps | raw: error | abs. | BBC: error | abs. | corrected: error | abs. | held | width |"
    )
    print("|---" * 11 + "|", *scores, sep="\n")
    print(
        "\n| cases | trials | sweeps | tie set: held | size | pairwise: held | size | quarter SE: loss | cheap worse "
        "| one SE: loss | cheap worse |"
    )
    print("|---" * 11 + "|", *choices, sep="\n")


def score_cells(found: Mapping[str, Array]) -> str:
    cells = []
    for name in ("raw", "bbc", "corrected"):
        error = found[name]
        cells += [f"{error.mean():+.4f} ± {error.std() / math.sqrt(len(error)):.4f}", f"{np.abs(error).mean():.4f}"]
    return " | ".join([*cells, f"{found['covered'].mean():.3f}", f"{found['width'].mean():.3f}"])


def choice_cells(found: Mapping[str, Array]) -> str:
    cells = []
    for name in ("", "pairwise "):
        cells += [f"{found[name + 'held'].mean():.3f}", f"{found[name + 'tied'].mean():.1f}"]
    for name in ("loss", "loss, related", "loss, one", "loss, one, related"):
        loss = found[name]
        cells.append(f"{loss.mean():+.4f} ± {loss.std() / math.sqrt(len(loss)):.4f}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
