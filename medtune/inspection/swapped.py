"""Parts of a model exchanged for a while."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn


@contextmanager
def swapped(model: nn.Module, parts: Mapping[str, nn.Module]) -> Iterator[None]:
    """`with swapped(model, {"head": other}):` the model has other parts by these names, and then its own again."""
    own = {name: model.get_submodule(name) for name in parts}
    try:
        for name, part in parts.items():
            model.set_submodule(name, part)
        yield
    finally:
        for name, part in own.items():
            model.set_submodule(name, part)
