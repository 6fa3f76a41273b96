import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from medtune.data.batches import DeviceSplit, normalise, to_device

GREY, COLOUR = (10, 6, 6), (10, 6, 6, 3)

every_shape = pytest.mark.parametrize("shape", [GREY, COLOUR])


def pixels(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def split(shape: tuple[int, ...]) -> DeviceSplit:
    return to_device(pixels(shape), np.arange(shape[0]), "cpu")


@pytest.fixture
def every_torch_warning() -> Iterator[None]:
    """torch warns once a process, which could have been before this test."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@every_shape
def test_data_on_the_cpu_are_not_copied(shape: tuple[int, ...]) -> None:
    images, labels = pixels(shape), np.arange(10)
    data = to_device(images, labels, "cpu")
    assert data.images.data_ptr() == images.ctypes.data
    assert data.labels.data_ptr() == labels.ctypes.data
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)


@pytest.mark.usefixtures("every_torch_warning")
def test_read_only_arrays_are_taken_without_a_copy_or_a_warning() -> None:
    images, labels = pixels(GREY), np.arange(10)
    images.flags.writeable = labels.flags.writeable = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = to_device(images, labels, "cpu")
    assert caught == []
    assert data.images.data_ptr() == images.ctypes.data


@every_shape
def test_a_split_knows_its_shape(shape: tuple[int, ...]) -> None:
    data = split(shape)
    assert (len(data), data.size, data.channels) == (10, 6, 3 if len(shape) == 4 else 1)


@every_shape
@pytest.mark.parametrize("cases", [slice(2, 6), torch.tensor([7, 0, 0, 3])])
def test_a_batch_is_the_asked_cases_scaled_and_channels_last(shape: tuple[int, ...], cases: slice) -> None:
    images, labels = split(shape).batch(cases)
    expected = pixels(shape)[cases].reshape(4, 6, 6, -1).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(images.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(labels.numpy(), np.arange(10)[cases])
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_range_is_0_to_1_and_after_normalising_minus_1_to_1() -> None:
    data = to_device(np.array([[[0, 255], [51, 255]]], np.uint8), np.zeros(1, np.int64), "cpu")
    images, _ = data.batch(slice(0, 1))
    assert images.flatten().tolist() == pytest.approx([0, 1, 0.2, 1])
    assert normalise(images).flatten().tolist() == pytest.approx([-1, 1, -0.6, 1])


@every_shape
def test_work_on_a_batch_leaves_the_data_alone(shape: tuple[int, ...]) -> None:
    data = split(shape)
    normalise(data.batch(slice(0, 10))[0])
    np.testing.assert_array_equal(data.images.numpy().reshape(shape), pixels(shape))


def test_labels_of_several_a_case_are_float32() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (10, 4))
    data = to_device(pixels(GREY), labels, "cpu")
    assert data.labels.dtype == torch.float32
    np.testing.assert_array_equal(data.batch(torch.tensor([3, 1]))[1].numpy(), labels[[3, 1]])
