"""How well selection chooses on real learning curves: what each way reads on validation, and what the choice tests.

    OMP_NUM_THREADS=1 uv run python benchmarks/curves.py --curves breast_curves.npz

The file holds predictions of many configurations after each epoch (`val` and `test`: configurations, epochs, cases;
the probability of class 1) with `val_labels` and `test_labels`. Neither part was trained on, so that a simulated sweep
draws its own configurations and its own validation, stratified; the cases that are left are the truth. ASHA stops
trials as it does in a sweep with four workers of which some are faster. What other tools return is the complete trial
with the best value at its best epoch; the differences are to that one, with their standard error over the sweeps.

"reads" is of validation alone, "tests" of the other cases: for the best complete trial and for means of the best what
they have there; for the winner of all (trial, epoch) pairs, which is what `select` calls the best, the raw value, the
plain bootstrap bias corrected one, and the corrected score that `select` prints and `selection.json` holds; for
bagged, greedy and recommended the estimates of `recommend`: out of bag or, where it takes the single winner, that
corrected score.
"""

import argparse
import heapq
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from medtune.config.sweep import Asha, NoPruning, Pruning
from medtune.evaluation.metrics import auroc
from medtune.search.pruning import build_pruner
from medtune.selection.candidates import Candidates, draw
from medtune.selection.corrected import corrected
from medtune.selection.ensembles import Ensemble, Member, bagged_votes, single
from medtune.selection.recommendation import recommend
from medtune.selection.standing import intervals
from medtune.selection.tie_set import tie_set

WORKERS = 4
USUAL = "best complete trial, raw"
COUNTED = ("share of", "trials of")  # beside the table
ASHA = Asha(grace_epochs=2, reduction_factor=3)


@dataclass(frozen=True)
class Setting:
    """shown: probability of class 1, (configurations, epochs, cases)."""

    shown: NDArray[np.float64]
    labels: NDArray[np.int64]
    trials: int
    cases: int
    resamples: int
    pruning: Pruning


@dataclass(frozen=True)
class Sweep:
    """The same candidates on validation and on the other cases, and the trials that ran to their end."""

    validation: Candidates
    test: Candidates
    complete: frozenset[int]

    def tests(self, ensemble: Ensemble) -> float:
        return auroc(ensemble.probabilities(self.test), self.test.labels, "binary")

    def raw(self, ensemble: Ensemble) -> float:
        return auroc(ensemble.probabilities(self.validation), self.validation.labels, "binary")


def simulate(setting: Setting, generator: np.random.Generator) -> Sweep:
    """A sweep of random configurations."""
    drawn = generator.permutation(len(setting.shown))[: setting.trials]
    chosen = np.zeros(len(setting.labels), bool)
    for stratum in (0, 1):
        members = generator.permutation(np.flatnonzero(setting.labels == stratum))
        chosen[members[: round(len(members) * setting.cases / len(setting.labels))]] = True
    of_trials = setting.shown[drawn]
    values = aurocs(of_trials[..., chosen], setting.labels[chosen] == 1)
    stops = run_epochs(values, setting.pruning, generator)
    trials = np.repeat(np.arange(len(stops)), stops)
    epochs = np.concatenate([np.arange(1, stop + 1) for stop in stops])
    pairs = of_trials[trials, epochs - 1].clip(1e-7, 1 - 1e-7)
    logits = np.log(np.stack([1 - pairs, pairs], axis=-1)).astype(np.float32)
    validation, test = (
        Candidates(trials, epochs, logits[:, which], setting.labels[which], "binary", "val/auroc")
        for which in (chosen, ~chosen)
    )
    return Sweep(validation, test, frozenset(np.flatnonzero(stops == setting.shown.shape[1]).tolist()))


