"""The linear probe: what a logistic regression on the features of an encoder as it is says of a data set."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medtune.config.trial import TrialConfig
from medtune.data.batches import DeviceSplit
from medtune.data.folds import stratified_folds
from medtune.evaluation.metrics import evaluate
from medtune.models.build import build_model
from medtune.models.classifier import Classifier
from medtune.pretraining.loop import encode_cases
from medtune.task import Task
from medtune.training.device import autocast
from medtune.training.loop import CASES_PER_PASS, predict_logits
from medtune.training.progress import AUROC, Advance, EpochRecord, Objective, Progress, Trained
from medtune.training.streams import Streams

STRENGTHS = tuple(float(strength) for strength in 10.0 ** np.arange(-4, 4.1, 0.5))  # of C, from strongly held to free
WITHOUT_CHOICE = 1.0  # of C, of a single case: scikit-learn's default
FOLDS = 5  # in which C is chosen, where there is no validation split to choose it on
ITERATIONS = 1000  # of L-BFGS at most
SPREAD = 1e-5  # of a feature, beside its mean or 1: below it says nothing
FEW = 0.5  # cases added to each value of a label that only one value is known of, for its odds

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """weight: (classes, features). bias: (classes,)."""

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        return features @ self.weight.T + self.bias


class Probe(Progress):
    """A trial with `model.finetune: probe`: one epoch, in which the head is solved for. Nothing else of the model
    changes, nothing is augmented, and neither optimizer nor batch is read."""

    def __init__(
        self,
        config: TrialConfig,
        task: Task,
        classes: int,
        train: DeviceSplit,
        seed: int,
        precision: str = "float32",
        objective: Objective = AUROC,
    ) -> None:
        super().__init__(1, None, objective)
        self.task, self.classes, self.train = task, classes, train
        device = train.images.device
        self.autocast = autocast(device.type, precision)
        self.streams, self.optimizer = Streams(seed, device), None
        model = build_model(config.model, train.channels, classes, train.size, self.streams.weights)
        self.model: Classifier = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def evaluated(self) -> Classifier:
        return self.model

    @property
    def models(self) -> Sequence[tuple[str, Trained]]:
        return [("", self)]

    @property
    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {"model": self.model.state_dict()}

    def advance(self, val: DeviceSplit | None, past: Sequence[EpochRecord]) -> Advance:
        started = time.perf_counter()
        features, targets = self._known(self.train)
        if val is not None:
            fitted = {each: [self._fit(features, targets, each)] for each in STRENGTHS}
            strength = self._best(fitted, [self._known(val)])
        else:
            strength = self._cross_validated(features, targets)
        chosen = self._fit(features, targets, strength)
        with torch.no_grad():
            self.model.head.weight.copy_(torch.from_numpy(chosen.weight))
            self.model.head.bias.copy_(torch.from_numpy(chosen.bias))
        values = {"train/loss": self._loss(chosen, features, targets), "probe/C": strength}
        logits = labels = None
        if val is not None:
            logits = predict_logits(self.model, val, self.autocast)
            labels = val.labels.cpu().numpy().astype(np.int64)
            values |= {f"val/{name}": value for name, value in evaluate(logits, labels, self.task).items()}
        values["epoch_seconds"] = time.perf_counter() - started
        return Advance(values, logits, labels)

    def time_batches(self, count: int) -> tuple[float, int]:
        """Of reading features; solving is not in it."""
        encode_cases(self.model, self.train.part(torch.arange(1)), self.autocast)
        cases = min(count * CASES_PER_PASS, len(self.train))
        started = time.perf_counter()
        encode_cases(self.model, self.train.part(torch.arange(cases)), self.autocast).cpu()
        return time.perf_counter() - started, cases

    def _known(self, split: DeviceSplit) -> tuple[Floats, npt.NDArray[np.int64]]:
        features = encode_cases(self.model, split, self.autocast).cpu().numpy().astype(np.float64)
        return features, split.labels.cpu().numpy().astype(np.int64)

    def _fit(self, features: Floats, targets: npt.NDArray[np.int64], strength: float) -> Linear:
        return fit(features, targets, self.task, self.classes, strength)

    def _cross_validated(self, features: Floats, targets: npt.NDArray[np.int64]) -> float:
        """The strength for a training that leaves nothing to validate on, out of folds of its own cases."""
        count = min(FOLDS, len(targets))
        if count < 2:
            return WITHOUT_CHOICE
        folds = stratified_folds(targets, count)
        others = [np.setdiff1d(np.arange(len(targets)), fold) for fold in folds]
        fitted = {
            strength: [self._fit(features[rest], targets[rest], strength) for rest in others] for strength in STRENGTHS
        }
        return self._best(fitted, [(features[fold], targets[fold]) for fold in folds])

    def _best(
        self, fitted: Mapping[float, Sequence[Linear]], held_out: Sequence[tuple[Floats, npt.NDArray[np.int64]]]
    ) -> float:
        """The strength with the least mean loss on what was held out from each of its solutions; of equals the one
        that holds the weights most."""

        def loss(strength: float) -> float:
            return fmean(self._loss(linear, *cases) for linear, cases in zip(fitted[strength], held_out, strict=True))

        return min(fitted, key=loss)

    def _loss(self, linear: Linear, features: Floats, targets: npt.NDArray[np.int64]) -> float:
        return evaluate(linear.logits(features).astype(np.float32), targets, self.task)["loss"]


def fit(features: Floats, targets: npt.NDArray[np.int64], task: Task, classes: int, strength: float) -> Linear:
    """An L2-regularised logistic regression by L-BFGS; of several labels one each. strength: scikit-learn's C.

    The features are brought to mean 0 and standard deviation 1 for it, so that C means the same for every encoder.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # of one case, or of a unit that is always 0; less than this is the rounding of what the network computes
    scale = np.where(scale > SPREAD * np.maximum(1.0, np.abs(mean)), scale, 1.0)
    scaled = (features - mean) / scale
    if task == "multilabel":
        rows = [_binary(scaled, column, strength) for column in targets.T]
        weight, bias = np.stack([row for row, _ in rows]), np.array([intercept for _, intercept in rows])
    elif classes == 2:
        row, intercept = _binary(scaled, targets, strength)
        weight, bias = np.stack([-row, row]) / 2, np.array([-intercept, intercept]) / 2
    else:
        weight, bias = _multinomial(scaled, targets, classes, strength)
    weight = weight / scale
    return Linear(weight, bias - weight @ mean)


