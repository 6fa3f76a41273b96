import itertools
import math
import os
import shutil
import statistics
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from medtune.config.default import Point, default_point, trial_config
from medtune.config.space import grid, resolve
from medtune.config.sweep import SweepConfig
from medtune.search.entries import Entry, State, best_entry, ranked
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger

GRID = """\
sweep: grid
trial:
  batch_size: {choice: [64, 128]}
  schedule: {name: {choice: [constant, cosine]}}
  optimizer:
    choice:
      - {name: adam, lr: {choice: [1.0e-3, 3.0e-3]}}
      - {name: sgd, lr: {choice: [1.0e-2, 3.0e-2]}, momentum: {uniform: [0.5, 0.9], step: 0.2}}
search: {sampler: grid}
"""
SMOOTH = """\
sweep: smooth
trial:
  model: {name: smallcnn, dropout: {uniform: [0, 0.99]}}
  loss: {label_smoothing: {uniform: [0, 0.99]}}
  optimizer:
    choice:
      - {name: adam, lr: {log_uniform: [1.0e-5, 1.0]}}
      - {name: sgd, lr: {log_uniform: [1.0e-5, 1.0]}, momentum: {uniform: [0.0, 0.99]}}
"""
SAMPLERS = ["tpe", "random", "qmc", "grid", "gp", "cmaes", "nsga2"]

MakeLedger = Callable[..., Ledger]


@pytest.fixture(autouse=True)
def _unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, and the journal is flushed a dozen times a trial."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def ledger(tiny: Any, tmp_path: Path) -> MakeLedger:
    """`ledger(*overrides, name=…, text=…)`: the ledger of that name, new or opened again."""

    def make(*overrides: str, name: str = "ledger", text: str = tiny.text) -> Ledger:
        folder = SweepFolder(tmp_path / name)
        if not folder.path.exists():
            folder.path.mkdir()
            folder.id_file.write_text(name)
        return Ledger(folder, tiny.config(*overrides, text=text), write=True)

    return make


@pytest.fixture
def sampled(ledger: MakeLedger, tiny: Any) -> Callable[..., Ledger]:
    """`sampled(sampler, name)`: a ledger over a conditional space that this sampler can search."""

    def make(sampler: str, name: str = "ledger") -> Ledger:
        return ledger(f"search.sampler={sampler}", name=name, text=GRID if sampler == "grid" else tiny.text)

    return make


def presets(config: SweepConfig) -> Iterator[Point | None]:
    """The default, then for a grid its points."""
    rest = grid(config.trial) if config.search.sampler == "grid" else itertools.repeat(None)
    return itertools.chain([default_point(config.trial)], rest)


