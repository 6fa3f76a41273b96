"""What the driver costs per trial and per report, with workers that do nothing, as a sweep grows.

    uv run python benchmarks/driver_cost.py --trials 100 1000 5000

Beside it TPE's own cost: a study of as many trials, told and asked in memory, with nothing else. Seconds are the
driver's processor time; MLflow's are those of the mirror, which is a process of its own.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna

from medtune.config.read import read_sweep
from medtune.data import Split
from medtune.search import cluster, engine
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.pruning import build_pruner
from medtune.search.resources import plan_shares
from medtune.search.run import SweepRun
from medtune.search.sampler import build_sampler, suggest
from medtune.search.sweep import JobMaker
from medtune.search.worker import Job, Message, SearchData
from medtune.tracking.tracker import Tracker

EPOCHS = 9
SWEEP = """
sweep: driver-cost
data: {dataset: phantom-binary}
trial:
  epochs: 9
  batch_size: {choice: [32, 64, 128]}
  model: {name: smallcnn, dropout: {uniform: [0, 0.5]}}
  optimizer:
    choice:
      - {name: adam, lr: {log_uniform: [1.0e-4, 1.0e-1]}, weight_decay: {log_uniform: [1.0e-6, 1.0e-2]}}
      - {name: sgd, lr: {log_uniform: [1.0e-4, 1.0e-1]}, weight_decay: {log_uniform: [1.0e-6, 1.0e-2]}}
pruning: {name: asha, grace_epochs: 2, reduction_factor: 3}
"""


def do_nothing(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
    """Reports a curve that costs nothing to make."""
    generator = np.random.default_rng(job.seed)
    height = generator.uniform(0.5, 0.9)
    names = ("train/loss", "lr", "val/loss", "val/auroc", "val/accuracy", "val/ece", "val/brier", "epoch_seconds")
    for epoch in range(1, EPOCHS + 1):
        values = dict.fromkeys(names, 0.1) | {"val/auroc": height * (1 - 0.5**epoch)}
        report({"epoch": epoch, "last": epoch == EPOCHS, "at": time.time(), **values})


def sweep(trials: int, out: Path) -> tuple[float, float, float, int]:
    """Seconds: the driver's processor time, the mirror's, and the wall; and how many reports there were."""
    file = out / "sweep.yaml"
    file.write_text(SWEEP)
    config = read_sweep(file, [f"search.trials={trials}"])
    folder = SweepFolder.create(out / "runs" / "cost", config)
    data = SearchData("none", *[Split(np.zeros((2, 28, 28), np.uint8), np.array([0, 1]))] * 2)
    share = plan_shares(config.resources, cluster.start(config.cluster), 28)
    with Tracker(folder, config) as tracker:
        ledger = Ledger(folder, config, write=True)
        pruner = build_pruner(config.pruning, "max", EPOCHS)
        jobs = JobMaker(config, share)
        run = SweepRun(folder, config, ledger, pruner, jobs, [tracker.watcher()])
        started, used = time.perf_counter(), time.process_time()
        engine.run_jobs(run, data, share, work=do_nothing)
        wall, driver = time.perf_counter() - started, time.process_time() - used
        cluster.stop()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return driver, children.ru_utime + children.ru_stime, wall, sum(len(e.values) for e in ledger.entries())


def tpe_alone(trials: int, out: Path) -> float:
    """Processor seconds of as many asks and tells."""
    file = out / "tpe.yaml"
    file.write_text(SWEEP)
    space = read_sweep(file).trial
    study = optuna.create_study(direction="maximize")
    generator, used = np.random.default_rng(0), time.process_time()
    for number in range(trials):
        study.sampler = build_sampler("tpe", 0, number, space)
        trial = study.ask()
        suggest(trial, space, "tpe")
        study.tell(trial, generator.uniform())
    return time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print("trials  reports  wall s  driver ms/trial  without TPE  ms/report  TPE ms/trial  MLflow ms/trial")
    mirror_before = 0.0
    for trials in options.trials:
        with tempfile.TemporaryDirectory() as out:
            driver, mirror, wall, reports = sweep(trials, Path(out))
            tpe = tpe_alone(trials, Path(out))
        rest = driver - tpe
        mirror, mirror_before = mirror - mirror_before, mirror
        row = [
            1e3 * driver / trials,
            1e3 * rest / trials,
            1e3 * rest / reports,
            1e3 * tpe / trials,
            1e3 * mirror / trials,
        ]
        print(f"{trials:6} {reports:8} {wall:7.1f}  " + "  ".join(f"{value:12.2f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
