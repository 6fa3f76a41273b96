"""What one sweep's choice is worth over another's on the sealed test: AUROC of their models, and the difference.

    uv run python benchmarks/bought.py runs/everything runs/default

Both sweeps must have been retrained, with as many seeds as wanted, and tested. The AUROC of a sweep is the mean over
its retrained models. The interval of the difference is a percentile bootstrap over the test cases, the same cases drawn
for both: it has the luck of the cases in it, not that of the seeds, whose deviation stands beside each mean.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from medtune.evaluation.metrics import auroc, probabilities
from medtune.task import Task

DRAWS = 5000


def predictions(folder: Path) -> tuple[list[np.ndarray], np.ndarray, Task]:
    """Probabilities (cases, classes) of each retrained model, the labels, and the task."""
    models = sorted((folder / "retrain").glob("model*/test.npz"))
    task: Task = json.loads((models[0].parent / "model.json").read_text())["task"]
    files = [np.load(path, allow_pickle=False) for path in models]
    return [probabilities(file["logits"], task) for file in files], files[0]["labels"], task


def mean_auroc(models: list[np.ndarray], labels: np.ndarray, task: Task, cases: np.ndarray) -> float:
    return float(np.mean([auroc(model[cases], labels[cases], task) for model in models]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs=2, help="of two sweeps on the same data")
    folders = parser.parse_args().folders
    sweeps = [predictions(folder) for folder in folders]
    _, labels, task = sweeps[0]
    everyone, generator = np.arange(len(labels)), np.random.default_rng(0)
    for folder, (models, _, _) in zip(folders, sweeps, strict=True):
        each = [auroc(model, labels, task) for model in models]
        spread = f", deviation {np.std(each, ddof=1):.3f}" if len(each) > 1 else ""
        print(f"{folder.name:<12} {np.mean(each):.3f} over {len(each)} seeds{spread}: {np.round(each, 3).tolist()}")

    def difference(cases: np.ndarray) -> float:
        first, second = (mean_auroc(models, labels, task, cases) for models, _, _ in sweeps)
        return first - second

    draws = [difference(generator.integers(len(labels), size=len(labels))) for _ in range(DRAWS)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    print(f"difference   {difference(everyone):+.3f} (95 % {low:+.3f} to {high:+.3f}) on {len(labels)} test cases")


if __name__ == "__main__":
    main()
