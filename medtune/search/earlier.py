"""Earlier sweeps, as `search.warm_start` names them: read once, when a sweep is made.

What is taken from them becomes entries of `search.start_with` in the `sweep.yaml` that the folder gets. So a resumed
sweep has the same points, whatever has become of the earlier one, and the driver knows nothing of warm starts.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from medtune.config.default import default_point, settings_at, start_points
from medtune.config.problems import ConfigError
from medtune.config.sweep import SweepConfig
from medtune.search.dimensions import dimensions
from medtune.search.folder import SweepFolder
from medtune.search.reading import read_ledger
from medtune.search.warm_start import Candidate, EarlierSweep, EarlierTrial, as_entry, default_count, warm_points

ReadExperiment = Callable[[SweepConfig, Path, str], Sequence[EarlierSweep]]


def no_server(config: SweepConfig, folder: Path, name: str) -> Sequence[EarlierSweep]:
    """Where no tracking server is looked at, no experiment is there."""
    raise ConfigError([f"search.warm_start: {name} is no folder of a sweep; give the one that `medtune sweep` named"])


def with_warm_start(config: SweepConfig, folder: Path, read_experiment: ReadExperiment = no_server) -> SweepConfig:
    """The configuration with the points of earlier sweeps behind its own `start_with`; `warm_start` stays as a record.

    folder: of this sweep, beside which its tracking database lies. read_experiment: the sweeps of an experiment of the
    tracking server, from the configuration, this folder and the name. What was taken from where is said on stderr.
    Raises ConfigError where there is no such sweep.
    """
    search, space = config.search, config.trial
    if not search.warm_start:
        return config
    sweeps = [sweep for name in search.warm_start for sweep in _read(config, folder, name, read_experiment)]
    taken = [default_point(space), *start_points(space, search.start_with)]
    chosen, notes = warm_points(space, sweeps, default_count(search.trials), taken)
    for line in [*notes, _told(chosen, len(_distinct(taken)))]:
        print(f"warm start: {line}", file=sys.stderr)
    entries = (*search.start_with, *(as_entry(space, candidate.point) for candidate in chosen))
    return config.model_copy(update={"search": search.model_copy(update={"start_with": entries})})


def absolute(name: str) -> str:
    """The folder of a sweep with a path that is right from anywhere; the name of an experiment as it is."""
    path = Path(name).expanduser()
    return str(path.absolute()) if _holds_a_sweep(path) else name


def _read(config: SweepConfig, folder: Path, name: str, read_experiment: ReadExperiment) -> Sequence[EarlierSweep]:
    path = Path(name).expanduser()
    # a folder of another kind may well be called like an experiment
    return [sweep_in(path)] if _holds_a_sweep(path) else read_experiment(config, folder, name)


def _holds_a_sweep(path: Path) -> bool:
    return SweepFolder(path).id_file.exists()


def sweep_in(path: Path) -> EarlierSweep:
    """A sweep from its folder, finished or not, in which nothing changes. Raises FolderError where there is none."""
    folder = SweepFolder.open(path)
    config = folder.config()
    entries, points, _ = read_ledger(folder, config)
    trials = [
        EarlierTrial(entry, settings_at(config.trial, points[entry.number]).model_dump(mode="json"))
        for entry in entries
        if entry.number in points
    ]
    return EarlierSweep(str(path), config.direction, swept_names(config), trials)


def swept_names(config: SweepConfig) -> frozenset[str]:
    """The names of the dimensions of a sweep, without branches."""
    return frozenset(dimension.name for dimension in dimensions(config.trial))


def _told(chosen: Sequence[Candidate], first: int) -> str:
    """Which trials begin with which earlier ones."""
    if not chosen:
        return "nothing is taken over that is not tried anyhow"
    return ", ".join(
        f"trial {first + index} begins as trial {one.trial} of {one.sweep}" for index, one in enumerate(chosen)
    )


def _distinct(points: Sequence[dict[str, object]]) -> set[str]:
    return {repr(sorted(point.items())) for point in points}
