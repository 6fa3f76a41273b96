"""The validation logits of a trial: of every epoch while they are small, of the best one otherwise."""

from collections.abc import Mapping

import numpy as np

LIMIT = 2_000_000  # bytes a trial


class Predictions:
    """`logits[epoch]`: float32 (cases, classes). `labels`: int64 (cases,) or (cases, labels), the same for all."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.logits: dict[int, np.ndarray] = {}
        self.labels = np.zeros(0, np.int64)

    def add(self, epoch: int, logits: np.ndarray, labels: np.ndarray, best_epoch: int) -> None:
        """Takes an epoch's logits in; once over the limit, only the best epoch's stay."""
        self.logits[epoch], self.labels = logits, labels
        dropped_before = len(self.logits) < epoch
        if dropped_before or sum(array.nbytes for array in self.logits.values()) > self.limit:
            self.logits = {best_epoch: self.logits[best_epoch]}

    def arrays(self) -> dict[str, np.ndarray]:
        """`epochs`: int64 (epochs,); `logits`: float32 (epochs, cases, classes); `labels`; `cases`: int64 (cases,),
        their places in the validation split, or in train as it was searched on and then validation, where
        both were cross-validated."""
        kept = list(self.logits.values())
        logits = np.stack(kept) if kept else np.zeros((0, 0, 0), np.float32)
        cases = np.arange(len(self.labels), dtype=np.int64)
        return {
            "epochs": np.array(list(self.logits), np.int64),
            "logits": logits,
            "labels": self.labels,
            "cases": cases,
        }

    def restore(self, epochs: np.ndarray, logits: np.ndarray, labels: np.ndarray, cases: np.ndarray) -> None:
        self.logits = dict(zip((int(epoch) for epoch in epochs), logits, strict=True))
        self.labels = labels


def logits_of_epoch(predictions: Mapping[str, np.ndarray], epoch: int) -> np.ndarray:
    """float32 logits (cases, classes) of one epoch of a `validation.npz`. Raises KeyError where it was not kept."""
    index = np.flatnonzero(predictions["epochs"] == epoch)
    if not len(index):
        raise KeyError(f"epoch {epoch} is not among those kept: {predictions['epochs'].tolist()}")
    return predictions["logits"][index[0]]
