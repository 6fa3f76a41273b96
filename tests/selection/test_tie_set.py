import numpy as np
import pytest

from medtune.selection.candidates import Candidates, Draws, draw
from medtune.selection.tie_set import tie_set


def sweep(quality: np.ndarray, cases: int, seed: int, epochs: int = 3) -> Candidates:
    """Trials of some epochs, which share most of their noise; the odd ones have only one epoch."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(cases) < 0.3 * cases).astype(np.int64)
    trials = np.repeat(np.arange(len(quality)), np.where(np.arange(len(quality)) % 2, 1, epochs))
    noise = 0.8 * generator.normal(size=cases) + 0.5 * generator.normal(size=(len(quality), cases))[trials]
    scores = quality[trials, None] * labels + noise + 0.3 * generator.normal(size=(len(trials), cases))
    logits = np.stack([np.zeros_like(scores), scores], axis=2).astype(np.float32)
    return Candidates(trials, np.arange(len(trials)), logits, labels, "binary", "val/auroc")


def ties(candidates: Candidates, seed: int = 0) -> list[int]:
    return tie_set(candidates, draw(candidates, 200, np.random.default_rng(seed))).tolist()


def test_equals_are_tied_whatever_their_number_of_epochs() -> None:
    tied = [ties(sweep(np.full(12, 1.5), 80, seed)) for seed in range(60)]
    assert 0.9 <= np.mean([11 in one for one in tied]) <= 1
    assert 0.9 <= np.mean([10 in one for one in tied]) <= 1


def test_a_truly_best_trial_is_in_it_and_what_is_clearly_worse_is_not() -> None:
    quality = np.array([1.5, 1.9, 1.5, 1.8, 0.3, 0.5, 1.5, 1.4])
    tied = [ties(sweep(quality, 150, seed)) for seed in range(40)]
    assert np.mean([1 in one for one in tied]) >= 0.95
    assert not any(4 in one or 5 in one for one in tied)
    assert np.mean([len(one) for one in tied]) < 6


def test_more_cases_tell_more_apart() -> None:
    quality = np.linspace(1.2, 1.8, 12)
    few, many = (np.mean([len(ties(sweep(quality, cases, seed))) for seed in range(10)]) for cases in (60, 1500))
    assert many < few - 3


def test_numbers_of_trials_ascending_in_whatever_order_they_come() -> None:
    candidates = sweep(np.full(5, 1.5), 80, 1)
    back = candidates.part(np.arange(len(candidates))[::-1])
    back = Candidates(back.trials + 10, back.epochs, back.logits, back.labels, back.task, back.metric)
    assert ties(back) == [trial + 10 for trial in ties(candidates)]


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_largest_lead_against_what_chance_would_lead_by(seed: int) -> None:
    generator = np.random.default_rng(seed)
    candidates = sweep(generator.normal(1.5, 0.3, 9), 100, seed, epochs=1)
    draws = draw(candidates, 200, generator)
    drawn, wanted = draws.in_bag.astype(float), []
    for trial in range(9):
        others = [rival for rival in range(9) if rival != trial]
        deviation = np.array([(drawn[:, rival] - drawn[:, trial]).std() for rival in others])
        lead = candidates.goodness[others] - candidates.goodness[trial]
        by_chance = drawn[:, others] - drawn[:, [trial]] - lead
        limit = np.quantile((by_chance / deviation).max(axis=1), 0.96, method="higher")
        wanted += [trial] if (lead / deviation).max() <= limit else []
    assert tie_set(candidates, draws).tolist() == wanted and 0 < len(wanted) < 9


def test_one_trial_is_tied_with_itself() -> None:
    assert ties(sweep(np.array([1.5]), 40, 0)) == [0]


def test_the_same_predictions_twice_are_tied() -> None:
    candidates = sweep(np.full(1, 1.5), 60, 0, epochs=1).part(np.array([0, 0, 0]))
    same = Candidates(np.arange(3), *[getattr(candidates, name) for name in NAMES])
    assert ties(same) == [0, 1, 2]


def test_a_lead_that_no_resample_moves_is_one() -> None:
    labels = (np.arange(20) < 10).astype(np.int64)
    scores = np.stack([labels * 5.0, labels * -5.0])
    logits = np.stack([np.zeros_like(scores), scores], axis=2).astype(np.float32)
    assert ties(Candidates(np.arange(2), np.ones(2, np.intp), logits, labels, "binary", "val/auroc")) == [0]


@pytest.mark.parametrize("lost", [10, 200])
def test_resamples_without_a_winner_count_for_nothing(lost: int) -> None:
    candidates = sweep(np.array([1.9, 1.8, 0.1]), 150, 0)
    draws = draw(candidates, 200, np.random.default_rng(0))
    in_bag = draws.in_bag.copy()
    in_bag[:lost] = np.nan
    tied = tie_set(candidates, Draws(draws.resamples, in_bag, draws.winners, draws.out_of_bag)).tolist()
    assert tied == ([0, 1] if lost == 10 else [0, 1, 2])


NAMES = ("epochs", "logits", "labels", "task", "metric")
