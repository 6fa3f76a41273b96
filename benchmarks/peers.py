"""Wall seconds per epoch trained, start-up included, against what people do today, in turn on the same machine.

    uv run python benchmarks/peers.py --peers ../shared/bench --npz ../shared/data/breastmnist.npz --trials 32

The peers and medtune train the same shape of network (three 3x3 convolutions of 16, 32 and 64 channels) over the same
space, with the same number of trials and epochs and the same grace period. Each runs `--rounds` times, in turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACE = """
sweep: peers
data: {dataset: breastmnist}
trial:
  epochs: %d
  batch_size: {choice: [32, 64, 128]}
  model: {name: smallcnn, dropout: {uniform: [0, 0.5]}}
  optimizer:
    choice:
      - {name: adam, lr: {log_uniform: [1.0e-4, 1.0e-1]}, weight_decay: {log_uniform: [1.0e-6, 1.0e-2]}}
      - {name: sgd, lr: {log_uniform: [1.0e-4, 1.0e-1]}, weight_decay: {log_uniform: [1.0e-6, 1.0e-2]}, momentum: 0.9}
  schedule: {name: constant}
pruning: {name: asha, grace_epochs: 2, reduction_factor: 3}
"""
PEERS = {"ray tutorial": ["peer_raytune.py"], "ray, reused": ["peer_raytune.py", "--reuse-actors"],
         "optuna script": ["peer_optuna.py"]}  # fmt: skip


def medtune(options: argparse.Namespace, out: Path, seed: int) -> dict[str, float]:
    """One sweep, as a user runs it: the whole process is timed."""
    file = out / "sweep.yaml"
    file.write_text(SPACE % options.epochs)
    sets = [f"data.root={options.npz.parent}", f"search.trials={options.trials}", f"seed={seed}"]
    command = [sys.executable, "-m", "medtune", "sweep", str(file), "--folder", str(out / "runs" / "peers")]
    command += [word for value in sets for word in ("--set", value)]
    started = time.perf_counter()
    run(command)
    wall = time.perf_counter() - started
    epochs = sum(len(path.read_text().splitlines()) for path in (out / "runs" / "peers").glob("trials/*/epochs.jsonl"))
    return {"wall_s": wall, "epochs_trained": epochs}


def peer(words: list[str], options: argparse.Namespace, out: Path, seed: int) -> dict[str, float]:
    command = [sys.executable, str(options.peers / words[0]), *words[1:], "--npz", str(options.npz), "--out", str(out)]
    command += ["--trials", str(options.trials), "--epochs", str(options.epochs), "--seed", str(seed)]
    started = time.perf_counter()
    printed = run(command)
    return {**json.loads(printed.strip().splitlines()[-1]), "wall_s": time.perf_counter() - started}


def run(command: list[str]) -> str:
    environment = {**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--npz", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    options = parser.parse_args()
    options.peers, options.npz = options.peers.absolute(), options.npz.absolute()
    runs = {"medtune": lambda out, seed: medtune(options, out, seed)}
    for name, words in PEERS.items():
        if name not in options.without:
            runs[name] = lambda out, seed, words=words: peer(words, options, out, seed)
    costs: dict[str, list[float]] = {name: [] for name in runs}
    for seed in range(options.rounds):
        for name, measure in runs.items():
            with tempfile.TemporaryDirectory() as out:
                got = measure(Path(out), seed)
            costs[name].append(got["wall_s"] / got["epochs_trained"])
            print(
                f"{name:<14} {got['wall_s']:7.1f} s {got['epochs_trained']:5.0f} epochs {costs[name][-1]:.4f} s/epoch"
            )
    own = statistics.median(costs["medtune"])
    for name in costs:
        print(f"medtune is {statistics.median(costs[name]) / own:.2f} x as fast as {name} at {options.trials} trials")


if __name__ == "__main__":
    main()
