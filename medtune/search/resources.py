"""How many trials run at once, and on what."""

import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from medtune.config.sweep import Resources, SweepConfig
from medtune.search.machines import Machine
from medtune.training.device import Precision

PACKED = 4  # trials of small images that share a GPU where that was not measured
SMALL_IMAGE = 64  # pixels a side


class ResourceError(Exception):
    """The machine has less than the sweep asks for; the text says what."""


@dataclass(frozen=True)
class Share:
    """What each trial gets. device: cuda, mps or cpu. gpus: of a GPU, or several. concurrent: trials at once on the
    machines that there were at first. by_kind: gpus where it depends on their kind; empty where it does not. at_most:
    trials at once, on whatever machines. precision: what `auto` means; None: what it means on this machine."""

    device: str
    cpus: int
    gpus: float
    concurrent: int
    by_kind: Mapping[str, float] = field(default_factory=dict)
    at_most: int | None = None
    precision: Precision | None = None

    def places(self, machines: Sequence[Machine]) -> dict[str, int]:
        """How many trials these machines have room for, by the kind of their GPUs where that matters."""
        found: Counter[str] = Counter()
        for machine in machines:
            by_cpu = machine.cpus // self.cpus
            fraction = self.by_kind.get(machine.kind, self.gpus)
            by_gpu = _places(fraction, machine.gpus) if self.device == "cuda" else by_cpu
            found[machine.kind if self.by_kind else ""] += min(by_cpu, by_gpu)
        return {kind: places for kind, places in found.items() if places}


def plan_shares(
    wanted: Resources, machines: Sequence[Machine], size: int, packed: Mapping[str, int] | None = None
) -> Share:
    """What each trial gets. size: of the images, in pixels a side. packed: trials on a GPU of each kind, where it was
    measured how many it has the memory and the time for.

    Raises ResourceError where not one trial can run.
    """
    cpus, gpus = (max(getattr(machine, what) for machine in machines) for what in ("cpus", "gpus"))
    there = "there are" if len(machines) == 1 else "no machine has more than"
    if wanted.cpus_per_trial > cpus:
        raise ResourceError(
            f"resources.cpus_per_trial is {wanted.cpus_per_trial}, but {there} {cpus} CPUs; set it to {cpus} or less"
        )
    fractions = {
        machine.kind: _gpu_fraction(wanted, machine, size, packed or {}) for machine in machines if machine.gpus
    }
    smallest = min(fractions.values(), default=0.0 if wanted.gpus_per_trial == "auto" else wanted.gpus_per_trial)
    if smallest > gpus:
        raise ResourceError(f"resources.gpus_per_trial is {smallest:g}, but {there} {gpus} GPUs; set it to auto")
    device = "cuda" if smallest else ("mps" if has_mps() else "cpu")
    share = Share(
        device,
        wanted.cpus_per_trial,
        smallest,
        concurrent=1,
        by_kind=fractions if len(set(fractions.values())) > 1 else {},
        at_most=1 if device == "mps" else None if wanted.max_concurrent == "auto" else wanted.max_concurrent,
    )
    places = max(1, sum(share.places(machines).values()))
    return replace(share, concurrent=places if share.at_most is None else min(places, share.at_most))


def this_machine() -> Machine:
    """As Ray would describe it, without starting Ray."""
    from medtune.training.device import detect_device

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = 0
    if detect_device() == "cuda":
        import torch

        gpus = torch.cuda.device_count()
    return Machine("", platform.node(), cpus, gpus)


def share_of_this_machine(config: SweepConfig) -> Share:
    """What a trial will get here, without starting Ray; of a cluster it tells nothing."""
    return plan_shares(config.resources, [this_machine()], config.data.side)


def has_mps() -> bool:
    """Whether this is a Mac with a GPU that torch can use."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _gpu_fraction(wanted: Resources, machine: Machine, size: int, packed: Mapping[str, int]) -> float:
    if wanted.gpus_per_trial != "auto":
        return wanted.gpus_per_trial
    many = packed.get(machine.kind, PACKED if size <= SMALL_IMAGE else 1)
    return 1 / max(1, min(many, machine.cpus // (machine.gpus * wanted.cpus_per_trial)))


def _places(fraction: float, gpus: int) -> int:
    return gpus * math.floor(1 / fraction + 1e-9) if fraction <= 1 else math.floor(gpus / fraction)
