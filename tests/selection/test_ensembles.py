import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from medtune.config.trial import Metric
from medtune.evaluation.metrics import auroc, evaluate, probabilities
from medtune.selection.candidates import Candidates, Draws, draw
from medtune.selection.ensembles import (
    Ensemble,
    Member,
    bagged,
    bagged_votes,
    capped,
    goodness,
    greedy,
    greedy_votes,
    logits_of,
    single,
    stand_ins,
)
from medtune.task import Task

NOBODY: frozenset[int] = frozenset()


def noisy(
    draw: Callable[..., Any],
    task: Task,
    metric: Metric = "val/auroc",
    scales: tuple[float, ...] = (4, 4, 4, 4),
    epochs: int = 2,
    cases: int = 80,
) -> Candidates:
    """Trials that see the same truth through noise of their own, as strong as their scale."""
    logits, labels = draw(task, cases, 1)
    generator = np.random.default_rng(2)
    seen = [logits + generator.normal(0, scale, logits.shape) for scale in scales for _ in range(epochs)]
    trials, numbers = np.repeat(np.arange(len(scales)), epochs), np.tile(np.arange(1, epochs + 1), len(scales))
    return Candidates(trials, numbers, np.stack(seen).astype(np.float32), labels, task, metric)


def drawn(candidates: Candidates, resamples: int = 60) -> Draws:
    return draw(candidates, resamples, np.random.default_rng(3))


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize("metric", get_args(Metric))
def test_every_task_and_metric_has_its_ensembles(draw: Callable[..., Any], task: Task, metric: Metric) -> None:
    candidates = noisy(draw, task, metric)
    many = bagged(candidates, drawn(candidates), {0, 1}), greedy(candidates, np.random.default_rng(0))
    for ensemble in many:
        assert sum(member.weight for member in ensemble.members) == pytest.approx(1)
        assert all(member.weight > 0 for member in ensemble.members)
        shown = ensemble.probabilities(candidates)
        assert np.isfinite(goodness(shown, candidates.labels, candidates))
        if task != "multilabel":
            np.testing.assert_allclose(shown.sum(axis=1), 1)
    for votes in (
        bagged_votes(candidates, drawn(candidates), {0, 1}),
        greedy_votes(candidates, np.random.default_rng(0)),
    ):
        np.testing.assert_allclose(votes.shares.sum(axis=1), 1)
        assert np.isfinite(votes.goodness(3))


def test_the_weight_is_the_share_of_resamples_won(draw: Callable[..., Any]) -> None:
    candidates = noisy(draw, "binary")
    draws = drawn(candidates)
    for member in bagged(candidates, draws, NOBODY).members:
        index = np.flatnonzero((candidates.trials == member.trial) & (candidates.epochs == member.epoch))
        assert member.weight == pytest.approx((draws.winners == index).mean())


def test_a_complete_trial_stands_for_its_last_five_epochs(draw: Callable[..., Any]) -> None:
    candidates = noisy(draw, "binary", scales=(4, 4), epochs=7)
    shares = stand_ins(candidates, {1}).toarray()
    np.testing.assert_array_equal(shares[:7], np.eye(14)[:7])
    assert (shares[7:] == np.array([0] * 9 + [0.2] * 5)).all()
    ensemble = bagged(candidates, drawn(candidates), {1})
    assert {member.epoch for member in ensemble.members if member.trial == 1} == {3, 4, 5, 6, 7}


def test_it_predicts_the_weighted_mean_of_probabilities(draw: Callable[..., Any]) -> None:
    candidates = noisy(draw, "multiclass")
    ensemble = Ensemble("bagged", (Member(1, 2, 0.25), Member(3, 1, 0.75)))
    of_members = [probabilities(candidates.logits[index], "multiclass") for index in (3, 6)]
    np.testing.assert_allclose(ensemble.probabilities(candidates), 0.25 * of_members[0] + 0.75 * of_members[1])
    assert ensemble.trials == {3: 0.75, 1: 0.25}


def test_at_most_so_many_trials_the_heaviest(draw: Callable[..., Any]) -> None:
    candidates = noisy(draw, "binary", scales=(4,) * 8)
    whole, few = (bagged(candidates, drawn(candidates), NOBODY, most) for most in (None, 3))
    assert len(whole.trials) > 3
    assert list(few.trials) == list(whole.trials)[:3]
    assert sum(few.trials.values()) == pytest.approx(1)
    assert len(greedy(candidates, np.random.default_rng(0), 2).trials) == 2


