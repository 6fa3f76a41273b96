import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from medtune.data import Split
from medtune.data.batches import DeviceSplit, to_device

GREY, COLOUR = (10, 6, 6), (10, 6, 6, 3)

every_shape = pytest.mark.parametrize("shape", [GREY, COLOUR])
either_way = pytest.mark.parametrize("rgb", [False, True])


def pixels(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def split(shape: tuple[int, ...], rgb: bool = False) -> DeviceSplit:
    return to_device(Split(pixels(shape), np.arange(shape[0])), "cpu", rgb)


@pytest.fixture
def every_torch_warning() -> Iterator[None]:
    """torch warns once a process, which could have been before this test."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@every_shape
@either_way
def test_data_on_the_cpu_are_not_copied(shape: tuple[int, ...], rgb: bool) -> None:
    images, labels = pixels(shape), np.arange(10)
    data = to_device(Split(images, labels), "cpu", rgb)
    assert data.images.data_ptr() == images.ctypes.data and data.images.numel() == images.size
    assert data.labels.data_ptr() == labels.ctypes.data
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)


@pytest.mark.usefixtures("every_torch_warning")
def test_read_only_arrays_are_taken_without_a_copy_or_a_warning() -> None:
    images, labels = pixels(GREY), np.arange(10)
    images.flags.writeable = labels.flags.writeable = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = to_device(Split(images, labels), "cpu")
    assert caught == []
    assert data.images.data_ptr() == images.ctypes.data


@every_shape
@either_way
def test_a_split_knows_its_shape(shape: tuple[int, ...], rgb: bool) -> None:
    data = split(shape, rgb)
    assert (len(data), data.size, data.channels) == (10, 6, 3 if len(shape) == 4 or rgb else 1)
    assert data.batch(slice(0, 2))[0].shape == (2, data.channels, 6, 6)


@every_shape
@either_way
@pytest.mark.parametrize("cases", [slice(2, 6), torch.tensor([7, 0, 0, 3])])
def test_a_batch_is_the_asked_cases_scaled_and_channels_last(shape: tuple[int, ...], rgb: bool, cases: slice) -> None:
    images, labels = split(shape, rgb).batch(cases)
    expected = pixels(shape)[cases].reshape(4, 6, 6, -1).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(images.numpy(), np.broadcast_to(expected, images.shape), rtol=1e-6)
    np.testing.assert_array_equal(labels.numpy(), np.arange(10)[cases])
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_range_is_0_to_1() -> None:
    data = to_device(Split(np.array([[[0, 255], [51, 255]]], np.uint8), np.zeros(1, np.int64)), "cpu")
    images, _ = data.batch(slice(0, 1))
    assert images.flatten().tolist() == pytest.approx([0, 1, 0.2, 1])


@every_shape
@either_way
def test_work_on_a_batch_leaves_the_data_and_the_other_channels_alone(shape: tuple[int, ...], rgb: bool) -> None:
    data = split(shape, rgb)
    images, _ = data.batch(slice(0, 10))
    before = images[:, 1:].clone()
    images[:, 0].sub_(0.5)
    np.testing.assert_array_equal(data.images.numpy().reshape(shape), pixels(shape))
    assert torch.equal(images[:, 1:], before)


def test_labels_of_several_a_case_are_float32() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (10, 4))
    data = to_device(Split(pixels(GREY), labels), "cpu")
    assert data.labels.dtype == torch.float32
    np.testing.assert_array_equal(data.batch(torch.tensor([3, 1]))[1].numpy(), labels[[3, 1]])


class TestAPart:
    @every_shape
    @either_way
    @pytest.mark.parametrize("cases", [slice(1, 3), torch.tensor([2, 2, 0])])
    def test_is_the_chosen_cases_in_the_chosen_order(self, shape: tuple[int, ...], rgb: bool, cases: slice) -> None:
        whole, chosen = split(shape, rgb), torch.tensor([8, 1, 5, 1])
        part = whole.part(chosen)
        assert len(part) == 4 and part.labels.tolist() == [8, 1, 5, 1]
        assert (part.size, part.channels) == (whole.size, whole.channels)
        for found, expected in zip(part.batch(cases), whole.batch(chosen[cases]), strict=True):
            assert torch.equal(found, expected)

    def test_of_a_part_counts_from_the_part(self) -> None:
        whole = split(GREY)
        inner = whole.part(torch.tensor([9, 8, 7, 6])).part(torch.tensor([3, 1]))
        assert inner.labels.tolist() == [6, 8]
        assert torch.equal(inner.batch(slice(None))[0], whole.batch(torch.tensor([6, 8]))[0])

    def test_copies_no_images(self) -> None:
        whole = split(GREY)
        part = whole.part(torch.arange(5)).part(torch.tensor([0, 2]))
        assert part.images.data_ptr() == whole.images.data_ptr()
