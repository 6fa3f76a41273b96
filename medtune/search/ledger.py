"""The ledger: an Optuna study, the one truth of what was tried and of what came of it."""

import contextlib
import logging
import math
from collections.abc import Mapping

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from medtune.config.default import Point
from medtune.config.sweep import SweepConfig
from medtune.search.entries import Entry, State, violation
from medtune.search.folder import SweepFolder
from medtune.search.sampler import SeededSampler, ledger_params, suggest
from medtune.search.storage import open_storage
from medtune.search.whole_space import BEST_EPOCH, ENDED, best_of

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}
_STOP = "stop"  # the epoch after which the pruner ended a trial
_TOLD: dict[State, TrialState] = {state: told for told, state in _STATES.items()}


class Ledger:
    """Asks for points and is told what became of them. One driver writes; anybody may read at any time."""

    def __init__(self, folder: SweepFolder, config: SweepConfig, write: bool = False) -> None:
        """write: by the process that holds the folder's lock; without it nothing changes. Raises FolderError where the
        ledger is in a database that cannot be opened."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("optuna").propagate = False
        self.config = config
        self.study = _study(open_storage(folder, config, write), folder.sweep_id, config.direction, write)
        self.study.sampler = SeededSampler(config.search.sampler, config.sampler_seed, config.trial)
        self._handles: dict[int, optuna.Trial] = {}

    def entries(self) -> list[Entry]:
        """All trials, in the order in which they were asked for."""
        trials = self.study.get_trials(deepcopy=False, states=tuple(_STATES))
        return [self._entry(trial) for trial in trials]

    def ask(self, preset: Point | None = None) -> tuple[int, Point]:
        """A new trial: its number and its point of the space; the preset point where there is one."""
        handle = self.study.ask() if preset is None else self._begin(preset)
        self._handles[handle.number] = handle
        return handle.number, suggest(handle, self.config.trial, self.config.search.sampler)

    def _begin(self, preset: Point) -> optuna.Trial:
        """A trial that has its point from its first moment on: in a queue another driver could take it."""
        fixed = {"fixed_params": ledger_params(self.config.trial, preset)}
        begun = create_trial(state=TrialState.RUNNING, system_attrs=fixed)
        return optuna.Trial(self.study, self.study._storage.create_new_trial(self.study._study_id, begun))

    def reopen(self, number: int) -> Point:
        """The point of an unfinished trial. What the ledger lacks of it, after a kill in the middle, is drawn now."""
        frozen = self.study.get_trials(deepcopy=False)[number]
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

    def report(self, number: int, epoch: int, value: float, best: bool | None = None, stop: bool = False) -> None:
        """The metric after an epoch. `best`: whether it is the best epoch so far; None: the values say so. `stop`: the
        pruner ends the trial here; written before the value, so that a kill between the two asks the pruner again."""
        if best:
            self._handles[number].set_user_attr(BEST_EPOCH, epoch)
        if stop or _STOP in self._handles[number].user_attrs:  # of before a kill, when the pruner said otherwise
            self._handles[number].set_user_attr(_STOP, epoch if stop else None)
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
        if note or "note" in handle.user_attrs:  # of before a kill, when it ended otherwise
            handle.set_user_attr("note", note)
        if state == "complete" and math.isnan(value):
            state = "failed"
        trials = self.study.get_trials(deepcopy=False)
        handle.set_user_attr(ENDED, sum(trial.state.is_finished() for trial in trials))
        had = trials[number].constraints  # a kill may have come after them
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

    def _entry(self, trial: FrozenTrial) -> Entry:
        best_epoch, value = best_of(trial, self.config.direction)
        return Entry(
            number=trial.number,
            state=_STATES[trial.state],
            values=dict(sorted(trial.intermediate_values.items())),  # a database has no order
            value=value,
            best_epoch=best_epoch,
            note=trial.user_attrs.get("note", ""),
            violation=violation(trial.constraints),
            stopped=trial.user_attrs.get(_STOP) in trial.intermediate_values,
        )


def _study(storage: BaseStorage | None, name: str, direction: str, write: bool) -> optuna.Study:
    """The study of that name. One that is not there yet is begun; for who only reads, an empty one in memory."""
    if storage is not None:
        with contextlib.suppress(KeyError):
            return optuna.load_study(study_name=name, storage=storage)
    return optuna.create_study(
        storage=storage if write else None,
        study_name=name,
        direction="maximize" if direction == "max" else "minimize",
        load_if_exists=True,  # by another driver, a moment ago
    )
