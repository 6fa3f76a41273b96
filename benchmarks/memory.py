"""What a worker holds of the data: its own memory after it has read every image, for small and for large data.

    uv run python benchmarks/memory.py --megabytes 1 400

The images lie once in the object store, in memory that all workers share. A second copy in a worker would show as
private memory that grows with the data.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from medtune.config.read import read_sweep
from medtune.data import Split
from medtune.search import cluster, engine
from medtune.search.events import EpochEnded, Watcher
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.pruning import KeepAll
from medtune.search.resources import plan_shares
from medtune.search.run import SweepRun
from medtune.search.sweep import JobMaker
from medtune.search.worker import Job, Message, SearchData

SIDE = 224


def read_all(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
    """Goes once through the data as training does, and reports the memory that is this process's own."""
    import torch

    from medtune.data.batches import to_device

    train = to_device(data.train, "cpu")
    before = psutil.Process().memory_full_info().uss
    for cases in torch.arange(len(train)).split(64):
        images, _ = train.batch(cases)
        images.sum()
    after = psutil.Process().memory_full_info().uss
    report({"epoch": 1, "last": True, "at": 1.0, "val/auroc": 0.5, "before": before / 1e6, "after": after / 1e6})


class Largest(Watcher):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.before, self.after = 0.0, 0.0

    def epoch_ended(self, event: EpochEnded) -> None:
        self.before, self.after = event.values["before"], event.values["after"]


def private_memory(megabytes: int) -> Largest:
    with tempfile.TemporaryDirectory() as out:
        file = Path(out, "sweep.yaml")
        file.write_text("sweep: memory\ndata: {dataset: phantom-binary, size: 224}\nsearch: {trials: 2}\n")
        config = read_sweep(file)
        folder = SweepFolder.create(Path(out, "runs", "memory"), config)
        images = np.zeros((megabytes * 10**6 // SIDE**2, SIDE, SIDE), np.uint8)
        split = Split(images, np.zeros(len(images), np.int64))
        seen = Largest()
        share = plan_shares(config.resources, cluster.start(config.cluster), SIDE)
        ledger, jobs = Ledger(folder, config, write=True), JobMaker(config, share)
        run = SweepRun(folder, config, ledger, KeepAll(), jobs, [seen])
        engine.run_jobs(run, SearchData("memory", split, Split(images[:1], split.labels[:1])), share, work=read_all)
        cluster.stop()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[20, 400])
    for megabytes in parser.parse_args().megabytes:
        seen = private_memory(megabytes)
        print(f"{megabytes:5} MB of images: {seen.before:.0f} MB of its own before, {seen.after:.0f} MB after an epoch")


if __name__ == "__main__":
    main()
