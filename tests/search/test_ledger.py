import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from medtune.config.default import Point, default_point, trial_config
from medtune.config.space import resolve
from medtune.config.sweep import SweepConfig
from medtune.search.entries import Entry, best_entry
from medtune.search.ledger import Ledger
from medtune.search.sampler import grid

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
SAMPLERS = ["tpe", "random", "qmc", "grid"]

MakeLedger = Callable[..., Ledger]


@pytest.fixture
def ledger(tiny: Any, tmp_path: Path) -> MakeLedger:
    """`ledger(*overrides, name=…, text=…)`: the ledger of that name, new or opened again."""

    def make(*overrides: str, name: str = "ledger", text: str = tiny.text) -> Ledger:
        return Ledger(tmp_path / name, name, tiny.config(*overrides, text=text))

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
            assert len({repr(point) for point in parts}) == 14  # no draw is repeated

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


def test_another_seed_draws_others(ledger: MakeLedger) -> None:
    points = [ask(ledger(f"seed={seed}", name=f"seed-{seed}"), 3, itertools.repeat(None)) for seed in (0, 1)]
    assert points[0] != points[1]


def test_tpe_learns(ledger: MakeLedger) -> None:
    tpe = ledger("search.sampler=tpe", "trial.optimizer={name: adam, lr: {log_uniform: [1.0e-6, 1.0]}}")
    rates = [point["optimizer.lr"] for point in ask(tpe, 40, itertools.repeat(None))]
    assert sum(rate < 1e-3 for rate in rates[25:]) > 12  # 7.5 of 15 by chance


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_both_bounds_of_whole_numbers_are_reached(sampler: str, ledger: MakeLedger) -> None:
    space = "{epochs: {int: [1, 2]}, batch_size: {log_int: [2, 4]}, augment: {rotate_degrees: {int: [0, 12], step: 5}}}"
    whole = ledger(f"search.sampler={sampler}", f"trial={space}", "pruning={name: none}")
    points = [whole.ask()[1] for _ in range(40)]
    assert {point["epochs"] for point in points} == {1, 2}
    assert {point["batch_size"] for point in points} == {2, 3, 4}
    assert {point["augment.rotate_degrees"] for point in points} == {0, 5, 10}


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


def test_a_kill_between_queueing_a_preset_and_asking_loses_nothing(ledger: MakeLedger, killed_in: Any) -> None:
    of = ledger()
    preset = default_point(of.config.trial)
    with killed_in(of.study, "ask"):
        of.ask(preset)
    again = ledger()
    assert again.entries() == []
    assert again.ask(preset) == (0, preset)
    number, point = again.ask()
    assert number == 1 and point != preset
    assert point == ask(ledger(name="whole"), 2, itertools.chain([preset], itertools.repeat(None)))[1]


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
