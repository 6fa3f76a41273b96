"""What a bad tracking server costs the trials of a sweep: nothing, because only a file is between them.

    uv run python benchmarks/tracking_faults.py --trials 8 --pairs 2
    uv run python benchmarks/tracking_faults.py --away 600 --lines 100000

The same sweep with a good server, and one that is down, hangs, answers 500s or is slow by 5 s, in turns. A ratio is
of the seconds of all epochs, or of the processor seconds of the driver and its workers without the mirror's (which runs
at the lowest priority), to those beside the good server. Then the server is back, and what `medtune tracking sync` says
and leaves is looked at: each run and each point once and in order.

--away: so many seconds without the server, in the middle of a sweep. --lines: how long a spool of so many takes.
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import mlflow
import psutil

from medtune.search.folder import SweepFolder
from medtune.tracking.spool import SWEEP, Spool

_path = Path(__file__).parents[1] / "tests" / "faults" / "faulty_server.py"
_spec = importlib.util.spec_from_file_location("faulty_server", _path)
faulty_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faulty_server)

WAYS: dict[str, Any] = {"good": "good", "down": "down", "hanging": "hanging", "500s": "500", "slow by 5 s": 5.0}
FILE = """
sweep: tracking-faults
data: {dataset: phantom-binary, difficulty: 0.3}
trial:
  epochs: 12
  batch_size: {choice: [16, 32]}
  model: {name: smallcnn, dropout: {uniform: [0, 0.5]}}
  optimizer: {name: adam, lr: {log_uniform: [1.0e-4, 1.0e-2]}}
  precision: float32
search: {sampler: random, trials: 8}
pruning: {name: none}
resources: {max_concurrent: 1}
"""
LOOK = 0.05  # seconds between looks at the processor time


def medtune(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "medtune", *map(str, arguments)]


def sweep(out: Path, way: str, proxy: Any, trials: int, away: float = 0.0) -> tuple[SweepFolder, float, float]:
    """Runs it until its trials have ended. The seconds of its epochs, and its processor seconds without the mirror."""
    _switch(proxy, "good" if away else WAYS[way])
    (out / "sweep.yaml").write_text(FILE)
    sets = [f"tracking.uri={proxy.url}", f"search.trials={trials}"]
    command = medtune("sweep", out / "sweep.yaml", "--folder", out / "sweep", *[w for s in sets for w in ("--set", s)])
    with (out / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    used, back_at, left_to_sync = 0.0, None, False
    while process.poll() is None:
        used = max(used, _processor_seconds(process.pid))
        ended = len(list(out.glob("sweep/trials/*/validation.npz")))
        if away and ended and back_at is None:
            _switch(proxy, "down")
            back_at = time.monotonic() + away
        if back_at is not None and time.monotonic() > back_at:
            _switch(proxy, "good")
        if not left_to_sync and not away and "waiting until" in (out / "log").read_text():
            left_to_sync = True
            process.send_signal(signal.SIGINT)  # the rest is for `tracking sync`
        time.sleep(LOOK)
    assert process.returncode == 0, (out / "log").read_text()
    folder = SweepFolder.open(out / "sweep")
    return folder, sum(one["epoch_seconds"] for n in range(trials) for one in folder.epochs(n)), used


def _switch(proxy: Any, mode: Any) -> None:
    proxy.mode = mode if mode != "down" else "good"
    if mode == "down":
        proxy.close()
    else:
        proxy.open()


def _processor_seconds(pid: int) -> float:
    """Of a process and all below it, without its mirror."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if "medtune.tracking.mirror" not in one.cmdline():
                    times = one.cpu_times()
                    total += times.user + times.system
    return total


