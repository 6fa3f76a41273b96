"""The best trials trained again on fresh seeds, so that the luck of one training decides nothing."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from medtune.config.default import trial_config
from medtune.config.sweep import SweepConfig
from medtune.files import to_json, whole_lines, write_whole
from medtune.retraining.plan import without_patience
from medtune.search.attempts import Attempts
from medtune.search.folder import SweepFolder
from medtune.search.jobs import Batch
from medtune.search.launch import Launch, on_ray
from medtune.search.ledger import Ledger
from medtune.search.loading import load_search_data
from medtune.search.resources import Share
from medtune.search.sweep import JobMaker, check_data
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
    """values: the metric of each fresh seed at the chosen epoch, in order of the seeds. failed: why a training did, by
    the index of its seed; one that fails cannot win."""

    trial: int
    epoch: int
    values: Sequence[float]
    failed: Mapping[int, str] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """NaN where a training failed."""
        return math.nan if self.failed else mean(self.values)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Finalist":
        failed = {int(index): why for index, why in told["failed"].items()}
        return cls(told["trial"], told["epoch"], told["values"], failed)

    def as_json(self) -> dict[str, Any]:
        deviation = stdev(self.values) if len(self.values) > 1 else None
        average = None if self.failed else self.mean
        told = {"trial": self.trial, "epoch": self.epoch, "values": list(self.values), "failed": dict(self.failed)}
        return {**told, "mean": average, "deviation": deviation}


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
    is not trained again, and what was interrupted goes on from its checkpoint. Raises FolderError, KeyboardInterrupt
    and, where every finalist failed, TrainingFailed.
    """
    check_data(folder, config)
    wanted = [Bout(trial, epoch, index) for trial, epoch in candidates for index in range(seeds)]
    results = folder.path / "finalists" / "results.jsonl"
    known = _known(results)
    bouts = [bout for bout in wanted if bout not in known]
    failed: dict[Bout, str] = {}
    if bouts:
        batch = launch(
            folder, config, partial(load_search_data, config), partial(_batch, folder, config, bouts, on_epoch)
        )
        _write(results, bouts, batch)
        if len(batch.failed) == len(bouts) or not batch.finished:
            batch.check(lambda job: f"finalist {bouts[job].trial}, seed {bouts[job].index + 1}")
        known, failed = _known(results), {bouts[job]: why for job, why in batch.failed.items()}
    finalists = [
        Finalist(
            trial,
            epoch,
            [known[bout][config.search.metric] for bout in wanted if _of(bout, trial, epoch) and bout in known],
            {bout.index: why for bout, why in failed.items() if _of(bout, trial, epoch)},
        )
        for trial, epoch in candidates
    ]
    sign = 1 if config.direction == "max" else -1
    return sorted(finalists, key=lambda one: (math.isnan(one.mean), -sign * one.mean if one.mean == one.mean else 0.0))


def _of(bout: Bout, trial: int, epoch: int) -> bool:
    return (bout.trial, bout.epoch) == (trial, epoch)


def _batch(folder: SweepFolder, config: SweepConfig, bouts: Sequence[Bout], on_epoch: OnEpoch, share: Share) -> Batch:
    make_job, ledger = JobMaker(config, share), Ledger(folder, config)

    def job(number: int, bout: Bout) -> Job:
        trial = without_patience(trial_config(config.trial, ledger.point(bout.trial))).model_dump(mode="json")
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
    lines = [{**line, **vars(bout)} for bout, line in _known(path).items()]
    lines += [{**batch.records[job][bouts[job].epoch], **vars(bouts[job])} for job in sorted(batch.done)]
    write_whole(path, "".join(to_json(line) + "\n" for line in lines).encode())
    for job in batch.done:
        Attempts(batch.jobs[job].storage).clear()


def _known(path: Path) -> dict[Bout, dict[str, float]]:
    return dict(_lines(path)) if path.exists() else {}


def _lines(path: Path) -> Iterator[tuple[Bout, dict[str, float]]]:
    for line in whole_lines(path.read_text()):
        yield Bout(line["trial"], line["epoch"], line["index"]), line
