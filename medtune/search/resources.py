"""How many trials run at once, and on what."""

import math
import os
import platform
import sys
from dataclasses import dataclass

from medtune.config.sweep import Resources, SweepConfig

PACKED = 4  # trials of small images that share a GPU: more gain nothing, each waits for the others' kernels
SMALL_IMAGE = 64  # pixels a side


class ResourceError(Exception):
    """The machine has less than the sweep asks for; the text says what."""


@dataclass(frozen=True)
class Share:
    """What each trial gets. `device`: cuda, mps or cpu."""

    device: str
    cpus: int
    gpus: float
    concurrent: int


def plan_shares(wanted: Resources, cpus: int, gpus: int, size: int) -> Share:
    """What each trial gets of a machine or cluster. size: of the images, in pixels a side.

    Raises ResourceError where not one trial can run.
    """
    if wanted.cpus_per_trial > cpus:
        raise ResourceError(
            f"resources.cpus_per_trial is {wanted.cpus_per_trial}, but there are {cpus} CPUs; set it to {cpus} or less"
        )
    fraction = _gpu_fraction(wanted, cpus, gpus, size)
    if fraction > gpus:
        raise ResourceError(f"resources.gpus_per_trial is {fraction:g}, but there are {gpus} GPUs; set it to auto")
    by_cpu = cpus // wanted.cpus_per_trial
    by_gpu = _places(fraction, gpus) if fraction else by_cpu
    device = "cuda" if fraction else ("mps" if has_mps() else "cpu")
    most = 1 if device == "mps" else max(1, min(by_cpu, by_gpu))
    concurrent = most if wanted.max_concurrent == "auto" else min(wanted.max_concurrent, most)
    return Share(device, wanted.cpus_per_trial, fraction, concurrent)


def share_of_this_machine(config: SweepConfig) -> Share:
    """What a trial will get here, without starting Ray; of a cluster it tells nothing."""
    from medtune.training.device import detect_device

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = 0
    if detect_device() == "cuda":
        import torch

        gpus = torch.cuda.device_count()
    return plan_shares(config.resources, cpus, gpus, config.data.side)


def has_mps() -> bool:
    """Whether this is a Mac with a GPU that torch can use."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _gpu_fraction(wanted: Resources, cpus: int, gpus: int, size: int) -> float:
    if wanted.gpus_per_trial != "auto":
        return wanted.gpus_per_trial
    if not gpus:
        return 0.0
    packed = PACKED if size <= SMALL_IMAGE else 1
    return 1 / max(1, min(packed, cpus // (gpus * wanted.cpus_per_trial)))


def _places(fraction: float, gpus: int) -> int:
    return gpus * math.floor(1 / fraction + 1e-9) if fraction <= 1 else math.floor(gpus / fraction)
