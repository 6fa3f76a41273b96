"""Pictures as they are before they are bytes."""

from collections.abc import Callable
from types import ModuleType

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[Figure]]:
    """`drawn(module)`: a list that gets every figure which that module writes from now on."""

    def watch(module: ModuleType) -> list[Figure]:
        figures, real = [], module.save
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure) or real(figure, path))
        return figures

    return watch
