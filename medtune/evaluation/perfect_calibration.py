"""What calibration errors read where labels are drawn as the probabilities say: perfect calibration, by resampling."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from medtune.evaluation.calibration import Binned
from medtune.evaluation.gap_worlds import Array, correlation_of, root_of
from medtune.evaluation.metrics import Floats, Integers
from medtune.task import Task

AT_ONCE = 4_000_000  # drawn outcomes in memory

Hits = Callable[[Binned, NDArray[np.intp]], Array]


def errors_if_perfect(
    probabilities: Floats,
    labels: Integers,
    task: Task,
    kinds: Sequence[tuple[Binned, NDArray[np.intp]]],
    generator: np.random.Generator,
    draws: int,
) -> list[Array]:
    """The error in each of `draws` sets of labels, (draws,) for each kind, the same labels for all of them.

    A kind is its bins and the classes it looks at. Of `labels`, multilabel (cases, labels), only the correlation of a
    case's labels is taken.
    """
    probabilities = np.asarray(probabilities, np.float64)
    root = np.eye(probabilities.shape[1]) if task != "multilabel" else _root(probabilities, labels)
    errors: list[list[Array]] = [[] for _ in kinds]
    at_once = max(1, AT_ONCE // probabilities.size)
    for start in range(0, draws, at_once):
        chunk = min(at_once, draws - start)
        if task == "multilabel":
            hits = _of_labels(probabilities, root, generator, chunk)
        else:
            hits = _of_classes(probabilities, generator, chunk)
        for kept, (shown, classes) in zip(errors, kinds, strict=True):
            kept.append(shown.error(shown.mean * shown.count - hits(shown, classes)))
    return [np.concatenate(kept) for kept in errors]


def _of_classes(probabilities: Floats, generator: np.random.Generator, draws: int) -> Hits:
    """Draws a class for each case; then tells for a kind how many came true in each cell: (draws, cells)."""
    inner = probabilities.cumsum(axis=1)[:, :-1]
    uniform = generator.random((draws, len(inner)))
    drawn = np.zeros(uniform.shape, np.intp)
    for edge in inner.T:
        drawn += uniform >= edge

    def hits(shown: Binned, classes: NDArray[np.intp]) -> Array:
        cells = len(shown.count)
        # which cell a class counts for if it is drawn; one more for those that none looks at
        cell_of_class = np.full(probabilities.shape, cells)
        np.put_along_axis(cell_of_class, classes, shown.index, axis=1)
        flat = cell_of_class[np.arange(len(inner)), drawn] + (cells + 1) * np.arange(draws)[:, None]
        return np.bincount(flat.ravel(), minlength=draws * (cells + 1)).reshape(draws, -1)[:, :cells].astype(float)

    return hits


def _of_labels(probabilities: Floats, root: Array, generator: np.random.Generator, draws: int) -> Hits:
    """The same for labels of which several can be true: each case's are drawn through a Gaussian copula."""
    normal = generator.standard_normal((draws, *probabilities.shape), dtype=np.float32) @ root.T.astype(np.float32)
    true = normal < ndtri(probabilities).astype(np.float32)

    def hits(shown: Binned, _: NDArray[np.intp]) -> Array:
        member = np.zeros((len(shown.count), len(probabilities)), np.float32)
        found = np.empty((draws, len(member)))
        for label, index in enumerate(shown.index.T):
            member[index, np.arange(len(index))] = 1
            cells = shown.problem == label
            found[:, cells] = true[:, :, label].astype(np.float32) @ member[cells].T
        return found

    return hits


def _root(probabilities: Floats, labels: Integers) -> Array:
    """Of the latent correlation (labels, labels), from that of the residuals; exact at probabilities of 1/2."""
    residual = labels - probabilities
    correlation = np.sin(np.pi / 2 * correlation_of(residual - residual.mean(axis=0)))
    root = root_of(correlation)
    # what negative parts were cut off would leave the normals too wide
    return root / np.maximum(np.sqrt(np.square(root).sum(axis=1, keepdims=True)), 1e-12)
