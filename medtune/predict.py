"""A retrained model asked about pictures: its probabilities, recalibrated as was chosen on validation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from medtune.data import DataError, Split
from medtune.data.batches import to_device
from medtune.data.listing import EXTENSIONS
from medtune.data.pictures import Bytes, Unreadable, read_picture
from medtune.evaluation.metrics import predicted_labels
from medtune.retrain import decided_of, load_model
from medtune.training.device import autocast, detect_device
from medtune.training.loop import predict_logits

AT_ONCE = 256  # pictures in memory


@dataclass(frozen=True)
class Answer:
    """probabilities: of the classes, in the model's order; none where `why` says what is wrong with the file.
    decision: the likeliest class, or all labels above .5."""

    path: Path
    probabilities: Sequence[float] = ()
    decision: str = ""
    why: str = ""


class Predictor:
    """The model of a folder such as `retrain/model/`. Raises DataError where there is none."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "model.json").exists():
            raise DataError(
                f"{folder} holds no model: give a folder with a model.json, such as retrain/model of a sweep"
            )
        model, self.description = load_model(folder)
        self.task, self.classes = self.description["task"], list(self.description["classes"])
        self.calibrator, self.device = decided_of(self.description).calibrator, detect_device()
        self.model = model.to(self.device)
        self.autocast = autocast(self.device, self.description["precision"])

    def answers(self, paths: Sequence[Path]) -> Iterator[Answer]:
        """One for each file, in their order; what is wrong with a file is said in its own."""
        left = iter(paths)
        while some := list(islice(left, AT_ONCE)):
            read = {path: self._read(path) for path in some}
            good = [image for image in read.values() if not isinstance(image, str)]
            shown = self.probabilities(np.stack(good)) if good else np.zeros((0, len(self.classes)))
            rows = zip(shown.tolist(), map(self._decision, predicted_labels(shown, self.task)), strict=True)
            for path, image in read.items():
                yield Answer(path, why=image) if isinstance(image, str) else Answer(path, *next(rows))

    def probabilities(self, images: Bytes) -> np.ndarray:
        """Recalibrated, float64 (cases, classes). images: uint8 (cases, side, side) or (cases, side, side, 3), as the
        model was trained on."""
        rgb = self.description["channels"] == 3 and images.ndim == 3
        split = to_device(Split(images, np.zeros(len(images), np.int64)), self.device, rgb)
        return np.asarray(self.calibrator.apply(predict_logits(self.model, split, self.autocast), self.task))

    def _read(self, path: Path) -> Bytes | str:
        """The picture as the model's data was, in grey or in colour; or why it cannot be."""
        try:
            image = read_picture(path, self.description["size"]).image
        except Unreadable as error:
            return str(error)
        mode = "L" if self.description.get("data_channels", self.description["channels"]) == 1 else "RGB"
        return np.asarray(Image.fromarray(image).convert(mode))

    def _decision(self, predicted: np.ndarray) -> str:
        if self.task == "multilabel":
            return " + ".join(self.classes[label] for label in np.flatnonzero(predicted)) or "none"
        return self.classes[int(predicted)]


def pictures_below(given: Sequence[Path]) -> list[Path]:
    """The files given, and all pictures below the folders given, sorted. Raises DataError where there is none."""
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder; check the path")
        below = (
            sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS) if path.is_dir() else [path]
        )
        if not below:
            raise DataError(f"{path} holds no pictures: {', '.join(sorted(EXTENSIONS))} are read")
        found += sorted(below)
    return list(dict.fromkeys(found))