def test_of_equal_trials_the_lowest_number_stays() -> None:
    weights = capped(np.array([[0.25, 0.25, 0.25, 0.25], [0, 0, 0, 0]]), np.array([7, 5, 5, 3]), 2)
    assert weights[0].tolist() == [0, 1 / 3, 1 / 3, 1 / 3]
    assert weights[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("change", ["one candidate", "all equal", "one always wins"])
def test_where_there_is_nothing_to_average_it_is_a_single_model(draw: Callable[..., Any], change: str) -> None:
    candidates = noisy(draw, "binary", scales=(0.01, 50), epochs=1)
    if change == "one candidate":
        candidates = candidates.part(np.array([1]))
    if change == "all equal":
        candidates = replace(candidates, logits=candidates.logits[[0, 0]])
    for complete in (NOBODY, {0, 1}):
        assert bagged(candidates, drawn(candidates), complete) == single(candidates)
    assert greedy(candidates, np.random.default_rng(0)) == single(candidates)


def test_more_than_the_noise_of_one_is_averaged_away(draw: Callable[..., Any]) -> None:
    candidates, fresh = (noisy(draw, "binary", scales=(3,) * 6, cases=400) for _ in range(2))
    alone = auroc(candidates.probabilities(0), candidates.labels, "binary")
    for ensemble in (bagged(candidates, drawn(candidates), NOBODY), greedy(candidates, np.random.default_rng(0))):
        assert auroc(ensemble.probabilities(fresh), fresh.labels, "binary") > alone + 0.02


def test_the_greedy_search_leaves_out_what_only_harms(draw: Callable[..., Any]) -> None:
    candidates = noisy(draw, "binary", scales=(0.5, 0.5, 0.5, 60), epochs=1, cases=200)
    assert greedy(candidates, np.random.default_rng(0)).trials.get(3, 0) < 0.05


def test_a_case_is_predicted_by_the_resamples_that_left_it_out(draw: Callable[..., Any]) -> None:
    candidates = noisy(draw, "binary", "val/brier", cases=30)
    draws = drawn(candidates, 40)
    errors = []
    for case in range(30):
        outside = np.flatnonzero(draws.resamples.counts[:, case] == 0)
        shown = np.mean([candidates.probabilities(draws.winners[row])[case, 1] for row in outside])
        errors.append((shown - candidates.labels[case]) ** 2)
    assert bagged_votes(candidates, draws, NOBODY).goodness() == pytest.approx(-np.mean(errors))


def test_what_was_chosen_by_noise_is_not_flattered() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    logits = generator.normal(size=(200, 60, 2)).astype(np.float32)  # no trial knows anything
    candidates = Candidates(np.arange(200), np.ones(200, int), logits, labels, "binary", "val/auroc")
    assert candidates.goodness.max() > 0.65
    for most in (None, 5):
        assert bagged_votes(candidates, drawn(candidates, 200), NOBODY).goodness(most) < 0.58
        assert greedy_votes(candidates, generator).goodness(most) < 0.58


def test_a_class_of_one_case_leaves_no_estimate(draw: Callable[..., Any]) -> None:
    candidates = noisy(draw, "binary")
    lonely = replace(candidates, labels=(np.arange(80) == 0).astype(np.int64))
    assert np.isnan(bagged_votes(lonely, drawn(lonely), NOBODY).goodness())


def with_a_label_that_gets_lost(draw: Callable[..., Any]) -> Candidates:
    """Three trials, the first of which says the opposite of the truth; two cases of a label, which come with others."""
    candidates = noisy(draw, "multilabel", scales=(1, 1, 1), epochs=1)
    labels = candidates.labels.copy()
    labels[:, :3] = 0
    labels[[0, 1], 2] = labels[[0, 10], 0] = labels[[1, 11], 1] = 1
    logits = np.where(labels == 1, 1, -1) + np.random.default_rng(0).normal(0, 1, candidates.logits.shape)
    logits[0] = np.where(labels == 1, -9, 9)
    return replace(candidates, logits=logits.astype(np.float32), labels=labels)


def test_a_resample_that_lost_a_label_votes_for_nobody(draw: Callable[..., Any]) -> None:
    candidates = with_a_label_that_gets_lost(draw)
    draws = drawn(candidates, 200)
    assert 10 < draws.defined.sum() < 190 and candidates.goodness[0] == 0
    votes = bagged_votes(candidates, draws, NOBODY), greedy_votes(candidates, np.random.default_rng(0))
    assert votes[0].shares.shape[0] == votes[0].left_out.shape[0] == draws.defined.sum()
    for one in votes:
        assert 0 not in one.ensemble().trials and np.isfinite(one.goodness())


def test_where_every_resample_lost_a_label_the_best_is_alone(draw: Callable[..., Any]) -> None:
    candidates = with_a_label_that_gets_lost(draw)
    draws = drawn(candidates, 200)
    lost = Draws(draws.resamples, np.full_like(draws.in_bag, np.nan), draws.winners, draws.out_of_bag)
    votes = bagged_votes(candidates, lost, NOBODY)
    assert votes.ensemble() == votes.ensemble(2) == single(candidates) and np.isnan(votes.goodness())


def test_many_candidates_need_little_memory() -> None:
    generator = np.random.default_rng(0)
    trials, epochs = np.repeat(np.arange(100), 60), np.tile(np.arange(1, 61), 100)
    logits = generator.normal(size=(6_000, 20, 2)).astype(np.float32)
    candidates = Candidates(trials, epochs, logits, np.repeat([0, 1], 10), "binary", "val/accuracy")
    draws = drawn(candidates, 300)
    tracemalloc.start()
    for votes in (bagged_votes(candidates, draws, set(range(50))), greedy_votes(candidates, generator, {1})):
        assert votes.ensemble(5).trials and np.isfinite(votes.goodness(5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # a matrix of candidates x candidates alone is 288 MB


@pytest.mark.parametrize("task", get_args(Task))
def test_logits_of_probabilities_are_of_the_same_metrics(draw: Callable[..., Any], task: Task) -> None:
    logits, labels = draw(task, 50, 1)
    again = logits_of(probabilities(logits, task), task)
    assert evaluate(again, labels, task) == pytest.approx(evaluate(logits, labels, task))
    assert np.isfinite(logits_of(np.array([[0.0, 1.0]]), task)).all()
