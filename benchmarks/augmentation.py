"""What augmentation costs of a training step: steps with and without it in turn, and each part by itself.

    uv run python benchmarks/augmentation.py --model resnet18

A step is all of it: gather, augment, mix, forward, loss, backward and optimizer, on one thread of the CPU, on images
like BreastMNIST's. Every option is on, RandAugment, MixUp and CutMix among them. At most 15 % of a step is the limit.
Seconds are those of the processor, so that what else runs on the machine counts for little.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medtune.config.trial import Augment, ModelConfig, RandAugment, TrivialAugment
from medtune.data.augment import Augmenter
from medtune.data.batches import DeviceSplit
from medtune.data.mixing import mix
from medtune.models.build import build_model
from medtune.training.device import NATIVE_BFLOAT16, cpu_flags

GEOMETRIC: dict[str, Any] = {"flip": True, "flip_vertical": True, "rotate_degrees": 20, "shift": 0.1, "crop": 0.2}
PARTS: dict[str, dict[str, Any]] = {
    "flips alone": {"flip": True, "flip_vertical": True},
    "flips, rotation, shift, crop": GEOMETRIC,
    "brightness": {"brightness": 0.3},
    "contrast": {"contrast": 0.3},
    "saturation": {"saturation": 0.3},
    "noise": {"noise": 0.05},
    "RandAugment, 2 operations": {"policy": RandAugment(ops=2)},
    "TrivialAugment": {"policy": TrivialAugment()},
    "erase": {"erase": 0.5},
    "MixUp": {"mixup": 0.2},
    "CutMix": {"cutmix": 1.0},
    "MixUp or CutMix": {"mixup": 0.2, "cutmix": 1.0},
}
EVERYTHING = Augment(
    **GEOMETRIC, brightness=0.3, contrast=0.3, saturation=0.3, noise=0.05, erase=0.5, mixup=0.2, cutmix=1.0,
    policy=RandAugment(ops=2),
)  # fmt: skip
NOTHING = Augment()
CLASSES = 2


class Steps:
    """A model in training on random images."""

    def __init__(self, options: argparse.Namespace, bfloat16: bool) -> None:
        self.generator = torch.Generator().manual_seed(0)
        shape = (4 * options.batch, options.size, options.size, options.channels)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=self.generator)
        self.split = DeviceSplit(images, torch.randint(CLASSES, (len(images),), generator=self.generator))
        self.batch = options.batch
        model = build_model(ModelConfig(name=options.model), options.channels, CLASSES, options.size, self.generator)
        self.model = model.to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)

    def gather(self) -> tuple[Tensor, Tensor]:
        cases = torch.randperm(len(self.split), generator=self.generator)[: self.batch]
        images, labels = self.split.batch(cases)
        return images, F.one_hot(labels, CLASSES).float()

    def augment(self, config: Augment, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        images = Augmenter(config, self.generator)(images)
        return mix(config, images, targets, self.generator)

    def step(self, config: Augment) -> None:
        images, targets = self.augment(config, *self.gather())
        with self.autocast:
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def time_steps(steps: Steps, count: int) -> dict[Augment, float]:
    """Median seconds of a step, with everything and with nothing, in turn."""
    took: dict[Augment, list[float]] = {NOTHING: [], EVERYTHING: []}
    for _ in range(count + 1):  # the first warms up
        for config, those in took.items():
            those.append(seconds(lambda config=config: steps.step(config)))
    return {config: statistics.median(those[1:]) for config, those in took.items()}


def time_part(steps: Steps, config: Augment, repeats: int) -> float:
    """Median seconds that a batch takes longer by an augmentation."""
    images, targets = steps.gather()
    took: dict[Augment, list[float]] = {NOTHING: [], config: []}
    for _ in range(repeats):
        for one, those in took.items():
            batch = images.clone()
            those.append(seconds(lambda one=one, batch=batch: steps.augment(one, batch, targets)))
    return statistics.median(took[config]) - statistics.median(took[NOTHING])


def report(options: argparse.Namespace, precision: str) -> None:
    steps = Steps(options, precision == "bfloat16")
    step = time_steps(steps, options.steps)
    print(f"{options.model}, {precision}: batch {options.batch}, {options.size} px, {options.channels} channels")
    print(f"a step {step[NOTHING] * 1e3:.0f} ms, with augmentation {step[EVERYTHING] * 1e3:.0f} ms: ", end="")
    print(f"{step[EVERYTHING] / step[NOTHING]:.3f} x")
    for name, config in {"everything": EVERYTHING, **{part: Augment(**on) for part, on in PARTS.items()}}.items():
        took = time_part(steps, config, options.repeats)
        print(f"{name:<30} {took * 1e6:8.0f} us {took / step[NOTHING]:7.2%} of a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=50, help="of each part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for precision in ["float32", *(["bfloat16"] if cpu_flags() & NATIVE_BFLOAT16 else [])]:
        report(options, precision)


if __name__ == "__main__":
    main()
