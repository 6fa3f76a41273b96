"""Images a second of SimCLR against lightly's loop as its documentation has it, in turn on the same machine.

    uv run --with lightly python benchmarks/pretraining_speed.py --root DIR

Both train smallcnn with a projector of the same widths, the same batch and AdamW, on the same images: BreastMNIST's of
the folder, or phantoms without one. lightly's transform is the one for SimCLR as a user would set it for small grey
images; it does without the rotation that medtune's views have. Its loader has a worker a core, which begin anew with
every epoch, as in its documentation, or stay, as somebody would have them who knows. An image counts once, not by its
views.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from medtune.config.pretrain import PretrainConfig, Projector, SimCLR
from medtune.config.sweep import Data
from medtune.config.trial import AdamW, EncoderConfig
from medtune.data import Split
from medtune.data.batches import to_device
from medtune.data.splits import load_search_splits
from medtune.models.build import build_encoder
from medtune.pretraining.loop import Pretraining
from medtune.training.device import resolve_precision

MODEL = EncoderConfig(name="smallcnn")
PROJECTOR = Projector()
TEMPERATURE = 0.2
LR = 1e-3

Epoch = Callable[[], int]  # trains one, and says of how many images


class Pictures(Dataset[tuple[list[Tensor], int]]):
    """What torchvision's data sets give: a picture through its transform, and its label."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.images, self.labels, self.transform = split.images, split.labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Projected(nn.Module):
    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).flatten(start_dim=1))


def medtune(train: Split, batch: int, precision: str) -> Epoch:
    config = PretrainConfig(
        epochs=10**6, batch_size=batch, model=MODEL, method=SimCLR(temperature=TEMPERATURE), projector=PROJECTOR,
        optimizer=AdamW(lr=LR),
    )  # fmt: skip
    images = to_device(train, "cpu")
    pretraining = Pretraining(config, "binary", 2, images, images, seed=0, precision=precision)

    def epoch() -> int:
        pretraining.run_epoch(None)
        return len(images)

    return epoch


def lightly(train: Split, batch: int, workers: int, kept: bool) -> Epoch:
    from lightly.loss import NTXentLoss  # type: ignore[import-not-found]
    from lightly.models.modules import SimCLRProjectionHead  # type: ignore[import-not-found]
    from lightly.transforms import SimCLRTransform  # type: ignore[import-not-found]

    size = train.images.shape[1]
    transform = SimCLRTransform(input_size=size, cj_strength=0.5, normalize={"mean": [0.5], "std": [0.5]})
    loader = DataLoader(
        Pictures(train, transform), batch_size=batch, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=kept,
    )  # fmt: skip
    encoder = build_encoder(MODEL, 1, size, torch.Generator().manual_seed(0))
    head = SimCLRProjectionHead(encoder.width, PROJECTOR.hidden, PROJECTOR.features)
    model = Projected(encoder.backbone, head)
    criterion = NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)

    def epoch() -> int:
        total = 0.0
        for (first, second), _ in loader:
            loss = criterion(model(first), model(second))
            total += loss.detach()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return len(loader) * batch

    return epoch


def images_a_second(epoch: Epoch, epochs: int) -> float:
    started = time.perf_counter()
    images = sum(epoch() for _ in range(epochs))
    return images / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with breastmnist.npz; phantoms without one")
    parser.add_argument("--copies", type=int, default=1, help="of the images: in a larger set workers begin less often")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5, help="of each in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads, and workers of the loader")
    options = parser.parse_args()
    torch.set_num_threads(options.cores)
    data = Data(dataset="breastmnist", root=options.root) if options.root else Data(dataset="phantom-binary")
    train, _ = load_search_splits(data)
    train = Split(np.tile(train.images, (options.copies, 1, 1)), np.tile(train.labels, options.copies))
    precision = resolve_precision("auto", "cpu")
    own = {f"medtune, {kind}": medtune(train, options.batch, kind) for kind in dict.fromkeys([precision, "float32"])}
    peers = {
        "lightly": lightly(train, options.batch, options.cores, kept=False),
        "lightly, workers kept": lightly(train, options.batch, options.cores, kept=True),
    }
    print(f"{data.dataset}: {len(train.images)} images, batch {options.batch}, {options.cores} cores")
    speeds: dict[str, list[float]] = {name: [] for name in own | peers}
    for _ in range(options.rounds + 1):  # the first warms up
        for name, epoch in (own | peers).items():
            speeds[name].append(images_a_second(epoch, options.epochs))
    speeds = {name: those[1:] for name, those in speeds.items()}
    for name, those in speeds.items():
        print(f"{name:<22} {statistics.median(those):7.0f} images/s ({min(those):.0f} to {max(those):.0f})")
    for name in own:
        for peer in peers:
            ratios = [one / other for one, other in zip(speeds[name], speeds[peer], strict=True)]
            print(f"{name} is {statistics.median(ratios):.2f} x as fast as {peer}")


if __name__ == "__main__":
    main()
