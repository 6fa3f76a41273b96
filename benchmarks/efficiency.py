"""How much of a sweep is arithmetic: seconds of bare training for its epochs / (wall seconds x cores).

    uv run python benchmarks/efficiency.py --model resnet18 --trials 6 --epochs 6 --data ../shared/data

The bare training is forward, backward and step on tensors in memory, with the same network, batch size and precision,
alone on one core, and the evaluation of the validation split. Checkpoints, tracking and start-up are the sweep's own.
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

import torch
import torch.nn.functional as F

from medtune.config.sweep import Data
from medtune.config.trial import ModelConfig, TrialConfig
from medtune.data.batches import to_device
from medtune.data.splits import load_search_splits
from medtune.models.build import build_model
from medtune.training.device import resolve_precision

SWEEP = """
sweep: efficiency
data: {dataset: breastmnist}
trial:
  epochs: %d
  batch_size: %d
  model: {name: %s, dropout: {uniform: [0, 0.5]}}
  optimizer: {name: adam, lr: {log_uniform: [1.0e-4, 1.0e-2]}}
  schedule: {name: constant}
pruning: {name: none}
"""


def floor(options: argparse.Namespace) -> float:
    """Median seconds of a bare epoch, on one thread."""
    torch.set_num_threads(1)
    train, val = load_search_splits(Data(dataset="breastmnist", root=options.data))
    images, labels = to_device(train, "cpu").batch(slice(None))
    inputs, _ = to_device(val, "cpu").batch(slice(None))
    generator = torch.Generator().manual_seed(0)
    model = build_model(ModelConfig(name=options.model, dropout=0.25), 1, 2, 28, generator)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    bfloat16 = resolve_precision(TrialConfig().precision, "cpu") == "bfloat16"
    seconds = []
    for _ in range(options.floor_epochs + 1):  # the first warms up
        started = time.perf_counter()
        model.train()
        for cases in torch.randperm(len(images), generator=generator).split(options.batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(images[cases])
            loss = F.cross_entropy(logits, labels[cases])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            model(inputs)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def sweep(options: argparse.Namespace) -> tuple[float, list[float], float]:
    """Wall seconds, the seconds that each epoch took in its worker, and the seconds before the first one began."""
    with tempfile.TemporaryDirectory() as out:
        file, folder = Path(out, "sweep.yaml"), Path(out, "runs", "efficiency")
        file.write_text(SWEEP % (options.epochs, options.batch, options.model))
        command = [sys.executable, "-m", "medtune", "sweep", str(file), "--folder", str(folder)]
        command += ["--set", f"data.root={options.data}", "--set", f"search.trials={options.trials}"]
        began, started = time.time(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        lines = [json.loads(line) for path in folder.glob("trials/*/epochs.jsonl") for line in path.open()]
        first = min(line["at"] - line["epoch_seconds"] for line in lines) - began
        return wall, [line["epoch_seconds"] for line in lines], first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smallcnn")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--floor-epochs", type=int, default=10)
    parser.add_argument("--data", required=True)
    options = parser.parse_args()
    options.data = str(Path(options.data).absolute())
    cores = len(os.sched_getaffinity(0))
    before = floor(options)
    wall, epochs, start_up = sweep(options)
    after = floor(options)
    bare = (before + after) / 2  # before and after, because the speed of shared machines drifts
    print(f"{options.model}: {len(epochs)} epochs in {wall:.1f} s on {cores} cores")
    print(f"bare epoch        {bare:.4f} s alone on a core ({before:.4f} before the sweep, {after:.4f} after)")
    print(f"efficiency        {bare * len(epochs) / (wall * cores):.3f}")
    rest = {
        "start-up": start_up * cores,
        "in epochs beyond bare": sum(epochs) - bare * len(epochs),
        "between epochs, and the end": (wall - start_up) * cores - sum(epochs),
    }
    for name, seconds in rest.items():
        print(f"{name:<28} {seconds:8.1f} core-s, {seconds / (wall * cores):6.1%}")


if __name__ == "__main__":
    main()
