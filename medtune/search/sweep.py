"""A sweep from its file to its end, new or gone on with: folder, data, engine, ledger."""

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from medtune.config.read import read_sweep
from medtune.config.space import Choice, Range
from medtune.config.sweep import SweepConfig
from medtune.config.trial import METRICS
from medtune.data.catalogue import describe
from medtune.data.fetch import fetch
from medtune.data.splits import data_md5
from medtune.search.changes import changes, refuse_fixed
from medtune.search.earlier import ReadExperiment, no_server
from medtune.search.events import Watcher
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.launch import on_ray
from medtune.search.loading import load_search_data
from medtune.search.paths import FetchModel
from medtune.search.prepare import no_registry, prepare
from medtune.search.resources import Share
from medtune.search.worker import Job
from medtune.training.device import Precision, resolve_precision
from medtune.training.seeds import trial_seed

SECONDS_AN_HOUR = 3600


def create_sweep(
    config: SweepConfig,
    folder: SweepFolder,
    read_experiment: ReadExperiment = no_server,
    fetch_model: FetchModel = no_registry,
) -> tuple[SweepFolder, SweepConfig]:
    """Makes a folder that was claimed the folder of a sweep. The folder, and the configuration as it is run.

    Data and weights are fetched first; where that fails, the folder is taken away again. read_experiment: for a warm
    start from the tracking server, see `with_warm_start`; fetch_model: see `from_anywhere`. Raises ConfigError,
    DataError, FolderError.
    """
    try:
        config = prepare(config, folder.path, read_experiment, fetch_model)
        folder.begin(config, None if config.data.folder is None else data_md5(config.data))
    except BaseException:
        folder.abandon()
        raise
    return folder, config


def check_data(folder: SweepFolder, config: SweepConfig) -> None:
    """Raises FolderError where a folder of pictures is no longer what the sweep began with: it would be divided anew,
    and cases of the test could be among those that a model was trained on."""
    if config.data.folder is None:
        return
    if not folder.data_md5_file.exists():
        raise FolderError(f"{folder.path} was killed while it was made; remove it, and start the sweep again")
    fetch(config.data)
    if data_md5(config.data) != folder.data_md5_file.read_text():
        raise FolderError(
            f"{config.data.folder} has changed since the sweep {folder.path} began; "
            "bring the pictures back as they were, or start another sweep"
        )


def reopen_sweep(folder: SweepFolder, overrides: Sequence[str] = ()) -> tuple[SweepFolder, SweepConfig]:
    """The folder of a sweep to go on with, which is locked, and its configuration: what `sweep.yaml` says now, with
    `key=value` overrides on top, which are written into it. What has changed since the last start is told on stderr.

    Raises, with the folder unlocked, ConfigError where something has changed that cannot, FolderError where there are
    more trials already, or where the pictures have changed.
    """
    try:
        config = _taken_up(folder, overrides)
        check_data(folder, config)
    except BaseException:
        folder.unlock()
        raise
    if overrides:
        folder.write_config(config)
    folder.write_begun(config)
    return folder, config


def _taken_up(folder: SweepFolder, overrides: Sequence[str]) -> SweepConfig:
    config = read_sweep(folder.config_file, overrides)
    begun = read_sweep(folder.begun_file) if folder.begun_file.exists() else folder.config()
    found = changes(begun, config)
    refuse_fixed(found, folder.config_file, overrides)
    if config.search.trials < begun.search.trials:
        from medtune.search.ledger import Ledger

        had = len(Ledger(folder, config).entries())
        if config.search.trials < had:
            raise FolderError(
                f"{folder.path} has {had} trials already; --trials is the number in all, give {had} or more"
            )
    for change in found:
        print(f"changed  {change.key} {change.before} -> {change.now}", file=sys.stderr)
    return config


def run_sweep(folder: SweepFolder, config: SweepConfig, watchers: Sequence[Watcher] = ()) -> bool:
    """Runs what the ledger lacks. Whether the sweep is complete: not interrupted and within its budget."""
    run = on_ray(folder, config, partial(load_search_data, config), partial(_sweep_run, folder, config, watchers))
    return bool(run.finished)


def _sweep_run(folder: SweepFolder, config: SweepConfig, watchers: Sequence[Watcher], share: Share) -> Any:
    from medtune.search.ledger import Ledger
    from medtune.search.pruning import build_pruner
    from medtune.search.run import SweepRun

    run = SweepRun(
        folder,
        config,
        Ledger(folder, config, write=True),
        build_pruner(config.pruning, config.direction, longest(config.trial)),
        JobMaker(config, share),
        watchers,
    )
    if config.budget.hours is not None:
        run.deadline = time.monotonic() + config.budget.hours * SECONDS_AN_HOUR
    return run


class JobMaker:
    """Makes the jobs of a sweep's trials."""

    def __init__(self, config: SweepConfig, share: Share) -> None:
        self.config, self.share = config, share
        info = describe(config.data)
        self.task, self.classes = info.task, len(info.classes)

    def __call__(self, number: int, trial: dict[str, Any], storage: str) -> Job:
        return Job(
            trial=number,
            config=trial,
            seed=trial_seed(self.config.seed, number),
            task=self.task,
            classes=self.classes,
            device=self.share.device,
            precision=self._precision(trial["precision"]),
            threads=self.share.cpus,
            metric=self.config.epoch_metric,
            direction=METRICS[self.config.epoch_metric],
            storage=storage,
        )

    def _precision(self, wanted: Literal["auto", "float32", "bfloat16"]) -> Precision:
        """`auto` means the same on every machine."""
        if wanted == "auto" and self.share.precision is not None:
            return self.share.precision
        return resolve_precision(wanted, self.share.device)


def longest(space: dict[str, Any]) -> int:
    """The most epochs that a trial of the space can have."""
    return int(_largest(space["epochs"]))


def _largest(epochs: Any) -> float:
    if isinstance(epochs, Choice):
        return max(_largest(option) for option in epochs.options)
    return epochs.high if isinstance(epochs, Range) else epochs
