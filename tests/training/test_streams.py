from collections.abc import Callable

import pytest
import torch

from medtune.training.streams import Streams

CPU = torch.device("cpu")
NAMES = ["weights", "order", "augmentation", "dropout"]


def draws(streams: Streams) -> dict[str, list[float]]:
    return {name: torch.rand(5, generator=getattr(streams, name)).tolist() for name in NAMES}


def test_every_stream_is_its_own() -> None:
    values = draws(Streams(0, CPU)).values()
    assert len({tuple(value) for value in values}) == 4


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_the_seed_decides(seed: int) -> None:
    assert draws(Streams(seed, CPU)) == draws(Streams(seed, CPU))
    other = draws(Streams(seed + 1, CPU))
    assert all(value != other[name] for name, value in draws(Streams(seed, CPU)).items())


def test_drawing_from_one_leaves_the_others_alone() -> None:
    undisturbed, streams = draws(Streams(0, CPU)), Streams(0, CPU)
    torch.rand(100, generator=streams.augmentation)
    disturbed = draws(streams)
    assert [name for name in NAMES if disturbed[name] != undisturbed[name]] == ["augmentation"]


def test_a_restored_stream_goes_on_where_the_other_was() -> None:
    first, second = Streams(0, CPU), Streams(1, CPU)
    draws(first)
    second.restore(first.state())
    assert draws(second) == draws(first)


def test_global_random_state_is_neither_used_nor_changed(global_randomness: Callable[[], bytes]) -> None:
    before = global_randomness()
    expected = draws(Streams(0, CPU))
    assert global_randomness() == before
    torch.manual_seed(5)
    assert draws(Streams(0, CPU)) == expected
