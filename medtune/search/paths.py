"""Paths of a sweep file, made right for every worker, and wherever the sweep is gone on with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtune.config.space import Choice
from medtune.config.sweep import SweepConfig
from medtune.models.published import WEIGHT_FILES
from medtune.search.earlier import absolute


def from_anywhere(config: SweepConfig) -> SweepConfig:
    """The configuration with absolute paths."""
    data, search = config.data, config.search
    paths = {key: _absolute(path) for key in ("folder", "root") if (path := getattr(data, key)) is not None}
    entries = tuple(_absolute_weights(entry) for entry in search.start_with)
    return config.model_copy(
        update={
            "data": data.model_copy(update=paths),
            "trial": _absolute_weights(config.trial),
            "search": search.model_copy(
                update={"start_with": entries, "warm_start": tuple(map(absolute, search.warm_start))}
            ),
        }
    )


def _absolute_weights(space: Any) -> Any:
    if isinstance(space, Choice):
        return Choice(tuple(_absolute_weights(option) for option in space.options))
    if isinstance(space, Mapping):
        return {key: _absolute_weights(value) for key, value in space.items()}
    return _absolute(space) if isinstance(space, str) and space.endswith(WEIGHT_FILES) else space


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
