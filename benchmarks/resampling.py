"""Seconds for AUROC of many models on many bootstrap resamples, beside scikit-learn called for each of them.

    uv run python benchmarks/resampling.py --models 200 --cases 10000 --resamples 2000

Binary problems, 30 % positive. scikit-learn's `roc_auc_score` is timed on some resamples of some models, with the
resample as weights, and the rest is extrapolated. Both must agree. The ratio is that of the processors' seconds, so
that what else runs on the machine counts for little. Memory is the most that this process held.
"""

import argparse
import resource
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from medtune.evaluation.resampling import Resamples

NAIVE = 20  # resamples of a model that scikit-learn is timed on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=None, help="all processors, unless given")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    positive = generator.random(options.cases) < 0.3
    scores = generator.normal(size=(options.models, options.cases)) + 1.5 * positive

    started, worked = time.perf_counter(), time.process_time()
    resamples = Resamples.draw(positive.astype(np.intp), options.resamples, generator)
    drawn = time.perf_counter()
    aurocs = resamples.in_bag_auroc(scores, positive, options.threads)
    took, processor = time.perf_counter() - started, time.process_time() - worked
    out = time.perf_counter()
    resamples.out_of_bag_auroc(scores, positive, options.threads)
    out = time.perf_counter() - out

    naive = time.process_time()
    theirs = [roc_auc_score(positive, scores[0], sample_weight=counts) for counts in resamples.counts[:NAIVE]]
    naive = (time.process_time() - naive) / NAIVE * options.models * options.resamples
    np.testing.assert_allclose(aurocs[:NAIVE, 0], theirs, atol=1e-6)

    print(f"{options.models} models, {options.cases} cases, {options.resamples} resamples")
    print(f"drawn and in the bag {took:8.1f} s ({drawn - started:.1f} s of it drawing; processors: {processor:.1f} s)")
    print(f"out of the bag       {out:8.1f} s")
    print(f"scikit-learn         {naive:8.0f} s of a processor, extrapolated: {naive / processor:.0f} times as much")
    print(f"memory               {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:8.2f} GiB at the most")


if __name__ == "__main__":
    main()
