"""A sweep in its driver: which trial comes next, what an epoch means for it, and how it ends.

Knows no engine: whatever runs the trials asks `next_job`, passes on each message of a worker and obeys the answer.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medtune.config.default import Point, default_point, start_points, swept_values, trial_config
from medtune.config.space import grid
from medtune.config.sweep import SweepConfig
from medtune.config.trial import METRICS
from medtune.search.attempts import Attempts, Saved
from medtune.search.entries import Entry, State, best_epoch_of, broken_by, ranked, violation
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted, Watcher
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.pruning import Pruner
from medtune.search.record import as_used, shared_by_trials
from medtune.search.worker import Job, Message

DEFAULT_TRIAL = 0  # the untuned default, which is never pruned


@dataclass
class Live:
    """A trial that runs now. `logged`: epochs in the folder; `values`: the metric by epoch, as in the ledger."""

    best_epoch: int | None = None
    logged: dict[int, dict[str, float]] = field(default_factory=dict)
    values: dict[int, float] = field(default_factory=dict)


class SweepRun:
    """`make_job(number, config, seed, storage)` fills in what all trials of the sweep share."""

    def __init__(
        self,
        folder: SweepFolder,
        config: SweepConfig,
        ledger: Ledger,
        pruner: Pruner,
        make_job: Callable[[int, dict[str, Any], str], Job],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self.folder, self.config, self.ledger, self.pruner = folder, config, ledger, pruner
        self.make_job, self.watchers = make_job, watchers
        self.live: dict[int, Live] = {}
        self._shared = shared_by_trials(config)
        self.interrupted = False
        self.deadline = math.inf
        self._take_up_the_past()
        self._presets = self._preset_points()
        self._tell(lambda watcher: watcher.opened(self.wanted, list(self._past.values())))
        self._finish_the_half_finished()

    # ---------------------------------------------------------------- what comes next

    def next_job(self) -> Job | None:
        """The next trial to start: an unfinished one first. None when no more are wanted."""
        if self.stopping:
            return None
        if self._unfinished:
            number = self._unfinished.pop(0)
            return self._start(number, self.ledger.reopen(number))
        if self.asked >= self.wanted:
            return None
        number, point = self.ledger.ask(next(self._presets, None))
        self.asked += 1
        return self._start(number, point)

    @property
    def wanted(self) -> int:
        """How many trials the sweep is to have in all."""
        return min(self.config.search.trials, self._points)

    @property
    def stopping(self) -> bool:
        """Whether the sweep is to end now, with what runs left unfinished."""
        return self.interrupted or time.monotonic() > self.deadline

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do; a signal that comes after the last trial changes nothing."""
        return not self.live and not self._unfinished and self.asked >= self.wanted

    def interrupt(self) -> None:
        self.interrupted = True

    # ---------------------------------------------------------------- what a worker says

    def knows(self, number: int, epoch: int | None) -> bool:
        """Whether an epoch of a running trial is in the ledger."""
        return epoch in self.live[number].values

    def message(self, number: int, message: Message) -> bool:
        """Takes in an epoch or a failure. Whether the trial goes on."""
        if "failed" in message:
            self.end(number, "failed", message["failed"])
            return False
        live, epoch = self.live[number], message["epoch"]
        replayed = self.knows(number, epoch)
        if not replayed:
            self._take_in(number, live, message)
        stop = not replayed and self.pruner.stop(number, epoch, live.values[epoch])
        if message["last"]:
            self.end(number, "complete")
        elif stop and number != DEFAULT_TRIAL:
            self.end(number, "pruned")
        return number in self.live

    def _take_in(self, number: int, live: Live, message: Message) -> None:
        """The ledger is written last: what it has, all others have."""
        values = {key: value for key, value in message.items() if key not in ("epoch", "last", "at")}
        epoch, value = message["epoch"], values[self.config.search.metric]
        if epoch not in live.logged:
            at = message["at"] or time.time()
            self._tell(lambda watcher: watcher.epoch_ended(EpochEnded(number, epoch, at, values)))
            self.folder.append_epoch(number, {"epoch": epoch, "at": at, **values})
            live.logged[epoch] = values
        live.values[epoch] = value
        live.best_epoch = self._best_epoch(live)
        self.ledger.report(number, epoch, value, live.best_epoch == epoch)

    # ---------------------------------------------------------------- how a trial ends

    def end(self, number: int, state: State, note: str = "") -> None:
        """A trial is over. A complete one without a value has failed: nothing could rank it."""
        live = self.live.pop(number)
        value = live.values[live.best_epoch] if live.best_epoch else math.nan
        if state == "complete" and math.isnan(value):
            metric = self.config.search.metric if live.best_epoch else self.config.epoch_metric
            state, note = "failed", f"{metric} is not defined on this validation split"
        best = live.logged[live.best_epoch] if state == "complete" and live.best_epoch else None
        broken = {} if best is None else broken_by(best, self.config.search.constraints)
        self.ledger.tell(number, state, value, note, broken)
        self._finish(Entry(number, state, live.values, value, live.best_epoch, note, violation(broken)), live)

    def _finish(self, entry: Entry, live: Live) -> None:
        """All that follows from the ledger's word. The attempts go last: a kill before leaves it to be done again."""
        self.tidy(entry)
        self._announce_end(entry, live)
        Attempts(self._storage(entry.number)).clear()

    def close(self) -> None:
        """The engine has stopped: what still runs is unfinished, and stays so in the ledger."""
        for number, live in self.live.items():
            self._announce_end(Entry(number, "unfinished"), live)
        self._tell(lambda watcher: watcher.closed(not self.finished))

    def _announce_end(self, entry: Entry, live: Live) -> None:
        best = live.logged[live.best_epoch] if live.best_epoch else {}
        ended = TrialEnded(entry.number, entry.state, live.best_epoch, best, entry.note, entry.violation)
        self._tell(lambda watcher: watcher.trial_ended(ended))

    def tidy(self, entry: Entry) -> None:
        """From the last checkpoint to what is kept: predictions of all, weights of the best. Can be done twice."""
        attempts = Attempts(self._storage(entry.number))
        last = attempts.last()
        if last is not None:
            predictions, best_epoch = attempts.predictions(last)
            self.folder.write_predictions(entry.number, predictions)
            if best_epoch is not None:
                self._ended[entry.number] = entry
                self._keep_weights(entry.number, attempts, {"best": attempts.of_epoch(best_epoch), "last": last})

    def _keep_weights(self, number: int, attempts: Attempts, saved: Mapping[str, Saved | None]) -> None:
        keep = self.config.keep
        kept = {entry.number for entry in ranked(self._ended.values(), self.config.direction)[: keep.weights]}
        for which, checkpoint in saved.items():
            if number in kept and checkpoint is not None and (which == "best" or keep.last):
                self.folder.write_weights(number, attempts.weights(checkpoint), which)
        for other in self.folder.with_weights():
            if other not in kept:
                self.folder.drop_weights(other)

    # ---------------------------------------------------------------- the past, and the plan

    def _take_up_the_past(self) -> None:
        """Plays what the ledger holds into the pruner."""
        entries = self.ledger.entries()
        for entry in entries:
            for epoch, value in entry.values.items():
                self.pruner.stop(entry.number, epoch, value)
        self._ended = {entry.number: entry for entry in entries if entry.state != "unfinished"}
        self._unfinished = [entry.number for entry in entries if entry.state == "unfinished"]
        self.asked = len(entries)
        self._past = {entry.number: entry for entry in entries}

    def _finish_the_half_finished(self) -> None:
        """The trials that had ended when a kill came, and whose attempts are still there."""
        for entry in list(self._ended.values()):
            if Attempts(self._storage(entry.number)).current():
                self._finish(entry, Live(entry.best_epoch, self._logged(entry.number)))

    def _preset_points(self) -> Iterator[Point]:
        """The default, then what the file wants to start with, then, for a grid, every other point of it."""
        space, search = self.config.trial, self.config.search
        points = [default_point(space), *start_points(space, search.start_with)]
        if search.sampler == "grid":
            points += grid(space)
        unique = list({repr(sorted(point.items())): point for point in points}.values())
        self._points = len(unique) if search.sampler == "grid" else search.trials
        return iter(unique[self.asked :])

    # ---------------------------------------------------------------- small things

    def _start(self, number: int, point: Point) -> Job:
        trial = trial_config(self.config.trial, point)
        job = self.make_job(number, trial.model_dump(mode="json"), self._storage(number))
        attempt = Attempts(self._storage(number)).current() + 1
        past = self._past.get(number, Entry(number, "unfinished"))
        live = self.live[number] = Live(None, self._logged(number), dict(past.values))
        live.best_epoch = self._best_epoch(live)
        config = as_used(job, self._shared)
        self.folder.start_trial(number, config)
        started = TrialStarted(number, attempt, swept_values(self.config.trial, point, trial), config)
        self._tell(lambda watcher: watcher.trial_started(started))
        return job

    def _logged(self, number: int) -> dict[int, dict[str, float]]:
        records = self.folder.mend_epochs(number)
        return {r["epoch"]: {key: r[key] for key in r if key not in ("epoch", "at")} for r in records}

    def _storage(self, number: int) -> str:
        return self.folder.storage(self.config.cluster.storage, f"trials/{number:04d}")

    def _best_epoch(self, live: Live) -> int | None:
        """The first best of the epochs that the ledger has, by the metric that chooses epochs, from the folder."""
        metric = self.config.epoch_metric
        known = {epoch: live.logged[epoch][metric] for epoch in live.values if epoch in live.logged}
        return best_epoch_of(known, METRICS[metric])

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        for watcher in self.watchers:
            what(watcher)
