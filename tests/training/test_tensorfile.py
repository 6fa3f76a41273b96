import io
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save

from medtune.training import tensorfile
from medtune.training.tensorfile import read_part, read_values, stamp

VALUES = {"records": [{"epoch": 1, "loss": 0.1 + 0.2}], "best_epoch": None}
ARRAYS = {
    "weights": np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32),
    "epochs": np.array([1, 2, 2**40]),
    "none": np.zeros((0, 0, 0), np.float32),
}


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def file(values: dict[str, object] = VALUES, **arrays: np.ndarray) -> Counting:
    tensors = {name: torch.from_numpy(array) for name, array in (arrays or ARRAYS).items()}
    return Counting(save(tensors, metadata=stamp(values)))


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_as_they_were_written(name: str) -> None:
    found = read_part(file(), name)[""]
    assert found.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(found, ARRAYS[name], strict=True)


def test_a_part_is_all_arrays_of_a_prefix_by_the_rest_of_their_names() -> None:
    opened = file(**{"model.a": np.ones(2, np.float32), "model.b.c": np.arange(3), "stream": np.zeros(1, np.int64)})
    found = read_part(opened, "model.")
    assert {name: array.tolist() for name, array in found.items()} == {"a": [1, 1], "b.c": [0, 1, 2]}


def test_values_are_read_as_they_were_written() -> None:
    assert read_values(file()) == {"version": tensorfile.VERSION, **VALUES}


def test_not_a_number_stays_so() -> None:
    assert np.isnan(read_values(file({"loss": float("nan")}))["loss"])


def test_both_can_be_read_of_one_open_file_in_any_order() -> None:
    opened = file()
    for _ in range(2):
        np.testing.assert_array_equal(read_part(opened, "epochs")[""], ARRAYS["epochs"])
        assert read_values(opened)["best_epoch"] is None


def test_only_the_asked_array_is_read() -> None:
    opened = file(large=np.zeros(1_000_000, np.float32), small=np.ones(3, np.float32))
    read_part(opened, "small")[""]
    assert opened.taken < 2000


def test_a_file_of_another_version_is_refused_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorfile, "VERSION", 7)
    newer = file()
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"format 7.*reads format {tensorfile.VERSION}"):
        read_values(newer)


def test_the_stamp_is_plain_json() -> None:
    assert json.loads(stamp(VALUES)["medtune"]) == {"version": tensorfile.VERSION, **VALUES}
