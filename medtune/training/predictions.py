"""The validation logits of a trial: of every epoch while they are small, of the best one otherwise."""

import numpy as np

LIMIT = 2_000_000  # bytes a trial


class Predictions:
    """`logits[epoch]`: float32 (cases, classes)."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.logits: dict[int, np.ndarray] = {}

    def add(self, epoch: int, logits: np.ndarray, best_epoch: int) -> None:
        """Takes an epoch's logits in; once over the limit, only the best epoch's stay."""
        self.logits[epoch] = logits
        dropped_before = len(self.logits) < epoch
        if dropped_before or sum(array.nbytes for array in self.logits.values()) > self.limit:
            self.logits = {best_epoch: self.logits[best_epoch]}

    def arrays(self) -> dict[str, np.ndarray]:
        """`epochs`: int64 (epochs,); `logits`: float32 (epochs, cases, classes)."""
        kept = list(self.logits.values())
        logits = np.stack(kept) if kept else np.zeros((0, 0, 0), np.float32)
        return {"epochs": np.array(list(self.logits), np.int64), "logits": logits}

    def restore(self, epochs: np.ndarray, logits: np.ndarray) -> None:
        self.logits = dict(zip((int(epoch) for epoch in epochs), logits, strict=True))
