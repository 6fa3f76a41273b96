import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from medtune.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medtune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`medtune(*arguments)` in this process: its exit code, stdout and stderr."""

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medtune", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        _let_go(ended.value)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def _let_go(error: BaseException | None) -> None:
    """A process that has ended holds no locks."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
