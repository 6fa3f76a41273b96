"""Is a picture far from those that a model was trained on? By a distance of the features that go into its head.

The distance is Mahalanobis' (Lee et al. 2018, here with one Gaussian for all classes), with the covariance shrunken as
Ledoit & Wolf (2004) have it, as features are many and cases few. It is of asinh(feature / scale), nearly the logarithm:
a blank picture has features near 0, within any ellipsoid around real ones, but on this scale they are far from all of
them. Nearest neighbours found no more, and would keep cases of somebody beside the model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from medtune.data import DataError
from medtune.data.batches import DeviceSplit
from medtune.evaluation.metrics import Floats
from medtune.files import whole_file
from medtune.trained.model import TrainedModel
from medtune.training.device import autocast
from medtune.training.loop import predict_logits

FILE = "outliers.safetensors"
METHOD = "mahalanobis"
QUANTILE = 0.99
MOST = 20_000  # cases that the covariance is of
FOLDS = 5
LEAST_CASES = 10  # below them there is no covariance worth the name
SCALE = 0.2  # of the mean of the features; of .03 to .3 what did best on all kinds of pictures
LEAST_DEVIATION = 1e-3  # of a feature, as a share of their mean: one that is always 0 must not decide alone
LEAST = 1e-12

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """Of features on their scale: their mean (width,), and what makes their covariance the identity, (width, width)."""

    scale: Doubles  # ()
    mean: Doubles
    whitening: Doubles

    @classmethod
    def of(cls, features: Floats) -> "Gaussian":
        """features: (cases, width)."""
        from sklearn.covariance import LedoitWolf  # at the end of a retraining alone

        scale = max(SCALE * float(np.abs(features.astype(np.float64)).mean()), LEAST)
        seen = np.arcsinh(features.astype(np.float64) / scale)
        mean, deviation = seen.mean(axis=0), seen.std(axis=0)
        deviation = deviation.clip(max(LEAST_DEVIATION * float(deviation.mean()), LEAST))
        shrunken = LedoitWolf(assume_centered=True).fit((seen - mean) / deviation)
        whitening = np.linalg.cholesky(shrunken.precision_) / deviation[:, None]
        return cls(*map(_as_saved, (scale, mean, whitening)))

    def distances(self, features: Floats) -> Doubles:
        """Of each case, (cases,), in standard deviations. features: (cases, width)."""
        seen = np.arcsinh(features.astype(np.float64) / self.scale)
        return np.asarray(np.linalg.norm((seen - self.mean) @ self.whitening, axis=1))


def _as_saved(value: Any) -> Doubles:
    """Of float32, so that a model that is read again says the same to the last bit."""
    return np.asarray(value, np.float32).astype(np.float64)


@dataclass(frozen=True)
class Outliers:
    """What is far: a distance above the threshold, which all but a share `1 - QUANTILE` of new cases of the same kind
    stay below. cases: how many that was learned from."""

    gaussian: Gaussian
    threshold: float
    cases: int

    def distances(self, features: Floats) -> Doubles:
        """See `Gaussian.distances`."""
        return self.gaussian.distances(features)

    def as_json(self) -> dict[str, Any]:
        """As `model.json` has it under `outliers`."""
        return {"method": METHOD, "threshold": self.threshold, "quantile": QUANTILE, "cases": self.cases}


def fit_outliers(model: TrainedModel, train: DeviceSplit, val: DeviceSplit | None) -> Outliers | None:
    """The Gaussian of the cases that the model was trained on, and the threshold of others, which it was not.

    val: None where the model was trained on validation too; then the threshold is that of train, each fifth of it by
    the Gaussian of the others. None is returned where there are too few cases, and where the features are not finite.
    """
    features = network_features(model, _some(train))
    if not _usable(features):
        return None
    gaussian = Gaussian.of(features)
    others = _cross_fitted(features) if val is None else gaussian.distances(network_features(model, _some(val)))
    return Outliers(gaussian, conformal_quantile(others, QUANTILE), len(others)) if len(others) else None


def _usable(features: Floats) -> bool:
    return len(features) >= LEAST_CASES and bool(np.isfinite(features).all() and np.ptp(features, axis=0).any())


def conformal_quantile(distances: Doubles, share: float) -> float:
    """What a further case stays below with at least this probability, if there are 1 / (1 - share) - 1 cases or more;
    of fewer their largest. The ceil((n + 1) share)-th smallest (Vovk et al. 2005). distances: (n,)."""
    rank = int(np.ceil((len(distances) + 1) * share - 1e-9))
    return float(np.sort(distances)[min(rank, len(distances)) - 1])


def _cross_fitted(features: Floats) -> Doubles:
    fold = np.arange(len(features)) % FOLDS
    distances = np.zeros(len(features))
    for one in range(FOLDS):
        distances[fold == one] = Gaussian.of(features[fold != one]).distances(features[fold == one])
    return distances


def _some(split: DeviceSplit) -> DeviceSplit:
    """Cases at even distances, where there are more than are needed."""
    if len(split) <= MOST:
        return split
    return split.part(torch.linspace(0, len(split) - 1, MOST).long())


def network_features(model: TrainedModel, split: DeviceSplit) -> NDArray[np.float32]:
    """What goes into the head of the member of the greatest weight: (cases, width)."""
    with features_noted(model) as features:
        predict_logits(model.first.network, split, autocast(model.device, model.first.precision))
    return features()


@contextmanager
def features_noted(model: TrainedModel) -> Iterator[Callable[[], NDArray[np.float32]]]:
    """`with features_noted(model) as features: model.logits(split)`: `features()` are those of `network_features`."""
    seen: list[Tensor] = []

    def note(head: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].detach().float().cpu())

    handle = model.first.network.head.register_forward_pre_hook(note)
    try:
        yield lambda: torch.cat(seen).numpy()
    finally:
        handle.remove()


def write_outliers(model: TrainedModel, outliers: Outliers) -> None:
    """Beside the weights, as `outliers.safetensors`; the threshold is for `model.json`."""
    gaussian = outliers.gaussian
    arrays = {"scale": gaussian.scale, "mean": gaussian.mean, "whitening": gaussian.whitening}
    with whole_file(model.folder / FILE) as temporary:
        save_file({name: array.astype(np.float32) for name, array in arrays.items()}, temporary)


def read_outliers(model: TrainedModel) -> Outliers | None:
    """Of a model that was saved without them, None. Raises DataError where they are not what `model.json` says."""
    said = model.description.get("outliers")
    if said is None:
        return None
    path, width = model.folder / FILE, model.first.network.head.in_features
    if said["method"] != METHOD or not path.exists():
        raise DataError(
            f"{path} is missing, or of another version of medtune: retrain the model, or install a newer one"
        )
    arrays = {name: array.astype(np.float64) for name, array in load_file(path).items()}
    if arrays["mean"].shape != (width,) or arrays["whitening"].shape != (width, width):
        raise DataError(f"{path} is of another model than the weights beside it: copy the whole folder again")
    gaussian = Gaussian(arrays["scale"], arrays["mean"], arrays["whitening"])
    return Outliers(gaussian, float(said["threshold"]), int(said["cases"]))
