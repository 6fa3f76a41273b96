"""Cross-validation as one training: a model for each fold, all of them an epoch further at a time."""

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import torch

from medtune.config.trial import METRICS, TrialConfig
from medtune.data.batches import DeviceSplit
from medtune.data.folds import stratified_folds
from medtune.training.loop import Training
from medtune.training.progress import Advance, EpochRecord, Objective, Progress, Trained
from medtune.training.seeds import fold_seed


class CrossValidation(Progress):
    """Trains on train and val together, less a fold, and validates on the fold.

    The folds are the same for every trial, so that trials can be compared. A record has the mean over the folds of
    every number, and of the metrics the standard deviation too, as `val/auroc_std`. The logits are out of fold.
    """

    def __init__(
        self,
        make: Callable[[DeviceSplit, int], Training],
        config: TrialConfig,
        objective: Objective,
        both: DeviceSplit,
        seed: int,
    ) -> None:
        """both: train and val in one. `make(train, seed)` gives the training of a fold's model."""
        assert config.folds is not None
        super().__init__(config.epochs, config.early_stopping.patience, objective)
        everyone = np.arange(len(both))
        self.cases = stratified_folds(both.labels.cpu().numpy().astype(np.int64), config.folds)
        self.held_out = [both.part(torch.from_numpy(cases)) for cases in self.cases]
        others = [both.part(torch.from_numpy(np.setdiff1d(everyone, cases))) for cases in self.cases]
        self.trainings = [make(part, fold_seed(seed, fold)) for fold, part in enumerate(others)]

    @property
    def models(self) -> Sequence[tuple[str, Trained]]:
        return [(f"{fold}.", training) for fold, training in enumerate(self.trainings)]

    def halve(self, epoch: int | None = None) -> None:
        super().halve(epoch)
        for training in self.trainings:
            training.halve(self.halved_from)

    def time_batches(self, count: int) -> tuple[float, int]:
        return self.trainings[0].time_batches(count)

    def advance(self, val: DeviceSplit | None, past: Sequence[EpochRecord]) -> Advance:
        pairs = zip(self.trainings, self.held_out, strict=True)
        advances = [training.advance(held_out, past) for training, held_out in pairs]
        values = {name: fmean(one.values[name] for one in advances) for name in advances[0].values}
        values |= {f"{name}_std": float(np.std([one.values[name] for one in advances], ddof=1)) for name in METRICS}
        values["epoch_seconds"] *= len(advances)
        order = np.argsort(np.concatenate(self.cases))
        logits = np.concatenate([one.logits for one in advances if one.logits is not None])[order]
        labels = np.concatenate([one.labels for one in advances if one.labels is not None])[order]
        return Advance(values, logits, labels)