def aurocs(of_positive: NDArray[np.float64], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mann-Whitney U of each model from midranks: (…, cases) to (…,)."""
    m = positive.sum()
    above = (rankdata(of_positive, axis=-1) * positive).sum(axis=-1) - m * (m + 1) / 2
    return np.asarray(above / (m * (len(positive) - m)))


def run_epochs(values: NDArray[np.float64], pruning: Pruning, generator: np.random.Generator) -> NDArray[np.intp]:
    """How many epochs each trial gets: (trials,). values: (trials, epochs). Workers take the next trial when free."""
    trials, longest = values.shape
    pruner = build_pruner(pruning, "max", longest)
    seconds = generator.uniform(0.5, 2, size=(trials,))  # an epoch of each
    stops = np.zeros(trials, np.intp)
    waiting = iter(range(trials))
    clock = [(seconds[trial], trial) for trial in islice(waiting, WORKERS)]
    heapq.heapify(clock)
    while clock:
        now, trial = heapq.heappop(clock)
        stops[trial] += 1
        stopped = pruner.stop(trial, int(stops[trial]), float(values[trial, stops[trial] - 1]))
        following = next(waiting, None) if stopped or stops[trial] == longest else trial
        if following is not None:
            heapq.heappush(clock, (now + seconds[following], following))
    return stops


def best_trials(candidates: Candidates, most: int) -> Ensemble:
    """The mean of the best trials, each at its best epoch."""
    order = np.argsort(-candidates.goodness, kind="stable")
    _, first = np.unique(candidates.trials[order], return_index=True)
    best = order[np.sort(first)[:most]]
    members = (Member(int(candidates.trials[i]), int(candidates.epochs[i]), 1 / len(best)) for i in best)
    return Ensemble("greedy", tuple(members))


def judge(seed: int, setting: Setting) -> dict[str, tuple[float, float]]:
    """For each way: what it reads on validation, and what the choice tests."""
    generator = np.random.default_rng([seed, setting.cases, setting.trials])
    sweep = simulate(setting, generator)
    candidates = sweep.validation
    full = np.isin(candidates.trials, list(sweep.complete))
    raw = {USUAL: single(candidates.part(np.flatnonzero(full if full.any() else ~full)))}
    raw |= {f"mean of the best {most}, raw": best_trials(candidates, most) for most in (3, 10)}
    found = {name: (sweep.raw(ensemble), sweep.tests(ensemble)) for name, ensemble in raw.items()}

    draws = draw(candidates, setting.resamples, generator)
    for name, complete in (("bagged, pairs as they are", frozenset[int]()), ("bagged", sweep.complete)):
        votes = bagged_votes(candidates, draws, complete)
        found[name] = votes.goodness(), sweep.tests(votes.ensemble())
        found["trials of bagged"] = len(votes.ensemble().trials), 0.0
    best = np.array([candidates.goodness.argmax()])
    [interval] = intervals(candidates, best, draws.resamples.counts)
    worth = corrected(candidates, draws, tie_set(candidates, draws), interval)
    winner = sweep.tests(single(candidates))
    found["winner of all pairs, raw"] = worth.raw, winner
    found["winner of all pairs, plain BBC"] = float(np.nanmean(draws.out_of_bag)), winner
    advice = recommend(candidates, draws, worth.value, sweep.complete, generator)
    for kind, option in advice.options.items():
        name = "winner of all pairs, corrected" if kind == "single" else f"{kind}, at most five trials"
        found[name] = option.estimate, sweep.tests(option.ensemble)
    found["recommended"] = advice.options[advice.kind].estimate, sweep.tests(advice.ensemble)
    for kind in advice.options:
        found[f"share of {kind}"] = float(advice.kind == kind), 0.0
    return found


def print_table(found: list[dict[str, tuple[float, float]]]) -> None:
    print("| way | reads | tests | reads too high | mean absolute | tests better than raw best | s.e. | share worse |")
    print("|---|---|---|---|---|---|---|---|")
    usual = np.array([one[USUAL][1] for one in found])
    for name in (name for name in found[0] if not name.startswith(COUNTED)):
        reads, tests = np.array([one[name] for one in found]).T
        gain, error = tests - usual, reads - tests
        spread = gain.std(ddof=1) / np.sqrt(len(gain))
        print(
            f"| {name} | {reads.mean():.4f} | {tests.mean():.4f} | {error.mean():+.4f} | {np.abs(error).mean():.4f} | "
            f"{gain.mean():+.4f} | {spread:.4f} | {(gain < 0).mean():.2f} |"
        )
    print()
    for name in (name for name in found[0] if name.startswith(COUNTED)):
        print(f"{name}: {np.mean([one[name][0] for one in found]):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--sweeps", type=int, default=600)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--cases", type=int, nargs="+", default=[78, 150], help="of validation")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--no-pruning", action="store_true")
    parser.add_argument("--half", type=int, choices=(0, 1), help="of the configurations, all unless given")
    parser.add_argument("--seed", type=int, default=0, help="of the first sweep")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with np.load(options.curves, allow_pickle=False) as held:
        shown = np.concatenate([held["val"], held["test"]], axis=2).astype(np.float64)
        labels = np.concatenate([held["val_labels"], held["test_labels"]]).astype(np.int64)
    if options.half is not None:
        shown = np.array_split(shown[np.random.default_rng(99).permutation(len(shown))], 2)[options.half]
    pruning = NoPruning() if options.no_pruning else ASHA
    setting = Setting(shown, labels, options.trials, 0, options.resamples, pruning)
    with Pool(options.processes) as pool:
        for cases in options.cases:
            of_cases = partial(judge, setting=replace(setting, cases=cases))
            seeds = range(options.seed, options.seed + options.sweeps)
            print(f"\n{options.sweeps} sweeps of {options.trials} trials, {cases} validation cases\n")
            print_table(pool.map(of_cases, seeds, chunksize=2))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
