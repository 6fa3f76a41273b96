import numpy as np
import pytest
from scipy.special import ndtr

from medtune.selection.candidates import Candidates, Draws, best_of_trials, draw
from medtune.selection.thrifty import thrifty


def sweep(quality: np.ndarray, cases: int, seed: int, epochs: int = 2) -> Candidates:
    generator = np.random.default_rng(seed)
    labels = (np.arange(cases) < 0.3 * cases).astype(np.int64)
    trials = np.repeat(np.arange(len(quality)), epochs)
    noise = 0.8 * generator.normal(size=cases) + 0.6 * generator.normal(size=(len(trials), cases))
    scores = quality[trials, None] * labels + noise
    logits = np.stack([np.zeros_like(scores), scores], axis=2).astype(np.float32)
    return Candidates(trials, np.tile(np.arange(epochs), len(quality)), logits, labels, "binary", "val/auroc")


def draws_of(candidates: Candidates) -> Draws:
    return draw(candidates, 100, np.random.default_rng(0))


@pytest.mark.parametrize("related", [0.0, 0.3])
def test_it_costs_next_to_nothing(related: float) -> None:
    losses, saved = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        cost = generator.normal(size=20)
        quality = 1.5 + 0.15 * (related * cost + np.sqrt(1 - related**2) * generator.normal(size=20))
        candidates = sweep(quality, 80, seed)
        index = thrifty(candidates, draws_of(candidates), dict(enumerate(cost)))
        best, taken = candidates.trials[[candidates.goodness.argmax(), index]]
        losses.append(ndtr(quality[best] / np.sqrt(2)) - ndtr(quality[taken] / np.sqrt(2)))
        saved.append(cost[best] - cost[taken])
    assert np.mean(losses) <= 0.003
    assert np.mean(saved) > 0.1


def test_the_wider_the_cheaper() -> None:
    candidates = sweep(np.full(20, 1.5), 80, 0)
    draws, costs = draws_of(candidates), {trial: float(trial) for trial in range(20)}
    taken = [costs[int(candidates.trials[thrifty(candidates, draws, costs, errors)])] for errors in (0, 0.25, 1, 9)]
    assert taken == sorted(taken, reverse=True) and taken[-1] == 0
    assert thrifty(candidates, draws, costs, 0) == candidates.goodness.argmax()


def test_of_equally_cheap_ones_and_without_costs_the_best() -> None:
    candidates = sweep(np.full(20, 1.5), 80, 0)
    draws, best = draws_of(candidates), candidates.goodness.argmax()
    assert thrifty(candidates, draws, {}) == best
    assert thrifty(candidates, draws, dict.fromkeys(range(20), 3.0)) == best


def test_what_has_no_cost_is_not_taken_for_cheap() -> None:
    candidates = sweep(np.full(20, 1.5), 80, 0)
    best = int(candidates.trials[candidates.goodness.argmax()])
    assert thrifty(candidates, draws_of(candidates), {best: 7.0}, errors=9) == candidates.goodness.argmax()


def test_a_trial_stands_for_its_best_epoch() -> None:
    candidates = sweep(np.full(5, 1.5), 80, 0, epochs=4)
    best = best_of_trials(candidates)
    assert candidates.trials[best].tolist() == list(range(5))
    np.testing.assert_array_equal(candidates.goodness[best], candidates.goodness.reshape(5, 4).max(axis=1))
    last = np.ones(20, bool)
    last[::4] = False
    assert best_of_trials(candidates, last).tolist() == [0, 4, 8, 12, 16]


def test_one_candidate_and_no_resample_that_is_defined() -> None:
    alone = sweep(np.array([1.5]), 40, 0, epochs=1)
    assert thrifty(alone, draws_of(alone), {0: 1.0}) == 0
    candidates = sweep(np.array([1.5, 1.0]), 40, 0)
    draws = draws_of(candidates)
    lost = Draws(draws.resamples, np.full_like(draws.in_bag, np.nan), draws.winners, draws.out_of_bag)
    assert thrifty(candidates, lost, {0: 2.0, 1: 1.0}) == candidates.goodness.argmax()
