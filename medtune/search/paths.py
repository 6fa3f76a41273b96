"""Paths of a sweep file, made right for every worker, and wherever the sweep is gone on with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medtune.config.space import Choice
from medtune.config.sweep import SweepConfig
from medtune.data import DataError
from medtune.models import IMAGENET
from medtune.models.pretrained import encoder_in
from medtune.search.earlier import absolute

REGISTERED = "models:/"
FetchModel = Callable[[str], Path]  # the folder of what is registered under an address


def from_anywhere(config: SweepConfig, fetch_model: FetchModel | None = None) -> SweepConfig:
    """The configuration with absolute paths; weights of a folder, and where `fetch_model` is given of the registry, are
    the file that is meant. Raises DataError where it is not to be had."""
    data, search = config.data, config.search

    def file_of(weights: str) -> str:
        if weights == IMAGENET or (weights.startswith(REGISTERED) and fetch_model is None):
            return weights
        if weights.startswith(REGISTERED) and fetch_model is not None:
            found = encoder_in(fetch_model(weights))
            if found is None:
                raise DataError(f"model.weights: {weights} is no encoder: `medtune pretrain` registers those")
            return str(found)
        found = encoder_in(Path(weights).expanduser())
        return _absolute(weights if found is None else str(found))

    paths = {key: _absolute(path) for key in ("folder", "root") if (path := getattr(data, key)) is not None}
    entries = tuple(_with_weights(entry, file_of) for entry in search.start_with)
    return config.model_copy(
        update={
            "data": data.model_copy(update=paths),
            "trial": _with_weights(config.trial, file_of),
            "search": search.model_copy(
                update={"start_with": entries, "warm_start": tuple(map(absolute, search.warm_start))}
            ),
        }
    )


def _with_weights(space: Any, file_of: Callable[[str], str], here: bool = False) -> Any:
    """The tree with each value of a key `weights` in the place of which it stands. here: whether it is one."""
    if isinstance(space, Choice):
        return Choice(tuple(_with_weights(option, file_of, here) for option in space.options))
    if isinstance(space, Mapping):
        return {key: _with_weights(value, file_of, key.rpartition(".")[2] == "weights") for key, value in space.items()}
    return file_of(space) if here and isinstance(space, str) else space


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
