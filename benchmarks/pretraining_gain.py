"""What pretraining without labels adds to a linear probe: pretrained against random encoders, at few labels and at all.

    OMP_NUM_THREADS=1 uv run python benchmarks/pretraining_gain.py --dataset phantom-texture
    OMP_NUM_THREADS=1 uv run python benchmarks/pretraining_gain.py --dataset breastmnist --root DIR --method vicreg

A seed draws an encoder, the order and the views of its pretraining on train, and the cases whose labels are known. The
same probe, on the same labels, is asked of that encoder before its pretraining (random) and after. The AUROC is that of
the validation split, on which the probe also chooses its strength, for both.

A pretrained encoder's batch norms know the data, those of a fresh one expect mean 0 and variance 1. `--measured-norms`
lets the random encoder measure them on train first, so that what is left of the difference is in the weights.

The interval is of the mean difference over seeds, for other cases and other seeds: in each resample the validation
cases are drawn anew with replacement within their classes, and the seeds with replacement; on those cases the drawn
seeds are scored with either encoder, and the mean of their differences is taken. So a difference never compares
different cases, labels or seeds. The limits are percentiles of these means. Five seeds are few to draw from: the spread
between seeds is somewhat underrated (by a tenth of its standard deviation).
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from medtune.config.pretrain import Method, MoCo, PretrainConfig, SimCLR, VICReg
from medtune.config.sweep import MEDMNIST, PHANTOMS, Data
from medtune.config.trial import EncoderConfig, ModelConfig, TrialConfig
from medtune.data.batches import DeviceSplit, to_device
from medtune.data.catalogue import describe
from medtune.data.labelled import labelled_subset
from medtune.data.phantoms import best_auroc
from medtune.data.splits import load_search_splits
from medtune.evaluation.metrics import auroc, probabilities
from medtune.evaluation.resampling import Resamples, problems, strata_of
from medtune.models.classifier import Encoder
from medtune.pretraining.loop import Pretraining
from medtune.pretraining.probe import Probe
from medtune.task import Task
from medtune.training.device import resolve_precision

METHODS: dict[str, Method] = {"simclr": SimCLR(), "moco": MoCo(), "vicreg": VICReg()}
PRECISION = resolve_precision("auto", "cpu")
Scores = NDArray[np.float64]  # probabilities (cases, classes)


def probe(
    weights: dict[str, Tensor], model: str, known: DeviceSplit, val: DeviceSplit, task: Task, classes: int
) -> Scores:
    """What a probe on an encoder's features says of the validation cases."""
    config = TrialConfig(model=ModelConfig(name=model, finetune="probe"))
    probing = Probe(config, task, classes, known, 0, PRECISION)
    probing.model.load_state_dict({**probing.model.state_dict(), **weights})
    probing.run_epoch(val)
    return probabilities(probing.predictions.logits[1], task)


def with_measured_norms(encoder: Encoder, train: DeviceSplit) -> Encoder:
    """A copy whose batch norms hold the means over train's batches."""
    measured = deepcopy(encoder).train()
    for part in measured.modules():
        if isinstance(part, _BatchNorm):
            part.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for cases in torch.arange(len(train)).split(500):
            measured(train.batch(cases)[0])
    return measured


def one_seed(
    data: Data, config: PretrainConfig, fractions: Sequence[float], measured_norms: bool, seed: int
) -> list[tuple[Scores, Scores]]:
    """Of each fraction, what the probe says on the random encoder and on the pretrained one."""
    torch.set_num_threads(1)
    info = describe(data)
    task, classes = info.task, len(info.classes)
    train, val = (to_device(split, "cpu") for split in load_search_splits(data))
    pretraining = Pretraining(config, task, classes, train, train, seed, PRECISION)
    encoder = pretraining.encoder
    random = (with_measured_norms(encoder, train) if measured_norms else deepcopy(encoder)).state_dict()
    for _ in range(config.epochs):
        pretraining.run_epoch(None)
    pretrained = encoder.state_dict()
    said = []
    for fraction in fractions:
        known = train.part(torch.from_numpy(labelled_subset(train.labels.long().numpy(), fraction, seed)))
        before, after = (
            probe(weights, config.model.name, known, val, task, classes) for weights in (random, pretrained)
        )
        said.append((before, after))
    return said


def interval_of_gain(
    random: Sequence[Scores], pretrained: Sequence[Scores], labels: NDArray[np.int64], task: Task, resamples: int
) -> tuple[float, float]:
    """Of the mean difference over seeds, 95 %: cases and seeds are resampled together."""
    generator = np.random.default_rng(0)
    drawn = Resamples.draw(strata_of(labels, random[0].shape[1], task), resamples, generator)
    before, after = (drawn.in_bag_auroc(*problems(models, labels, task)) for models in (random, pretrained))
    seeds = generator.multinomial(len(random), np.full(len(random), 1 / len(random)), size=resamples)
    gains = ((after - before) * seeds).sum(axis=1) / len(random)
    low, high = np.nanquantile(gains, [0.025, 0.975])
    return float(low), float(high)


def report(data: Data, config: PretrainConfig, options: argparse.Namespace) -> None:
    info = describe(data)
    labels = load_search_splits(data)[1].labels
    started = time.perf_counter()
    one = partial(one_seed, data, config, options.fractions, options.measured_norms)
    with ProcessPoolExecutor(options.processes) as pool:
        seeds = list(pool.map(one, range(options.seeds)))
    print(f"{info.flag} at {data.side} px, {config.model.name}, {config.method.name}: {options.seeds} seeds, ", end="")
    print(f"{config.epochs} epochs, batch {config.batch_size}, {len(labels)} validation cases", end="")
    print(", measured norms" if options.measured_norms else "", end="")
    print(f"; best AUROC {best_auroc(info.phantom, data.difficulty):.3f}" if info.made else "")
    print(f"{(time.perf_counter() - started) / options.seeds:.0f} s a seed\n")
    print("| labels | random | pretrained | difference | 95 % | by seed |\n" + "|---" * 6 + "|")
    for fraction, pairs in zip(options.fractions, zip(*seeds, strict=True), strict=True):
        random, pretrained = zip(*pairs, strict=True)
        before, after = (
            np.array([auroc(scores, labels, info.task) for scores in models]) for models in (random, pretrained)
        )
        low, high = interval_of_gain(random, pretrained, labels, info.task, options.resamples)
        each = ", ".join(f"{gain:+.3f}" for gain in after - before)
        print(f"| {100 * fraction:g} % | {before.mean():.3f} | {after.mean():.3f} ", end="")
        print(f"| {(after - before).mean():+.3f} | {low:+.3f} to {high:+.3f} | {each} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="phantom-texture", choices=[*MEDMNIST, *PHANTOMS])
    parser.add_argument("--root", help="where the .npz files are")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--difficulty", type=float, default=0.5, help="of a phantom")
    parser.add_argument("--method", choices=METHODS, default="simclr")
    parser.add_argument("--model", default="smallcnn")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.01, 0.05, 0.1, 1.0])
    parser.add_argument("--measured-norms", action="store_true", help="of the random encoder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    data = Data(dataset=options.dataset, root=options.root, size=options.size, difficulty=options.difficulty)
    config = PretrainConfig(
        epochs=options.epochs,
        batch_size=options.batch,
        model=EncoderConfig(name=options.model),
        method=METHODS[options.method],
    )
    report(data, config, options)


if __name__ == "__main__":
    main()
