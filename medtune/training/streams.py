"""The random streams of a trial, each with a generator of its own, so that none disturbs another."""

import numpy as np
import torch


class Streams:
    """Initial weights and data order on the CPU, augmentation and dropout where the batches are."""

    def __init__(self, seed: int, device: torch.device) -> None:
        seeds = np.random.SeedSequence(seed).generate_state(4, np.uint64)
        self.weights, self.order = (torch.Generator().manual_seed(int(s >> 1)) for s in seeds[:2])
        self.augmentation, self.dropout = (torch.Generator(device).manual_seed(int(s >> 1)) for s in seeds[2:])

    def state(self) -> dict[str, torch.Tensor]:
        """uint8 tensors by stream, for a checkpoint."""
        return {name: generator.get_state() for name, generator in vars(self).items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        for name, generator in vars(self).items():
            generator.set_state(state[name])