def ask(ledger: Ledger, count: int, given: Iterator[Point | None]) -> list[Point]:
    """So many trials, each told a value that is better the smaller its learning rate."""
    points = []
    for preset in itertools.islice(given, count):
        number, point = ledger.ask(preset)
        value = 1 - trial_config(ledger.config.trial, point).optimizer.lr
        ledger.report(number, 1, value)
        ledger.tell(number, "complete", value)
        points.append(point)
    return points


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestEverySampler:
    def test_points_are_trials_of_the_space(self, sampler: str, sampled: Callable[..., Ledger]) -> None:
        ledger = sampled(sampler)
        space = ledger.config.trial
        for point in ask(ledger, 15, presets(ledger.config)):
            active = []
            resolve(space, lambda path, _, point=point, active=active: active.append(path) or point[path])
            assert sorted(point) == sorted(active)
            config = trial_config(space, point)
            assert config.optimizer.name in ("adam", "sgd") and config.batch_size in (16, 32, 64, 128)

    def test_both_branches_are_searched(self, sampler: str, sampled: Callable[..., Ledger]) -> None:
        ledger = sampled(sampler)
        assert {point["optimizer"] for point in ask(ledger, 15, presets(ledger.config))} == {0, 1}

    def test_a_resumed_ledger_asks_what_an_uninterrupted_one_does(
        self, sampler: str, sampled: Callable[..., Ledger]
    ) -> None:
        whole = sampled(sampler, "whole")
        expected = ask(whole, 14, presets(whole.config))
        given = presets(whole.config)
        parts = [point for count in (1, 3, 8, 2) for point in ask(sampled(sampler, "parts"), count, given)]
        assert parts == expected
        if sampler != "grid":
            assert len({repr(point) for point in parts[:10]}) == 10  # no first draw is repeated

    def test_the_same_ledger_seed_and_number_give_the_same_point(
        self, sampler: str, sampled: Callable[..., Ledger], tmp_path: Path
    ) -> None:
        ledger = sampled(sampler)
        given = presets(ledger.config)
        ask(ledger, 12, given)
        copy = shutil.copytree(tmp_path / "ledger", tmp_path / "copy")
        preset = next(given)
        assert Ledger(SweepFolder(copy), ledger.config, write=True).ask(preset) == ledger.ask(preset)

    def test_the_user_sees_no_warning(
        self, sampler: str, sampled: Callable[..., Ledger], capfd: pytest.CaptureFixture[str]
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("default", category=DeprecationWarning)  # of libraries among themselves
            ledger = sampled(sampler)
            ask(ledger, 12, presets(ledger.config))
        assert capfd.readouterr().err == ""

    def test_an_unfinished_trial_keeps_its_point(self, sampler: str, sampled: Callable[..., Ledger]) -> None:
        ledger = sampled(sampler)
        given = presets(ledger.config)
        ask(ledger, 2, given)
        number, point = ledger.ask(next(given))
        again = sampled(sampler)
        assert again.reopen(number) == point == again.point(number)
        again.report(number, 1, 0.5)
        again.tell(number, "complete", 0.5)
        assert [entry.state for entry in again.entries()] == ["complete"] * 3

    def test_a_point_that_was_cut_short_keeps_what_it_had(
        self, sampler: str, sampled: Callable[..., Ledger], killed_in: Any
    ) -> None:
        ledger = sampled(sampler)
        given = presets(ledger.config)
        ask(ledger, 2, given)
        kind = "suggest_categorical" if sampler == "grid" else "suggest_float"
        with killed_in(optuna.Trial, kind, call=2):
            ledger.ask(next(given))
        again = sampled(sampler)
        had = dict(again.study.get_trials()[2].params)
        assert had and again.entries()[2].state == "unfinished"
        point = again.reopen(2)
        trial_config(again.config.trial, point)
        now = again.study.get_trials()[2].params
        assert {name: now[name] for name in had} == had and len(now) > len(had)
        whole = sampled(sampler, "whole")
        assert point == ask(whole, 3, presets(whole.config))[2]  # what was drawn after the break too


def test_another_seed_draws_others(ledger: MakeLedger) -> None:
    points = [ask(ledger(f"seed={seed}", name=f"seed-{seed}"), 3, itertools.repeat(None)) for seed in (0, 1)]
    assert points[0] != points[1]


def test_tpe_learns(ledger: MakeLedger) -> None:
    tpe = ledger("search.sampler=tpe", "trial.optimizer={name: adam, lr: {log_uniform: [1.0e-6, 1.0]}}")
    rates = [point["optimizer.lr"] for point in ask(tpe, 40, itertools.repeat(None))]
    assert sum(rate < 1e-3 for rate in rates[25:]) > 12  # 7.5 of 15 by chance


@pytest.mark.parametrize("sampler", [sampler for sampler in SAMPLERS if sampler != "grid"])
def test_bounds_and_steps_of_whole_numbers(sampler: str, ledger: MakeLedger) -> None:
    space = "{epochs: {int: [1, 2]}, batch_size: {log_int: [2, 4]}, augment: {rotate_degrees: {int: [0, 12], step: 5}}}"
    whole = ledger(f"search.sampler={sampler}", f"trial={space}", "pruning={name: none}")
    points = [whole.ask()[1] for _ in range(40)]
    assert {point["epochs"] for point in points} == {1, 2}
    assert {point["batch_size"] for point in points} == {2, 3, 4}
    assert {point["augment.rotate_degrees"] for point in points} == {0, 5, 10}


def distance(point: Point) -> float:
    """From the best point of `SMOOTH`, which is in the branch of sgd; in units of its ranges, squared."""
    branch = point["optimizer"]
    rate = (math.log10(point[f"optimizer[{branch}].lr"]) + 5) / 5
    momentum = point["optimizer[1].momentum"] if branch else 0.5
    parts = [rate - 0.4, momentum - 0.7, point["model.dropout"] - 0.3, point["loss.label_smoothing"] - 0.6]
    return sum(part**2 for part in parts)


def nearest(ledger: Ledger, trials: int, prune: bool) -> float:
    """The smallest distance of so many trials; `prune`: the worse two of three are stopped after their first epoch."""
    early: list[float] = []
    distances: list[float] = []
    for _ in range(trials):
        number, point = ledger.ask()
        early.append(1 - distance(point))
        ledger.report(number, 1, early[-1] - 0.2)
        if prune and early[-1] < sorted(early)[len(early) * 2 // 3]:
            ledger.tell(number, "pruned")
        else:
            ledger.report(number, 2, early[-1])
            ledger.tell(number, "complete", early[-1])
            distances.append(distance(point))
    return min(distances)


@pytest.mark.slow
@pytest.mark.parametrize("prune", [False, True], ids=["whole", "pruned"])
@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 60), ("cmaes", 60), ("gp", 30)])
def test_those_that_learn_come_nearer_than_chance(sampler: str, trials: int, prune: bool, ledger: MakeLedger) -> None:
    def median(of: str) -> float:
        ledgers = (ledger(f"search.sampler={of}", f"seed={n}", name=f"{of}-{n}", text=SMOOTH) for n in range(3))
        return statistics.median(nearest(each, trials, prune) for each in ledgers)

    assert median(sampler) < 0.75 * median("random")