def _binary(features: Floats, targets: npt.NDArray[np.int64], strength: float) -> tuple[Floats, float]:
    """Weights and intercept of the log odds. A label of which there is one value alone has its odds, and no slope."""
    positive = int(targets.sum())
    if positive in (0, len(targets)):
        return np.zeros(features.shape[1]), float(np.log((positive + FEW) / (len(targets) - positive + FEW)))
    solved = _solved(features, targets, strength)
    return solved.coef_[0], float(solved.intercept_[0])


def _multinomial(
    features: Floats, targets: npt.NDArray[np.int64], classes: int, strength: float
) -> tuple[Floats, Floats]:
    """A class without a case is as unlikely as one that half a case would speak for."""
    known = np.unique(targets)
    weight = np.zeros((classes, features.shape[1]))
    bias = np.full(classes, np.log(FEW / len(targets)))
    if len(known) == 1:
        bias[known] = 0.0
    elif len(known) == 2:
        row, intercept = _binary(features, (targets == known[1]).astype(np.int64), strength)
        weight[known], bias[known] = np.stack([-row, row]) / 2, np.array([-intercept, intercept]) / 2
    else:
        solved = _solved(features, targets, strength)
        weight[known], bias[known] = solved.coef_, solved.intercept_
    return weight, bias


def _solved(features: Floats, targets: npt.NDArray[np.int64], strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression  # takes a second to import, and few trials need it

    with warnings.catch_warnings():
        # separable cases, hardly held, never do
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")
        return LogisticRegression(C=strength, max_iter=ITERATIONS).fit(features, targets)
