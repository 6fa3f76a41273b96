import numpy as np
import pytest

from medtune.training.predictions import LIMIT, Predictions

CASES, CLASSES = 5, 2
SIZE = CASES * CLASSES * 4  # bytes of an epoch
LABELS = np.array([1, 0, 1, 1, 0])


def logits(epoch: int) -> np.ndarray:
    return np.full((CASES, CLASSES), epoch, np.float32)


def after(best_epochs: list[int], limit: int) -> Predictions:
    """Predictions after so many epochs, given which epoch was the best at each."""
    predictions = Predictions(limit)
    for epoch, best_epoch in enumerate(best_epochs, 1):
        predictions.add(epoch, logits(epoch), LABELS, best_epoch)
    return predictions


def test_every_epoch_is_kept_up_to_the_limit() -> None:
    arrays = after([1, 1, 3, 3], limit=4 * SIZE).arrays()
    assert arrays["epochs"].tolist() == [1, 2, 3, 4]
    assert arrays["epochs"].dtype == np.int64 and arrays["logits"].dtype == np.float32
    np.testing.assert_array_equal(arrays["logits"], np.stack([logits(epoch) for epoch in (1, 2, 3, 4)]))


@pytest.mark.parametrize(
    ("best_epochs", "kept"),
    [
        ([1, 1, 1], 1),
        ([1, 2, 2], 2),
        ([1, 1, 3], 3),
        ([1, 1, 1, 1], 1),  # what comes after the limit has room again, but would look like a whole trial
        ([1, 1, 1, 4], 4),
        ([1, 1, 1, 4, 4, 4], 4),
    ],
)
def test_only_the_best_epoch_is_kept_over_the_limit(best_epochs: list[int], kept: int) -> None:
    arrays = after(best_epochs, limit=int(2.5 * SIZE)).arrays()
    assert arrays["epochs"].tolist() == [kept]
    np.testing.assert_array_equal(arrays["logits"], logits(kept)[None])


def test_labels_and_cases_are_beside_the_logits() -> None:
    arrays = after([1, 1], limit=4 * SIZE).arrays()
    np.testing.assert_array_equal(arrays["labels"], LABELS, strict=True)
    np.testing.assert_array_equal(arrays["cases"], np.arange(CASES), strict=True)


def test_one_epoch_larger_than_the_limit_is_still_kept() -> None:
    assert after([1, 1], limit=1).arrays()["epochs"].tolist() == [1]


def test_the_limit_is_two_megabytes() -> None:
    assert Predictions().limit == LIMIT == 2_000_000


@pytest.mark.parametrize("limit", [10 * SIZE, int(2.5 * SIZE)])
def test_restored_predictions_go_on_as_the_others(limit: int) -> None:
    best_epochs = [1, 1, 3, 3, 5]
    predictions = Predictions(limit)
    predictions.restore(**after(best_epochs[:4], limit).arrays())
    predictions.add(5, logits(5), LABELS, 5)
    expected = after(best_epochs, limit).arrays()
    for name, array in predictions.arrays().items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


def test_no_predictions_are_empty_arrays() -> None:
    arrays = Predictions().arrays()
    assert (arrays["epochs"].shape, arrays["logits"].shape) == ((0,), (0, 0, 0))
    restored = Predictions()
    restored.restore(**arrays)
    assert restored.logits == {}
