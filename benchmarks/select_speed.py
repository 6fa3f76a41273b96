"""Seconds for a whole choice among many candidates, beside a plain loop over scikit-learn for its resamples.

    uv run python benchmarks/select_speed.py --resamples 1000

Binary, 27 % positive: 200 trials of one epoch on 10,000 cases, and 100 trials of 20 epochs on 600. scikit-learn's
`roc_auc_score` is timed on some resamples of one candidate, with the resample as weights, and extrapolated to all
of them; what else a choice takes is not in it. The ratio is that of the processors' seconds.
"""

import argparse
import os
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from medtune.selection.candidates import Candidates
from medtune.selection.choose import choose

SIZES = ((200, 1, 10_000), (100, 20, 600))
NAIVE = 20  # resamples that scikit-learn is timed on


def made(trials: int, epochs: int, cases: int) -> Candidates:
    """As alike as trials of a sweep are."""
    generator = np.random.default_rng(0)
    labels = (generator.random(cases) < 0.27).astype(np.int64)
    scores = 1.6 * labels + 0.8 * generator.normal(size=cases) + 0.6 * generator.normal(size=(trials * epochs, cases))
    logits = np.stack([np.zeros_like(scores), scores], axis=2).astype(np.float32)
    of_trials, of_epochs = np.repeat(np.arange(trials), epochs), np.tile(np.arange(1, epochs + 1), trials)
    return Candidates(of_trials, of_epochs, logits, labels, "binary", "val/auroc")


def naive_seconds(candidates: Candidates, counts: np.ndarray) -> float:
    """A processor's, for one resample of one candidate."""
    started = time.process_time()
    for weights in counts[:NAIVE]:
        roc_auc_score(candidates.labels, candidates.logits[0, :, 1], sample_weight=weights)
    return (time.process_time() - started) / NAIVE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    print(f"{options.resamples} resamples, {os.cpu_count()} cores")
    print("\n| trials | epochs | cases | s | processor s | scikit-learn, processor s | ratio |\n" + "|---" * 7 + "|")
    for trials, epochs, cases in SIZES:
        candidates = made(trials, epochs, cases)
        started, worked = time.perf_counter(), time.process_time()
        selection = choose(candidates, options.resamples, 0)
        took, worked = time.perf_counter() - started, time.process_time() - worked
        naive = naive_seconds(candidates, selection.draws.resamples.counts) * len(candidates) * options.resamples
        print(
            f"| {trials} | {epochs} | {cases:,} | {took:.1f} | {worked:.1f} | {naive:,.0f} | {naive / worked:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
