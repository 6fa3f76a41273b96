"""A registered model's own script: MLflow runs it by path when the model is loaded, beside a copy of what it needs of
medtune (see `packaged`).

It is asked about
- an array of images, uint8 (cases, height, width) or (cases, height, width, 3), of any size, or a list of such images;
- a table with a column `path`, of files that are where the model runs, or `image`, of picture files in base64.

The answer is a table with a row a case: the calibrated probability of each class, the `decision` by the threshold that
was chosen on validation and, where the model knows its training data, the `distance` to it and whether the case is an
`outlier`. What cannot be answered is a MlflowException, a 400 over HTTP, that names every such row.
"""

import base64
import binascii
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel

from medtune.data.pictures import Bytes, Unreadable, read_picture
from medtune.trained.inputs import fitted

SHAPES = "whole numbers 0..255 (cases, height, width) or (cases, height, width, 3)"
MOST = 5  # rows that an error names


class Served(PythonModel):  # type: ignore[misc]
    """The model and what it is asked."""

    _skip_type_hint_validation = True  # no one type says what it takes

    def load_context(self, context: Any) -> None:
        from medtune.trained.pictures import Predictor  # with torch, for which saving has no time

        self.predictor = Predictor(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> pd.DataFrame:
        images = _of_table(model_input, self._side) if isinstance(model_input, pd.DataFrame) else _pixels(model_input)
        fit = [fitted(image, self._side, self.predictor.channels) for image in images]
        said = self.predictor.said(np.stack(fit) if fit else np.zeros(0, np.uint8))
        answers = pd.DataFrame(said.probabilities, columns=list(self.predictor.classes))
        answers["decision"] = list(said.decisions)
        if said.distances is not None and self.predictor.outliers is not None:
            answers["distance"] = said.distances
            answers["outlier"] = said.distances > self.predictor.outliers.threshold
        return answers

    @property
    def _side(self) -> int:
        return self.predictor.model.size


def _pixels(given: Any) -> list[Bytes]:
    """The images of an array, or of a list of arrays; whole numbers of other types come from JSON."""
    images = [np.asarray(one) for one in given] if isinstance(given, list | np.ndarray) else None
    if images is None:
        raise _refused(f"{type(given).__name__} is no batch: give an array of {SHAPES}, or a table with path or image")
    for row, image in enumerate(images):
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or 0 in image.shape:
            raise _refused(f"row {row} has the shape {image.shape}: {SHAPES} are taken, and one image is a batch too")
        if image.dtype.kind not in "ui" or int(image.min()) < 0 or int(image.max()) > 255:
            told = f"{image.dtype} from {image.min()} to {image.max()}" if image.dtype.kind in "uif" else image.dtype
            raise _refused(f"row {row} holds {told}: {SHAPES} are taken")
    return [np.ascontiguousarray(image, np.uint8) for image in images]


def _of_table(table: pd.DataFrame, side: int) -> list[Bytes]:
    columns = [name for name in ("path", "image") if name in table]
    if len(columns) != 1:
        has = ", ".join(map(str, table.columns[:MOST])) or "none"
        raise _refused(f"the table has the columns {has}: give either path or image, picture files in base64")
    return _pictures(table[columns[0]], Path if columns == ["path"] else _decoded, side)


def _pictures(cells: Iterable[Any], opened: Callable[[str], Any], side: int) -> list[Bytes]:
    """The picture of each cell. Raises MlflowException with every row that is none."""
    found: list[Bytes] = []
    wrong: list[str] = []
    for row, cell in enumerate(cells):
        try:
            if not isinstance(cell, str):
                raise Unreadable(f"{type(cell).__name__} is no text")
            found.append(read_picture(opened(cell), side).image)
        except Unreadable as error:
            name = f", {cell}" if opened is Path else ""
            wrong.append(f"row {row}{name}: {error}")
    if wrong:
        raise _refused(_some(wrong))
    return found


def _decoded(text: str) -> io.BytesIO:
    try:
        return io.BytesIO(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise Unreadable(f"no base64: {error}") from error


def _some(wrong: Sequence[str]) -> str:
    return "; ".join(wrong[:MOST]) + (f"; and {len(wrong) - MOST} more" if len(wrong) > MOST else "")


def _refused(told: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(told)


mlflow.models.set_model(Served())