def check(server: str, folder: SweepFolder, trials: int) -> str:
    """What stands on the server, or what is wrong with it."""
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("medtune").experiment_id
    runs = client.search_runs([experiment], f"tags.`medtune.sweep_id` = '{folder.sweep_id}'", max_results=10_000)
    keys = sorted(run.data.tags["medtune.run"] for run in runs)
    assert keys == ["sweep", *(f"trial-{number:04d}" for number in range(trials))], keys
    assert {run.info.status for run in runs} == {"FINISHED"}
    points = 0
    for run in runs:
        if run.data.tags["medtune.run"] != SWEEP:
            records = folder.epochs(int(run.data.tags["medtune.trial"]))
            for name in records[0].keys() - {"epoch", "at"}:
                there = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
                assert there == [(record["epoch"], record[name]) for record in records], (run.info.run_id, name)
                points += len(there)
    return f"{len(runs)} runs, {points} points, each once and in order"


def sync(folder: SweepFolder) -> float:
    started = time.monotonic()
    subprocess.run(medtune("tracking", "sync", folder.path), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def in_pairs(proxy: Any, server: str, trials: int, pairs: int) -> None:
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(pairs):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as out:
                folder, epochs, used = sweep(Path(out), way, proxy, trials)
                _switch(proxy, "good")
                said = f"sync {sync(folder):5.1f} s: {check(server, folder, trials)}"
            seconds[way].append((epochs, used))
            print(f"{way:<12} epochs {epochs:6.2f} s, processor {used:6.2f} s, {said}", flush=True)
    print("\nto the good server   epochs  processor")
    for way, each in seconds.items():
        ratios = [median(one[i] / good[i] for one, good in zip(each, seconds["good"], strict=True)) for i in (0, 1)]
        print(f"{way:<20} {ratios[0]:7.3f} {ratios[1]:10.3f}")


def long_outage(proxy: Any, server: str, away: float, trials: int) -> None:
    with tempfile.TemporaryDirectory() as out:
        folder, epochs, _ = sweep(Path(out), "down", proxy, trials, away)
        print(f"away for {away:.0f} s: epochs {epochs:.1f} s; {check(server, folder, trials)}", flush=True)


def long_spool(proxy: Any, lines: int) -> None:
    """Trials of 100 epochs with 8 metrics each, without files."""
    _switch(proxy, "good")
    with tempfile.TemporaryDirectory() as out:
        (Path(out) / "sweep.yaml").write_text(FILE)
        from medtune.config.read import read_sweep

        config = read_sweep(Path(out) / "sweep.yaml", [f"tracking.uri={proxy.url}"])
        folder = SweepFolder.create(Path(out) / "sweep", config)
        folder.unlock()
        spool, written = Spool(folder.tracking / "spool.jsonl"), 1
        spool.start(SWEEP, {})
        while written < lines:
            run = f"trial-{written // 102:04d}"
            spool.start(run, {"trial": written // 102}, {"optimizer.lr": 0.1}, SWEEP)
            for epoch in range(1, 101):
                spool.metrics(run, epoch, float(written + epoch), {f"val/m{index}": epoch / 7 for index in range(8)})
            spool.end(run, "FINISHED", {"state": "complete"})
            written += 102
        started = time.monotonic()
        Spool(spool.path)
        opened = time.monotonic() - started
        print(
            f"{written} lines: opened by a driver in {opened:.1f} s, carried over in {sync(folder):.0f} s", flush=True
        )


@contextlib.contextmanager
def servers() -> Iterator[tuple[str, Any]]:
    with tempfile.TemporaryDirectory() as where, faulty_server.mlflow_server(Path(where) / "mlflow") as server:
        proxy = faulty_server.Proxy(server)
        try:
            yield server, proxy
        finally:
            proxy.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2, help="0: none")
    parser.add_argument("--away", type=float, default=0.0)
    parser.add_argument("--lines", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with servers() as (server, proxy):
        if options.pairs:
            in_pairs(proxy, server, options.trials, options.pairs)
        if options.away:
            long_outage(proxy, server, options.away, options.trials)
        if options.lines:
            long_spool(proxy, options.lines)


if __name__ == "__main__":
    main()
