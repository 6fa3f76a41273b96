"""What must be there before a sweep starts: its data, its weights, its layers, and paths that hold everywhere."""

from pathlib import Path
from typing import Any

from medtune.config.problems import ConfigError
from medtune.config.space import Choice, corners, grid, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.trial import ModelConfig
from medtune.data.catalogue import describe
from medtune.data.fetch import fetch
from medtune.models.published import WEIGHT_FILES, fetch_weights
from medtune.search.earlier import ReadExperiment, no_server, with_warm_start
from medtune.search.paths import from_anywhere


def prepare(config: SweepConfig, folder: Path, read_experiment: ReadExperiment = no_server) -> SweepConfig:
    """Fetches data and weights. The configuration with paths that are right for every worker, and wherever the sweep is
    gone on with, and with the points that it begins with. folder, read_experiment: see `with_warm_start`.

    Raises ConfigError where there is no sweep to begin with or a model has no such layer, FolderError where the
    ledger's database cannot be used, DataError where something is not to be had.
    """
    if config.cluster.ledger is not None:
        from medtune.search.database import open_database

        open_database(config.cluster.ledger)
    config = with_warm_start(from_anywhere(config), folder, read_experiment)
    if config.data.folder is not None or not describe(config.data).made:
        fetch(config.data)
    for model in _pretrained(config.trial["model"]):
        fetch_weights(model)
    _check_layers(config)
    return config


def weight_files(config: SweepConfig) -> list[str]:
    """The files of weights that models of a sweep begin with, but for those that are published: they are fetched where
    they are needed."""
    given = (model.weights for model in _pretrained(config.trial["model"]))
    return sorted({path for path in given if path is not None and path.endswith(WEIGHT_FILES)})


def _pretrained(space: Any) -> list[ModelConfig]:
    """Every model of a space with every weights that it may have."""
    reduced = _only(space, ("name", "weights"))
    return [ModelConfig.model_validate(resolve(reduced, lambda path, _, at=at: at[path])) for at in grid(reduced)]  # type: ignore[misc]


def _only(space: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(space, Choice):
        return Choice(tuple(_only(option, keys) for option in space.options))
    return {key: space[key] for key in keys if key in space}


def _check_layers(config: SweepConfig) -> None:
    """Builds, without weights, the models of which only some layers train, because torch knows their names alone."""
    models = [ModelConfig.model_validate(resolve(config.trial, pick)["model"]) for pick in corners(config.trial)]
    partly = {(model.name, repr(model.finetune)): model for model in models if not isinstance(model.finetune, str)}
    if not partly:
        return
    from medtune.models.build import empty_model
    from medtune.models.finetune import set_trained

    channels = 3 if config.data.as_rgb else describe(config.data).channels
    for model in partly.values():
        try:
            set_trained(empty_model(model, channels, 2, config.data.side), model, epoch=1)
        except ValueError as error:
            raise ConfigError([f"trial.{error}"]) from None
