"""What must be there before a sweep starts: its data, its weights, its layers, and paths that hold everywhere."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtune.config.kinds import kind_of, section_of
from medtune.config.problems import ConfigError
from medtune.config.space import Choice, corners, grid, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.trial import EncoderConfig, ModelConfig, TrialConfig
from medtune.data import DataError
from medtune.data.catalogue import describe
from medtune.data.fetch import fetch
from medtune.data.splits import data_md5
from medtune.models.pretrained import described
from medtune.models.published import WEIGHT_FILES, fetch_weights
from medtune.search.earlier import ReadExperiment, no_server, with_warm_start
from medtune.search.paths import FetchModel, from_anywhere


def no_registry(address: str) -> Path:
    """Where no tracking server is looked at, nothing is registered."""
    raise DataError(f"model.weights: {address} is in a registry; give the folder that `medtune pretrain` made")


def prepare(
    config: SweepConfig,
    folder: Path,
    read_experiment: ReadExperiment = no_server,
    fetch_model: FetchModel = no_registry,
) -> SweepConfig:
    """Fetches data and weights. The configuration with paths that are right for every worker, and wherever the sweep is
    gone on with, and with the points that it begins with. folder, read_experiment: see `with_warm_start`; fetch_model:
    see `from_anywhere`.

    Raises ConfigError where there is no sweep to begin with or a model has no such layer, FolderError where the
    ledger's database cannot be used, DataError where something is not to be had.
    """
    if config.cluster.ledger is not None:
        from medtune.search.database import open_database

        open_database(config.cluster.ledger)
    config = with_warm_start(from_anywhere(config, fetch_model), folder, read_experiment)
    if config.data.folder is not None or not describe(config.data).made:
        fetch(config.data)
    for model in _pretrained(config.trial["model"]):
        path = fetch_weights(model)
        if path is not None and (told := described(path)) is not None:
            _check_encoder(path, told, model, config)
    _check_layers(config)
    return config


def _check_encoder(path: Path, told: Mapping[str, Any], model: EncoderConfig, config: SweepConfig) -> None:
    """Raises ConfigError where an encoder is of another network. Says on stderr what it may have seen of the data.

    The sizes of a MedMNIST set are divided alike, so that one of them tells of the others."""
    of, data = told["config"]["model"], config.data
    if (of["name"], of["skip"]) != (model.name, model.skip):
        network = f"{{name: {of['name']}, skip: {str(of['skip']).lower()}}}"
        raise ConfigError([f"{section_of(config.trial)}.model.weights: {path} is of {network}; write that model"])
    alike = (told["dataset"], told["folder"]) == (data.title, data.folder is not None)
    same = alike and (data.folder is None or told["data_md5"] == data_md5(data))
    if same and told["images"] != "train":
        what = "was pretrained on the validation images too, without their labels: what is validated may be too good"
        print(f"weights  {path} {what}", file=sys.stderr)
    if not same and told["folder"] and data.folder is not None:
        what = f"was pretrained on {told['dataset']}; see to it that none of its pictures is in this folder's test"
        print(f"weights  {path} {what}", file=sys.stderr)


def weight_files(config: SweepConfig) -> list[str]:
    """The files of weights that models of a sweep begin with, but for those that are published: they are fetched where
    they are needed."""
    given = (model.weights for model in _pretrained(config.trial["model"]))
    return sorted({path for path in given if path is not None and path.endswith(WEIGHT_FILES)})


def _pretrained(space: Any) -> list[EncoderConfig]:
    """Every model of a space with every weights that it may have."""
    reduced = _only(space, ("name", "weights", "skip"))
    return [EncoderConfig.model_validate(resolve(reduced, lambda path, _, at=at: at[path])) for at in grid(reduced)]  # type: ignore[misc]


def _only(space: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(space, Choice):
        return Choice(tuple(_only(option, keys) for option in space.options))
    return {key: space[key] for key in keys if key in space}


def _check_layers(config: SweepConfig) -> None:
    """Builds, without weights, the models of which only some layers train, because torch knows their names alone."""
    if kind_of(config.trial) is not TrialConfig:
        return
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
