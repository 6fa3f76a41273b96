"""A sweep in its driver: which trial comes next, what an epoch means for it, and how it ends.

Knows no engine: whatever runs the trials asks `next_job`, passes on each message of a worker and obeys the answer.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medtune.config.default import Point, default_point, settings_at, start_points, swept_values
from medtune.config.space import grid
from medtune.config.sweep import SweepConfig
from medtune.config.trial import METRICS
from medtune.search.attempts import Attempts, Saved
from medtune.search.entries import Entry, State, best_epoch_of, broken_by, ranked, violation
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted, Watcher
from medtune.search.failures import NoRoom
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.pruning import Pruner
from medtune.search.record import as_used, shared_by_trials
from medtune.search.worker import Job, Message

GB = 1e9  # bytes
HEADER = 2**16  # bytes at most of a file of weights that are none
DEFAULT_TRIAL = 0  # the untuned default, which is never pruned


@dataclass
class Live:
    """A trial that runs now. `logged`: epochs in the folder; `values`: the metric by epoch, as in the ledger."""

    job: Job | None = None
    halved_from: int | None = None
    at: dict[int, float] = field(default_factory=dict)  # when each epoch ended
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
        self._with_weights = set(folder.with_weights())
        self._drop_weights({})  # the limits may have been lowered since
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
        if "full" in message:
            raise NoRoom(message["full"])
        if "failed" in message:
            self.end(number, "failed", message["failed"])
        else:
            self._write_halved(number, message.get("halved_from"))
            stop = not self.knows(number, message["epoch"]) and self._take_in(number, self.live[number], message)
            if message["last"]:
                self.end(number, "complete")
            elif stop:
                self.end(number, "pruned")
        return number in self.live

    def _write_halved(self, number: int, epoch: int | None) -> None:
        """The record of a trial says from which epoch on it went through the model in halves."""
        live = self.live[number]
        if epoch is not None and epoch != live.halved_from and live.job is not None:
            live.halved_from = epoch
            self.folder.start_trial(number, as_used(live.job, self._shared, epoch))
            self._tell(lambda watcher: watcher.trial_halved(number, epoch))

    def _take_in(self, number: int, live: Live, message: Message) -> bool:
        """Whether the pruner ends the trial here. The ledger is written last: what it has, all others have."""
        values = {key: value for key, value in message.items() if key not in ("epoch", "last", "at", "halved_from")}
        epoch, value = message["epoch"], values[self.config.search.metric]
        if epoch not in live.logged:
            at = message["at"] or time.time()
            self._tell(lambda watcher: watcher.epoch_ended(EpochEnded(number, epoch, at, values)))
            self.folder.append_epoch(number, {"epoch": epoch, "at": at, **values})
            live.logged[epoch], live.at[epoch] = values, at
        live.values[epoch] = value
        live.best_epoch = self._best_epoch(live)
        stop = self.pruner.stop(number, epoch, value) and number != DEFAULT_TRIAL and not message["last"]
        self.ledger.report(number, epoch, value, live.best_epoch == epoch, stop)
        return stop

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
        best, at = (live.logged[live.best_epoch], live.at[live.best_epoch]) if live.best_epoch else ({}, 0.0)
        ended = TrialEnded(entry.number, entry.state, live.best_epoch, best, entry.note, entry.violation, at)
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
        """Of the best trials, as far as there is room. What goes, goes first, so that the limit always holds."""
        keep = self.config.keep
        best = [entry.number for entry in ranked(self._ended.values(), self.config.direction)[: keep.weights]]
        weights = {
            which: attempts.weights(checkpoint)
            for which, checkpoint in saved.items()
            if number in best and checkpoint is not None and (which == "best" or keep.last)
        }
        size = sum(HEADER + sum(array.nbytes for array in arrays.values()) for arrays in weights.values())
        if number in self._drop_weights({number: size}):
            self._with_weights.add(number)
            for which, arrays in weights.items():
                self.folder.write_weights(number, arrays, which)

    def _drop_weights(self, coming: Mapping[int, int]) -> set[int]:
        """Drops the weights of all trials but those that keep theirs. coming: bytes of those that are to be written."""
        keep, kept = self.config.keep, set()
        room = (keep.gb or math.inf) * GB
        for one in ranked(self._ended.values(), self.config.direction)[: keep.weights]:
            needed = coming.get(one.number, 0) or self.folder.weights_size(one.number)
            if needed <= room:
                kept.add(one.number)
                room -= needed
        for other in self._with_weights - kept:
            self.folder.drop_weights(other)
        self._with_weights &= kept
        return kept

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
        """The trials that had ended when a kill came: those whose attempts are still there, and those that the pruner
        had just stopped."""
        for entry in list(self._ended.values()):
            if Attempts(self._storage(entry.number)).current():
                self._finish(entry, self._revived(entry))
        for number in [number for number in self._unfinished if self._past[number].stopped]:
            self._unfinished.remove(number)
            self.ledger.reopen(number)
            self.live[number] = self._revived(self._past[number])
            self.end(number, "pruned")

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
        trial = settings_at(self.config.trial, point)
        job = self.make_job(number, trial.model_dump(mode="json"), self._storage(number))
        attempt = Attempts(self._storage(number)).current() + 1
        if attempt > 1:  # what changes numbers stays, whatever the share is now
            used = self.folder.used(number)
            job = replace(job, precision=used["precision"], threads=used["threads"])
        self.live[number] = self._revived(self._past.get(number, Entry(number, "unfinished")), job)
        config = as_used(job, self._shared)
        self.folder.start_trial(number, config)
        started = TrialStarted(number, attempt, swept_values(self.config.trial, point, trial), config)
        self._tell(lambda watcher: watcher.trial_started(started))
        return job

    def _revived(self, entry: Entry, job: Job | None = None) -> Live:
        """A trial as the ledger and its folder left it."""
        live = Live(job, values=dict(entry.values))
        for record in self.folder.mend_epochs(entry.number):
            epoch, live.at[epoch] = record.pop("epoch"), record.pop("at")
            live.logged[epoch] = record
        live.best_epoch = self._best_epoch(live)
        return live

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
