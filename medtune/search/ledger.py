"""The ledger: an Optuna study, the one truth of what was tried and of what came of it."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from medtune.config.default import Point
from medtune.config.sweep import SweepConfig
from medtune.search.entries import Entry, State, violation
from medtune.search.sampler import build_sampler, ledger_params, suggest
from medtune.search.whole_space import BEST_EPOCH, best_of

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}
_TOLD: dict[State, TrialState] = {state: told for told, state in _STATES.items()}


class Ledger:
    """Asks for points and is told what became of them. One driver writes; anybody may read at any time."""

    def __init__(self, path: Path, name: str, config: SweepConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("optuna").propagate = False
        self.config = config
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=name,
            direction="maximize" if config.direction == "max" else "minimize",
            load_if_exists=True,
        )
        self._handles: dict[int, optuna.Trial] = {}

    def entries(self) -> list[Entry]:
        """All trials, in the order in which they were asked for."""
        trials = self.study.get_trials(deepcopy=False, states=tuple(_STATES))
        return [self._entry(trial) for trial in trials]

    def ask(self, preset: Point | None = None) -> tuple[int, Point]:
        """A new trial: its number and its point of the space; the preset point where there is one."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if preset is not None and not waiting:
            self.study.enqueue_trial(ledger_params(self.config.trial, preset))
        number = len(self.study.get_trials(deepcopy=False)) - (1 if preset is not None or waiting else 0)
        self.study.sampler = self._sampler(number)
        handle = self.study.ask()
        self._handles[handle.number] = handle
        return handle.number, suggest(handle, self.config.trial, self.config.search.sampler)

    def reopen(self, number: int) -> Point:
        """The point of an unfinished trial. What the ledger lacks of it, after a kill in the middle, is drawn now."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        self.study.sampler = self._sampler(number)
        handle = self._handles[number] = optuna.Trial(self.study, frozen._trial_id)
        try:
            return self.point(number)
        except ValueError:  # the draws that the ledger has are made once more, so that the next ones are what they were
            for name, distribution in frozen.distributions.items():
                if name not in handle.relative_params:
                    self.study.sampler.sample_independent(self.study, frozen, name, distribution)
            return suggest(handle, self.config.trial, self.config.search.sampler)

    def point(self, number: int) -> Point:
        """The point of any trial, from the ledger alone."""
        return suggest(self.study.get_trials(deepcopy=False)[number], self.config.trial, self.config.search.sampler)

    def report(self, number: int, epoch: int, value: float, best: bool | None = None) -> None:
        """The metric after an epoch. `best`: whether it is the best epoch so far; None: the values say so."""
        if best:
            self._handles[number].set_user_attr(BEST_EPOCH, epoch)
        self._handles[number].report(value, epoch)

    def tell(
        self,
        number: int,
        state: State,
        value: float = math.nan,
        note: str = "",
        constraints: Mapping[str, float] | None = None,
    ) -> None:
        """How a trial ended. Its value is the metric at its best epoch; nan makes a complete trial a failed one.

        constraints: of a complete trial, by how much it breaks each; kept where that is 0 or less.
        """
        handle = self._handles.pop(number)
        if note:
            handle.set_user_attr("note", note)
        if state == "complete" and math.isnan(value):
            state = "failed"
        had = self.study.get_trials(deepcopy=False)[number].constraints  # a kill may have come after them
        for name, over in (constraints or {}).items():
            if name not in had:
                handle.set_constraint(name, over)
        # a pruned trial keeps the values of its epochs, from which TPE learns; a value of its own would say COMPLETE
        self.study.tell(handle, value if state == "complete" else None, _TOLD[state])

    @property
    def looks(self) -> int:
        """How often the sealed test has been opened."""
        return int(self.study.user_attrs.get("looks", 0))

    def look(self) -> int:
        """Writes down that the sealed test is opened. How often it has been, this time included."""
        looks = self.looks + 1
        self.study.set_user_attr("looks", looks)
        return looks

    def _sampler(self, number: int) -> BaseSampler:
        return build_sampler(self.config.search.sampler, self.config.sampler_seed, number, self.config.trial)

    def _entry(self, trial: FrozenTrial) -> Entry:
        best_epoch, value = best_of(trial, self.config.direction)
        return Entry(
            number=trial.number,
            state=_STATES[trial.state],
            values=trial.intermediate_values,
            value=value,
            best_epoch=best_epoch,
            note=trial.user_attrs.get("note", ""),
            violation=violation(trial.constraints),
        )
