import random
from collections import defaultdict

import numpy as np
import pytest

from medtune.config.sweep import Asha, Hyperband, Median, NoPruning, Pruning
from medtune.search.pruning import Pruner, RayPruner, build_pruner

EPOCHS = 9
Curves = dict[int, list[float]]
KINDS = [
    Asha(grace_epochs=1),
    Asha(grace_epochs=2, reduction_factor=2),
    Hyperband(),
    Median(grace_epochs=2, min_trials=3),
    NoPruning(),
]


def random_curves(seed: int, trials: int = 40) -> Curves:
    generator = np.random.default_rng(seed)
    return {trial: list(generator.random() + 0.1 * generator.random(EPOCHS)) for trial in range(trials)}


def arrivals(curves: Curves, seed: int) -> list[int]:
    """Trials in an order in which their epochs may come in, several at once."""
    order = [trial for trial, curve in curves.items() for _ in curve]
    generator = random.Random(seed)
    window = 30
    for start in range(0, len(order), window):
        part = order[start : start + window]
        generator.shuffle(part)
        order[start : start + window] = part
    return order


def play(pruner: Pruner, curves: Curves, order: list[int], seen: dict[int, int] | None = None) -> dict[int, int]:
    """The epoch after which each trial is stopped; trials that no pruner stopped are not in it."""
    seen = defaultdict(int) if seen is None else seen
    stopped: dict[int, int] = {}
    for trial in order:
        if trial in stopped:
            continue
        seen[trial] += 1
        if pruner.stop(trial, seen[trial], curves[trial][seen[trial] - 1]):
            stopped[trial] = seen[trial]
    return stopped


class ReferenceAsha:
    """Li et al. 2020, algorithm 2, in the form that only stops: at a rung, the best 1/factor so far go on."""

    def __init__(self, grace: int, factor: float, direction: str) -> None:
        self.rungs = [grace * factor**k for k in range(20) if grace * factor**k <= EPOCHS]
        self.factor, self.sign = factor, 1 if direction == "max" else -1
        self.recorded: dict[float, dict[int, float]] = defaultdict(dict)

    def stop(self, trial: int, epoch: int, value: float) -> bool:
        for rung in self.rungs:
            if epoch == np.ceil(rung):
                others = list(self.recorded[rung].values())
                self.recorded[rung][trial] = self.sign * value
                return bool(others) and self.sign * value < np.quantile(others, 1 - 1 / self.factor)
        return False


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize(("grace", "factor"), [(1, 3), (2, 3), (1, 2), (2, 1.5), (9, 4)])
def test_asha_is_asynchronous_successive_halving(grace: int, factor: float, direction: str) -> None:
    for seed in range(3):
        curves = random_curves(seed)
        order = arrivals(curves, seed)
        ours = build_pruner(Asha(grace_epochs=grace, reduction_factor=factor), direction, EPOCHS)
        assert play(ours, curves, order) == play(ReferenceAsha(grace, factor, direction), curves, order)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.name)
def test_after_the_past_was_played_decisions_are_those_of_an_uninterrupted_sweep(config: Pruning) -> None:
    curves = random_curves(5)
    order = arrivals(curves, 5)
    half = len(order) // 2
    whole, seen = build_pruner(config, "max", EPOCHS), defaultdict(int)
    stopped = play(whole, curves, order[:half], seen)
    left = [trial for trial in order[half:] if trial not in stopped]

    resumed = build_pruner(config, "max", EPOCHS)
    for trial in sorted(seen):  # as a ledger has them: trial by trial
        for epoch in range(1, seen[trial] + 1):
            resumed.stop(trial, epoch, curves[trial][epoch - 1])
    expected = play(whole, curves, left, defaultdict(int, seen))
    assert play(resumed, curves, left, defaultdict(int, seen)) == expected
    assert bool(expected) is (config.name != "none")


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.name)
def test_a_trial_that_is_kept_against_the_advice_can_go_on(config: Pruning) -> None:
    pruner = build_pruner(config, "max", EPOCHS)
    for trial in range(1, 8):
        for epoch in range(1, EPOCHS + 1):
            pruner.stop(trial, epoch, 0.9)
    advice = [pruner.stop(0, epoch, 0.1) for epoch in range(1, EPOCHS + 1)]
    assert any(advice) is (config.name != "none")


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.name)
def test_nan_stops_nobody_else(config: Pruning) -> None:
    pruner = build_pruner(config, "max", EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        pruner.stop(0, epoch, float("nan"))
    for trial in (1, 2, 3, 4):
        assert not any(pruner.stop(trial, epoch, 0.5) for epoch in range(1, EPOCHS + 1))


def test_hyperband_draws_its_bracket_from_the_trial_alone() -> None:
    def brackets() -> list[int]:
        pruner = build_pruner(Hyperband(brackets=3), "max", EPOCHS)
        assert isinstance(pruner, RayPruner) and len(pruner.brackets) == 3
        for trial in range(200):
            pruner.stop(trial, 1, 0.5)
        return [pruner.brackets.index(pruner.added[trial]) for trial in range(200)]

    np.random.seed(1)
    first = brackets()
    np.random.seed(2)
    assert brackets() == first
    counts = np.bincount(first, minlength=3) / 200
    np.testing.assert_allclose(counts, np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum(), atol=0.07)


def test_deeper_brackets_stop_later() -> None:
    pruner = build_pruner(Hyperband(grace_epochs=1, brackets=3), "max", EPOCHS)
    assert isinstance(pruner, RayPruner)
    stopped = play(pruner, random_curves(0, 120), arrivals(random_curves(0, 120), 0))
    first = [min(e for t, e in stopped.items() if pruner.added[t] is bracket) for bracket in pruner.brackets[:2]]
    assert first == [1, 3]


def test_brackets_beyond_the_last_epoch_are_left_out() -> None:
    pruner = build_pruner(Hyperband(grace_epochs=2, brackets=5), "max", EPOCHS)
    assert isinstance(pruner, RayPruner) and len(pruner.brackets) == 2


def test_median_compares_the_best_value_with_the_others_means() -> None:
    pruner = build_pruner(Median(grace_epochs=2, min_trials=3), "max", EPOCHS)
    for trial, level in enumerate([0.5, 0.6, 0.7]):
        assert not any(pruner.stop(trial, epoch, level) for epoch in (1, 2, 3))
    assert not pruner.stop(3, 1, 0.1)  # within the grace
    assert pruner.stop(3, 2, 0.59)
    assert not pruner.stop(4, 1, 0.1) and not pruner.stop(4, 2, 0.61)
    assert not pruner.stop(4, 3, 0.1)  # its best one counts


def test_median_where_less_is_better() -> None:
    pruner = build_pruner(Median(grace_epochs=1, min_trials=2), "min", EPOCHS)
    assert not pruner.stop(0, 1, 0.2) and not pruner.stop(1, 1, 0.3)
    assert pruner.stop(2, 1, 0.4) and not pruner.stop(3, 1, 0.1)


def test_median_waits_for_enough_trials() -> None:
    pruner = build_pruner(Median(grace_epochs=1, min_trials=3), "max", EPOCHS)
    assert not any(pruner.stop(trial, 1, value) for trial, value in enumerate([0.9, 0.8, 0.7]))
    assert pruner.stop(3, 1, 0.1)
