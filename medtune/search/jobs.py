"""Jobs, and who hands them out: what an engine runs, and the plainest kind of it."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol

from medtune.search.entries import State
from medtune.search.failures import NoRoom
from medtune.search.worker import Job, Message, SearchData, run_job

OnEpoch = Callable[[Job, dict[str, Any]], None]  # a job, and the record of an epoch of it; of an earlier start too


class TrainingFailed(Exception):
    """A training that nothing can do without failed; the text says which, why, and what to do."""


class Run(Protocol):
    """What an engine asks for jobs, tells what the workers say, and obeys. `live`: the numbers of the jobs that run."""

    @property
    def live(self) -> Collection[int]: ...

    @property
    def stopping(self) -> bool: ...

    def next_job(self) -> Job | None: ...

    def knows(self, number: int, epoch: int | None) -> bool: ...

    def message(self, number: int, message: Message) -> bool: ...

    def end(self, number: int, state: State, note: str = "") -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class Batch:
    """Jobs that are all run to their end: nobody is asked which comes next, and nothing is pruned.

    records: by a job's number the numbers of its epochs, those of an earlier attempt too. failed: why, by number.
    """

    def __init__(self, jobs: Sequence[Job], on_epoch: OnEpoch) -> None:
        self._waiting, self._on_epoch = list(jobs), on_epoch
        self.jobs = {job.trial: job for job in jobs}
        self.live: set[int] = set()
        self.records: dict[int, dict[int, dict[str, Any]]] = {job.trial: {} for job in jobs}
        self.failed: dict[int, str] = {}
        self.done: set[int] = set()
        self.stopping = False

    @property
    def finished(self) -> bool:
        """Whether every job has come to an end, good or bad."""
        return len(self.done) + len(self.failed) == len(self.jobs)

    def check(self, name: Callable[[int], str]) -> None:
        """Raises TrainingFailed where a job failed, and KeyboardInterrupt where it was stopped before its end. name: of
        a job, by its number, for people."""
        if self.stopping and not self.finished:
            raise KeyboardInterrupt
        lost = dict.fromkeys(self.jobs.keys() - self.done, "another process has taken it over")
        if lost:
            why = "; ".join(f"{name(number)} failed: {why}" for number, why in sorted((lost | self.failed).items()))
            raise TrainingFailed(f"{why}; what has ended is kept: the same command goes on, or choose without it")

    def next_job(self) -> Job | None:
        if self.stopping or not self._waiting:
            return None
        job = self._waiting.pop(0)
        self.live.add(job.trial)
        return job

    def knows(self, number: int, epoch: int | None) -> bool:
        return epoch in self.records[number]

    def message(self, number: int, message: Message) -> bool:
        """Takes in an epoch or a failure. Whether the job goes on. Raises NoRoom."""
        if "full" in message:
            raise NoRoom(message["full"])
        if "failed" in message:
            self.end(number, "failed", message["failed"])
        else:
            record = {name: value for name, value in message.items() if name not in ("last", "at", "halved_from")}
            if not self.knows(number, record["epoch"]):
                self.records[number][record["epoch"]] = record
                self._on_epoch(self.jobs[number], {**record, "at": message["at"]})
            if message["last"]:
                self.end(number, "complete")
        return number in self.live

    def end(self, number: int, state: State, note: str = "") -> None:
        self.live.discard(number)
        if state == "failed":
            self.failed[number] = note
        else:
            self.done.add(number)

    def interrupt(self) -> None:
        self.stopping = True

    def close(self) -> None:
        """What still runs goes on from its checkpoint another time."""


def run_here(run: Run, data: SearchData) -> None:
    """Runs the jobs one after another in this process: what one job alone needs, for an engine takes seconds to start.

    Ctrl-C ends it as it is, and the next time goes on from the last checkpoint.
    """
    while (job := run.next_job()) is not None:
        run_job(job, data, partial(run.message, job.trial))
    run.close()
