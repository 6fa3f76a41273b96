"""Honest, crash-proof hyperparameter sweeps for medical image classification.

`medtune.load_sweep("runs/quickstart")` gives a sweep as data frames. Importing the package imports nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtune.frames import Sweep, load_sweep

__all__ = ["Sweep", "load_sweep"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from medtune import frames  # with pandas and Optuna, which take a second

    return getattr(frames, name)