def fill(ledger: Ledger, count: int, state: State = "complete") -> None:
    """Trials of the smooth space that all end in a state."""
    for _ in range(count):
        number, point = ledger.ask()
        ledger.report(number, 1, 1 - distance(point))
        ledger.tell(number, state, 1 - distance(point))


def generations(ledger: Ledger) -> list[int]:
    attributes = [trial.system_attrs.items() for trial in ledger.study.get_trials(deepcopy=False)]
    return [value for each in attributes for name, value in each if name.endswith(":generation")]


@pytest.mark.parametrize(("sampler", "size"), [("cmaes", 8), ("nsga2", 10)])
def test_generations_go_on_after_a_restart_and_pruned_trials_fill_them(
    sampler: str, size: int, ledger: MakeLedger
) -> None:
    for state in ("complete", "pruned", "complete", "failed"):
        fill(ledger(f"search.sampler={sampler}", text=SMOOTH), 10, state)
    assert generations(ledger(text=SMOOTH)) == [min(trial, 30) // size for trial in range(40)]


def test_cmaes_puts_no_pickle_into_the_ledger(ledger: MakeLedger, tmp_path: Path) -> None:
    of = ledger("search.sampler=cmaes", text=SMOOTH)
    fill(of, 30)
    names = {name for trial in of.study.get_trials() for name in trial.system_attrs}
    assert names == {"cmaes:generation"} and "optimizer:" not in (tmp_path / "ledger" / "ledger.log").read_text()


STEERED = [("tpe", 40), ("nsga2", 40), ("cmaes", 40), pytest.param("gp", 20, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("sampler", "trials"), STEERED)
def test_constraints_steer_though_pruned_trials_have_none(sampler: str, trials: int, ledger: MakeLedger) -> None:
    """The value is better the more dropout there is; a constraint allows 0.4 of it. Every third trial is pruned."""

    def dropout(constrained: bool) -> float:
        of = ledger(f"search.sampler={sampler}", name=f"constrained-{constrained}", text=SMOOTH)
        drawn = []
        for trial in range(trials):
            number, point = of.ask()
            drawn.append(point["model.dropout"])
            of.report(number, 1, drawn[-1])
            limit = {"val/ece max": drawn[-1] - 0.4} if constrained and trial % 3 else {}
            of.tell(number, "complete" if trial % 3 else "pruned", drawn[-1], constraints=limit)
        return statistics.median(drawn[-8:])

    assert dropout(constrained=False) > 0.6
    assert dropout(constrained=True) < 0.47


class TestStates:
    def test_the_value_is_the_metric_at_the_first_best_epoch(self, ledger: MakeLedger) -> None:
        for metric, best in (("val/auroc", (2, 0.9)), ("val/loss", (1, 0.5))):
            of = ledger(f"search.metric={metric}", name=metric.replace("/", "-"))
            number, _ = of.ask()
            for epoch, value in enumerate([0.5, 0.9, 0.5, 0.9, math.nan], start=1):
                of.report(number, epoch, value)
            of.tell(number, "complete", best[1])
            entry = of.entries()[0]
            assert (entry.state, entry.best_epoch, entry.value) == ("complete", *best)
            assert list(entry.values) == [1, 2, 3, 4, 5] and math.isnan(entry.values[5])
            assert of.study.trials[0].value == best[1]

    def test_each_is_told_truthfully(self, ledger: MakeLedger) -> None:
        of = ledger()
        for state in ("complete", "pruned", "failed", "unfinished"):
            number, _ = of.ask()
            of.report(number, 1, 0.6)
            if state != "unfinished":
                of.tell(number, state, 0.6, note="why" if state == "failed" else "")
        states = optuna.trial.TrialState
        expected = [states.COMPLETE, states.PRUNED, states.FAIL, states.RUNNING]
        assert [trial.state for trial in of.study.trials] == expected
        entries = ledger().entries()
        assert [entry.state for entry in entries] == ["complete", "pruned", "failed", "unfinished"]
        assert [entry.note for entry in entries] == ["", "", "why", ""]

    def test_the_driver_may_say_which_epoch_is_best(self, ledger: MakeLedger) -> None:
        of = ledger()
        number, _ = of.ask()
        for epoch, (value, best) in enumerate([(0.6, True), (0.7, True), (0.9, False)], start=1):
            of.report(number, epoch, value, best)
        assert (of.entries()[0].best_epoch, of.entries()[0].value) == (2, 0.7)

    def test_a_best_epoch_without_its_value_is_none(self, ledger: MakeLedger, killed_in: Any) -> None:
        of = ledger()
        number, _ = of.ask()
        with killed_in(optuna.Trial, "report"):
            of.report(number, 1, 0.6, True)
        assert of.entries()[0].best_epoch is None and math.isnan(of.entries()[0].value)

    def test_a_trial_breaks_constraints_by_what_is_over_their_limits(self, ledger: MakeLedger) -> None:
        of = ledger()
        for constraints in ({"a": 0.2, "b": -0.5, "c": 0.1}, {"a": -0.1}, {}):
            number, _ = of.ask()
            of.report(number, 1, 0.5)
            of.tell(number, "complete", 0.5, constraints=constraints)
        assert [entry.violation for entry in ledger().entries()] == pytest.approx([0.3, 0, 0])

    def test_a_kill_between_the_constraints_and_the_end_is_made_good(self, ledger: MakeLedger, killed_in: Any) -> None:
        of = ledger()
        number, _ = of.ask()
        of.report(number, 1, 0.5)
        with killed_in(of.study, "tell"):
            of.tell(number, "complete", 0.5, constraints={"a": 0.2})
        again = ledger()
        again.reopen(number)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again.tell(number, "complete", 0.5, constraints={"a": 0.2, "b": 0.1})
        assert (again.entries()[0].state, again.entries()[0].violation) == ("complete", pytest.approx(0.3))

    def test_nan_is_never_complete(self, ledger: MakeLedger) -> None:
        of = ledger()
        number, _ = of.ask()
        of.report(number, 1, math.nan)
        of.tell(number, "complete", math.nan)
        entry = of.entries()[0]
        assert entry.state == "failed" and math.isnan(entry.value) and entry.best_epoch is None

    def test_a_trial_that_fails_before_its_first_epoch_can_be_told(self, ledger: MakeLedger) -> None:
        of = ledger()
        number, _ = of.ask()
        of.tell(number, "failed", note="no such file")
        assert of.entries() == [Entry(0, "failed", {}, math.nan, None, "no such file")] or of.entries()[0].values == {}
        assert of.entries()[0].note == "no such file"


def test_a_preset_is_not_lost_in_a_kill_while_it_is_asked_for(ledger: MakeLedger, killed_in: Any) -> None:
    of = ledger()
    preset = default_point(of.config.trial)
    with killed_in(optuna.Trial, "__init__"):
        of.ask(preset)
    again = ledger()
    assert [entry.state for entry in again.entries()] == ["unfinished"]
    assert again.reopen(0) == preset == again.point(0)
    again.report(0, 1, value := 1 - trial_config(again.config.trial, preset).optimizer.lr)
    again.tell(0, "complete", value)
    assert (
        ask(again, 1, itertools.repeat(None))
        == ask(ledger(name="whole"), 2, itertools.chain([preset], itertools.repeat(None)))[1:]
    )


def test_looks_are_counted(ledger: MakeLedger) -> None:
    assert [ledger().look() for _ in range(3)] == [1, 2, 3]


def test_best_is_the_first_best_of_the_complete_and_never_a_failed_one() -> None:
    entries = [
        Entry(0, "failed", value=0.99),
        Entry(1, "pruned", value=0.98),
        Entry(2, "complete", value=0.7),
        Entry(3, "complete", value=0.8),
        Entry(4, "complete", value=0.8),
        Entry(5, "complete"),
    ]
    assert best_entry(entries, "max").number == 3
    assert best_entry(entries, "min").number == 2
    assert best_entry(entries[:2], "max").number == 1
    assert best_entry(entries[:1], "max") is None and best_entry([], "min") is None


def test_best_keeps_the_constraints_or_else_breaks_them_least() -> None:
    entries = [
        Entry(0, "complete", value=0.9, violation=0.2),
        Entry(1, "complete", value=0.8, violation=0.1),
        Entry(2, "complete", value=0.7, violation=0.1),
        Entry(3, "pruned", value=0.95),
        Entry(4, "complete", value=0.6),
        Entry(5, "complete", value=0.5),
    ]
    assert [entry.number for entry in ranked(entries, "max")] == [4, 5, 1, 2, 0, 3]
    assert [entry.number for entry in ranked(entries, "min")] == [5, 4, 2, 1, 0, 3]
    assert best_entry(entries[:4], "max").number == 1
