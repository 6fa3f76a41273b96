"""The machines of a sweep while it runs: which there are, how they are, what runs on them, and what they have cost."""

import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medtune.config.write import without_password
from medtune.files import write_whole
from medtune.search import cluster
from medtune.search.cluster import ClusterError, Observers
from medtune.search.jobs import Run
from medtune.search.machines import (
    Condition,
    Machine,
    condition,
    in_a_line,
    make_software,
    other_software,
    reach,
    software,
)
from medtune.search.usage import machine_hours

PERIOD = 3.0  # seconds between looks
SILENT = 4  # looks at a head that does not answer, after which it is taken for dead
TOLD = 3  # faults of machines in one line
PATIENCE = 30.0  # seconds for what machines that are known say of themselves
SECONDS_AN_HOUR = 3600


@dataclass
class Where:
    """A place that a trial has: a machine's id, and the GPUs' numbers there."""

    machine: str
    gpus: list[int] = field(default_factory=list)


class Watch(threading.Thread):
    """Looks at the machines from `start` to `stop`, and writes what it sees into a file.

    joined: whether they are a cluster's, which come and go, and not this machine alone. storage: where all of them
    write. weights: files that all of them read. `machines`: those that can take trials. `where`: of trials, by their
    numbers, as their workers tell.
    """

    def __init__(
        self,
        machines: Sequence[Machine],
        joined: bool,
        device: str,
        storage: str,
        file: Path,
        weights: Sequence[str] = (),
    ) -> None:
        super().__init__(daemon=True)
        self.joined, self.device, self.storage, self.file, self.weights = joined, device, storage, file, weights
        self.machines: list[Machine] = []
        self.conditions: dict[str, Condition] = {}
        self.refused: dict[str, str] = {}
        self.where: dict[int, Where] = {}
        self.live: Iterable[int] = ()
        self.on_lost: Callable[[], None] = lambda: None
        self._names: dict[str, str] = {}  # of all that could take trials and have not gone
        self._held: dict[str, Any] = {}  # what keeps trials from the machines that are refused
        self._observers = Observers() if joined else None
        self.software = software() if joined else {}
        self._ended = threading.Event()
        self._before = machine_hours(file)
        self._seconds = 0.0
        if faults := self._admit(machines):
            more = f"; and {len(faults) - TOLD} more machines" if len(faults) > TOLD else ""
            raise ClusterError("; ".join(faults[:TOLD]) + more)
        if not self.machines:
            raise ClusterError(f"none of {len(machines)} machines of the cluster answers; `ray status` says why")

    # ---------------------------------------------------------------- which machines there are

    def _admit(self, found: Sequence[Machine]) -> list[str]:
        """Looks at machines, and asks new ones whether they can take trials of this sweep. The faults of those that
        cannot; one that does not answer is asked again another time."""
        known = self._names.keys() | self.refused.keys()
        names = {machine.id: machine.name for machine in found if machine.id not in known}
        faults = {machine: f"{names[machine]} {fault}" for machine, fault in self._faults(found, names).items()}
        self.refused |= faults
        self.conditions = self._conditions([machine for machine in found if machine.id not in self.refused])
        self.machines = [machine for machine in found if machine.id in self.conditions]
        self._names |= {machine.id: machine.name for machine in self.machines}
        return [*faults.values()]

    def _faults(self, found: Sequence[Machine], new: Collection[str]) -> dict[str, str]:
        if self._observers is None:
            return {}
        machines = [machine for machine in found if machine.id in new and machine.cpus]  # others get no trial
        faults, right = {}, []
        answers = self._observers.ask(machines, make_software(), [*self.software])
        for machine in machines:
            there = answers[machine.id]
            if isinstance(there, Exception):
                continue
            if fault := other_software(self.software, there):
                faults[machine.id] = f"{fault}: install the same on every machine (docs/cluster.md)"
            else:
                right.append(machine)
        reached = self._observers.ask(right, reach, self.storage, self.weights)
        return faults | {machine: fault for machine, fault in reached.items() if isinstance(fault, str) and fault}

    def _conditions(self, machines: Sequence[Machine]) -> dict[str, Condition]:
        """What machines say; without those that say nothing now."""
        if self._observers is None:
            return {machine.id: condition(self.device) for machine in machines}
        told = self._observers.ask(machines, condition, self.device, patience=PATIENCE)
        return {machine: said for machine, said in told.items() if isinstance(said, Condition)}

    # ---------------------------------------------------------------- the thread

    def follow(self, run: Run, on_lost: Callable[[], None]) -> None:
        """Begins to look, at a run and its machines. on_lost: called once where the cluster is gone."""
        self.live, self.on_lost = run.live, on_lost
        self.write()
        self.start()

    def run(self) -> None:
        silent, looked = 0, time.monotonic()
        while not self._ended.wait(PERIOD):
            silent = 0 if cluster.answers() else silent + 1
            if silent == SILENT:
                self.on_lost()
                return
            if silent:
                continue
            try:
                self._look()
            except Exception as error:  # what is seen of a sweep must not end it
                _say(f"machines {in_a_line(error)}")
            now = time.monotonic()
            self._seconds += (now - looked) * len(self.machines)
            looked = now
            self.write()

    def _look(self) -> None:
        found = cluster.machines() if self.joined else self.machines
        before = dict(self._names)
        for fault in self._admit(found):
            _say(f"refused  {fault}")
        for machine in self.machines:
            if machine.id not in before:
                _say(f"joined   {machine.name}: {machine.cpus} CPUs{f', {machine.gpus} GPUs' if machine.gpus else ''}")
        for gone in before.keys() - {machine.id for machine in found}:
            _say(f"gone     {self._names.pop(gone)}: what ran there goes on elsewhere from its last checkpoint")
        for machine in found:
            if machine.id in self.refused and machine.id not in self._held and machine.cpus:
                self._held[machine.id] = cluster.fill(machine)

    def stop(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join(PERIOD + cluster.ANSWER)
        self.live = ()
        self.write()

    # ---------------------------------------------------------------- what is told of them

    def write(self) -> None:
        """A full disk, or one that is away, is told of by those who write what must not be lost."""
        told = {
            "at": time.time(),
            "machine_hours": self._before + self._seconds / SECONDS_AN_HOUR,
            "machines": [self._told(machine) for machine in self.machines],
            "starting": [number for number in sorted(self.live) if number not in self.where],
            "refused": [*self.refused.values()],
        }
        try:
            write_whole(self.file, without_password(json.dumps(told)).encode())
        except OSError:
            return

    def _told(self, machine: Machine) -> dict[str, Any]:
        now, here = self.conditions.get(machine.id, Condition()), self._trials(machine)
        devices = [
            {**asdict(gpu), "trials": [number for number in here if index in self.where[number].gpus]}
            for index, gpu in enumerate(now.gpus)
        ]
        has = {"name": machine.name, "cpus": machine.cpus, "gpus": machine.gpus, "kind": machine.kind}
        return {**has, "trials": here, "cpu": now.cpu, "memory": now.memory, "devices": devices}

    def _trials(self, machine: Machine) -> list[int]:
        places = {number: self.where[number] for number in list(self.live) if number in self.where}
        return sorted(number for number, where in places.items() if where.machine == machine.id)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
