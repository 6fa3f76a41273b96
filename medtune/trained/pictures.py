"""A trained model asked about pictures: calibrated probabilities, a decision, and how far each is from its data."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from medtune.data.pictures import Bytes
from medtune.trained.decision import decision_rule
from medtune.trained.inputs import Shown, Source, images
from medtune.trained.model import TrainedModel
from medtune.trained.outliers import features_noted, read_outliers

AT_ONCE = 256  # pictures in memory


@dataclass(frozen=True)
class Said:
    """What a model says of some images. probabilities: calibrated, float64 (cases, classes). decisions: one a case.
    distances: float64 (cases,), see `outliers`; None where the model was saved without them."""

    probabilities: np.ndarray
    decisions: Sequence[str]
    distances: np.ndarray | None


@dataclass(frozen=True)
class Answer:
    """probabilities: of the classes, in the model's order; none where `why` says what is wrong with the file. index:
    the image's place in an `.npz`. distance, outlier: None where the model knows no distances."""

    path: Path
    index: int | None = None
    probabilities: Sequence[float] = ()
    decision: str = ""
    distance: float | None = None
    outlier: bool | None = None
    why: str = ""


class Predictor:
    """The model of a folder such as `retrain/model/`. Raises DataError where there is none."""

    def __init__(self, folder: Path) -> None:
        self.model = TrainedModel.load(folder)
        self.task, self.classes = self.model.task, self.model.classes
        self.rule = decision_rule(self.model.decided, self.task, self.classes)
        self.outliers = read_outliers(self.model)
        self.channels = int(self.model.description.get("data_channels", self.model.channels))

    def answers(self, given: Iterable[Source]) -> Iterator[Answer]:
        """One for each image, in their order; what is wrong with a file is said in its own."""
        shown = chain.from_iterable(images(source, self.model.size, self.channels) for source in given)
        while some := list(islice(shown, AT_ONCE)):
            yield from self._answered(some)

    def said(self, images: Bytes) -> Said:
        """images: uint8 (cases, side, side) or (cases, side, side, 3), as the model was trained on."""
        if not len(images):
            return Said(np.zeros((0, len(self.classes))), [], None if self.outliers is None else np.zeros(0))
        with features_noted(self.model) as features:
            shown = self.model.calibrated(self.model.logits(self.model.on_device(images)))
        distances = None if self.outliers is None else self.outliers.distances(features())
        return Said(shown, self.rule.decisions(shown), distances)

    def probabilities(self, images: Bytes) -> np.ndarray:
        """Calibrated, float64 (cases, classes). images: see `said`."""
        return self.said(images).probabilities

    def _answered(self, some: Sequence[Shown]) -> Iterator[Answer]:
        good = [one.image for one in some if one.image is not None]
        said, row = self.said(np.stack(good) if good else np.zeros(0, np.uint8)), 0
        for one in some:
            if one.image is None:
                yield Answer(one.path, one.index, why=one.why)
            else:
                yield self._answer(one, said, row)
                row += 1

    def _answer(self, one: Shown, said: Said, row: int) -> Answer:
        distance = None if said.distances is None else float(said.distances[row])
        far = None if distance is None or self.outliers is None else distance > self.outliers.threshold
        return Answer(one.path, one.index, said.probabilities[row].tolist(), said.decisions[row], distance, far)
