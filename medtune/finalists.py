"""The best trials trained again on fresh seeds, so that the luck of one training decides nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from medtune.config.default import trial_config
from medtune.config.sweep import SweepConfig
from medtune.config.trial import METRICS
from medtune.files import to_json, whole_lines
from medtune.search.attempts import Attempts
from medtune.search.folder import SweepFolder
from medtune.search.jobs import Batch
from medtune.search.launch import Launch, on_ray
from medtune.search.ledger import Ledger
from medtune.search.resources import Share
from medtune.search.sweep import JobMaker, check_data, load_search_data
from medtune.search.worker import Job
from medtune.training.seeds import FINALISTS, trial_seed


@dataclass(frozen=True)
class Bout:
    """One training of a finalist: a trial up to the epoch that was chosen, from the fresh seed of this index."""

    trial: int
    epoch: int
    index: int


@dataclass(frozen=True)
class Finalist:
    """values: the metric of each fresh seed at the chosen epoch, in order of the seeds."""

    trial: int
    epoch: int
    values: Sequence[float]

    def as_json(self) -> dict[str, Any]:
        deviation = stdev(self.values) if len(self.values) > 1 else None
        return {**vars(self), "values": list(self.values), "mean": mean(self.values), "deviation": deviation}


OnEpoch = Callable[[Bout, Mapping[str, Any]], None]


def run_finalists(
    folder: SweepFolder,
    config: SweepConfig,
    candidates: Sequence[tuple[int, int]],
    seeds: int,
    on_epoch: OnEpoch,
    launch: Launch = on_ray,
) -> list[Finalist]:
    """Trains each of the candidates (trial, epoch) from so many fresh seeds, the same for all, on what the sweep was
    searched on and in the same way. The best mean first; of equals the first candidate.

    The epoch is the chosen one and not chosen anew, so that no luck comes in again. What `finalists/results.jsonl` has
    is not trained again, and what was interrupted goes on from its checkpoint. Raises FolderError, TrainingFailed and
    KeyboardInterrupt.
    """
    check_data(folder, config)
    wanted = [Bout(trial, epoch, index) for trial, epoch in candidates for index in range(seeds)]
    results = folder.path / "finalists" / "results.jsonl"
    bouts = [bout for bout in wanted if bout not in _known(results)]
    if bouts:
        batch = launch(config, partial(load_search_data, config), partial(_batch, folder, config, bouts, on_epoch))
        _write(results, bouts, batch)
        batch.check(lambda job: f"finalist {bouts[job].trial}, seed {bouts[job].index}")
    known, metric = _known(results), config.search.metric
    finalists = [
        Finalist(trial, epoch, [known[Bout(trial, epoch, index)][metric] for index in range(seeds)])
        for trial, epoch in candidates
    ]
    sign = 1 if METRICS[metric] == "max" else -1
    return sorted(finalists, key=lambda finalist: -sign * mean(finalist.values))


def _batch(folder: SweepFolder, config: SweepConfig, bouts: Sequence[Bout], on_epoch: OnEpoch, share: Share) -> Batch:
    make_job, ledger = JobMaker(config, share), Ledger(folder.ledger, folder.sweep_id, config)

    def job(number: int, bout: Bout) -> Job:
        trial = trial_config(config.trial, ledger.point(bout.trial)).model_dump(mode="json")
        storage = folder.storage(config.cluster.storage, f"finalists/{bout.trial:04d}-{bout.epoch}-{bout.index}")
        seed = trial_seed(config.seed, FINALISTS + bout.index)
        return replace(make_job(number, trial, storage), seed=seed, stop=bout.epoch)

    return Batch(
        [job(number, bout) for number, bout in enumerate(bouts)],
        lambda job, record: on_epoch(bouts[job.trial], record),
    )


def _write(path: Path, bouts: Sequence[Bout], batch: Batch) -> None:
    """What has ended, and then its checkpoints may go."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        for job in sorted(batch.done):
            last = batch.records[job][max(batch.records[job])]
            file.write(to_json({**vars(bouts[job]), **{k: v for k, v in last.items() if k != "epoch"}}) + "\n")
    for job in batch.done:
        Attempts(batch.jobs[job].storage).clear()


def _known(path: Path) -> dict[Bout, dict[str, float]]:
    return dict(_lines(path)) if path.exists() else {}


def _lines(path: Path) -> Iterator[tuple[Bout, dict[str, float]]]:
    for line in whole_lines(path.read_text()):
        yield Bout(line["trial"], line["epoch"], line["index"]), line
