"""How many trials share a GPU: measured on it, on the first batches of some trials of the space."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medtune.config.sweep import SweepConfig
from medtune.data.splits import Split
from medtune.search.machines import Machine
from medtune.search.worker import SearchData

BATCHES = 6  # of each trial that is measured
CONTEXT = 600e6  # bytes that a process has on a GPU before its first tensor: CUDA's context and cuDNN's libraries
RESERVE = 0.1  # of the memory, for what comes and goes
CASES = 2048  # that are measured on, at most: the batches of a trial look alike


@dataclass(frozen=True)
class Footprint:
    """What a trial takes of a GPU. memory: bytes, the most of all that were measured. busy: the share of the time in
    which its kernels run, the mean. free: bytes of the GPU that nobody else uses."""

    memory: float
    busy: float
    free: float


def pack(footprint: Footprint) -> int:
    """As many trials as there is memory for, and no more than keep the GPU busy: one more would only make all of them
    slower. At least one."""
    by_memory = footprint.free * (1 - RESERVE) / footprint.memory
    by_time = math.ceil(1 / footprint.busy) if footprint.busy > 0 else math.inf
    return max(1, math.floor(min(by_memory, by_time)))


def measure_packing(config: SweepConfig, machines: Sequence[Machine], data: SearchData) -> dict[str, int]:
    """Trials on a GPU of each kind that there is; without those that could not be measured, which a line says."""
    from medtune.search.cluster import with_a_gpu

    part, packed = _part(data, config), {}
    for kind in sorted({machine.kind for machine in machines if machine.gpus}):
        try:
            found = with_a_gpu(kind, footprint, config, part)
            packed[kind] = pack(found)
            takes = f"{found.memory / 1e9:.1f} of {found.free / 1e9:.0f} GB and {100 * found.busy:.0f} % of the time"
            words = f"{takes} of {kind or 'the GPU'}: up to {packed[kind]} at once"
            print(f"packing  a trial takes {words}", file=sys.stderr)
        except Exception as error:  # a measurement is no reason to fail
            why = (str(error).strip().splitlines() or [""])[-1][:200]
            print(f"packing  {kind or 'the GPU'} was not measured ({type(error).__name__}: {why})", file=sys.stderr)
    return packed


def _part(data: SearchData, config: SweepConfig) -> SearchData:
    """Cases enough for the batches that are measured; each of them more than once where there are too few."""
    from medtune.search.cost import points_to_time

    largest = max(trial.batch_size for trial in points_to_time(config))
    there = len(data.train.labels)
    cases = np.arange(min(max(CASES, 2 * largest), there))
    split = Split(data.train.images[cases], data.train.labels[cases])
    return replace(data, key=f"{data.key} measured", train=split, val=Split(split.images[:1], split.labels[:1]))


def footprint(config: SweepConfig, data: SearchData) -> Footprint:
    """Of the default and some random points, on the GPU that this process has for itself."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from medtune.search.cost import points_to_time, training_to_time
    from medtune.training.device import use_threads

    use_threads(config.resources.cpus_per_trial)
    splits = data.on_device("cuda")
    free, memory, busy = torch.cuda.mem_get_info()[0] + CONTEXT, 0.0, []
    for trial in points_to_time(config):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        training = training_to_time(trial, config, splits)
        training.time_batches(1)  # kernels are chosen and loaded in the first ones
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            seconds, _ = training.time_batches(BATCHES)
        on_gpu = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6
        busy.append(min(1.0, on_gpu / seconds))
        memory = max(memory, torch.cuda.max_memory_reserved())
        del training
    return Footprint(memory + CONTEXT, float(np.mean(busy)), free)
