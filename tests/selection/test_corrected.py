import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medtune.evaluation.intervals import Interval, auroc_interval
from medtune.evaluation.metrics import probabilities
from medtune.selection.candidates import Candidates, Draws, draw
from medtune.selection.corrected import Corrected, corrected, signal_share
from medtune.selection.tie_set import tie_set


def of_scores(scores: np.ndarray, labels: np.ndarray, trials: np.ndarray | None = None) -> Candidates:
    logits = np.stack([np.zeros_like(scores), scores], axis=2).astype(np.float32)
    trials = np.arange(len(scores)) if trials is None else trials
    return Candidates(trials, np.ones(len(scores), np.intp), logits, labels, "binary", "val/auroc")


def sweep(quality: np.ndarray, cases: int, seed: int) -> Candidates:
    """Binormal scores of trials with so many standard deviations between the classes."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(cases) < 0.3 * cases).astype(np.int64)
    noise = 0.8 * generator.normal(size=cases) + 0.6 * generator.normal(size=(len(quality), cases))
    return of_scores(quality[:, None] * labels + noise, labels)


def worth(candidates: Candidates, resamples: int = 200) -> Corrected:
    best = int(candidates.goodness.argmax())
    raw = auroc_interval(probabilities(candidates.logits[best], "binary"), candidates.labels, "binary")
    draws = draw(candidates, resamples, np.random.default_rng(0))
    return corrected(candidates, draws, tie_set(candidates, draws), raw)


def share_of(candidates: Candidates, resamples: int = 100) -> float:
    draws = draw(candidates, resamples, np.random.default_rng(0))
    return signal_share(candidates, draws, tie_set(candidates, draws))


def test_of_equals_the_best_is_worth_what_all_are() -> None:
    found = [worth(sweep(np.full(40, 1.5), 80, seed)) for seed in range(30)]
    true = 0.8556  # Phi(1.5 / sqrt 2)
    assert np.mean([one.raw for one in found]) > true + 0.04
    assert np.mean([one.value for one in found]) == pytest.approx(true, abs=0.02)
    assert np.mean([one.interval.low <= true <= one.interval.high for one in found]) >= 0.9


def test_a_best_that_is_truly_better_keeps_what_it_is_better_by() -> None:
    from scipy.special import ndtr

    errors, plain = [], []
    for seed in range(40):
        quality = 1.5 + 0.35 * np.random.default_rng(seed).normal(size=40)
        candidates = sweep(quality, 120, seed)
        truth = ndtr(quality[candidates.goodness.argmax()] / np.sqrt(2))
        errors.append(worth(candidates).value - truth)
        plain.append(float(np.nanmean(draw(candidates, 200, np.random.default_rng(0)).out_of_bag)) - truth)
    assert abs(np.mean(errors)) < 0.012
    assert np.mean(errors) > np.mean(plain) + 0.002
    assert np.mean(np.abs(errors)) < np.mean(np.abs(plain))


@pytest.mark.parametrize(("spread", "low", "high"), [(0.0, 0.0, 0.3), (0.15, 0.35, 0.6), (0.3, 0.45, 0.9)])
def test_the_share_of_the_spread_that_is_no_noise(spread: float, low: float, high: float) -> None:
    shares = []
    for seed in range(6):
        quality = 1.5 + spread * np.random.default_rng(seed).normal(size=40)
        shares.append(share_of(sweep(quality, 120, seed)))
    assert low <= np.mean(shares) <= high


def test_trials_that_learned_nothing_are_no_signal() -> None:
    alike = [sweep(np.full(40, 1.5), 200, seed) for seed in range(10)]
    shares = []
    for candidates in alike:
        scores = candidates.logits[..., 1].copy()
        scores[:20] = np.random.default_rng(0).normal(size=(20, 200))
        half_junk = of_scores(scores, candidates.labels)
        shares.append(share_of(half_junk))
    assert np.mean(shares) < 0.35


def test_of_few_trials_it_is_the_mean_of_the_left_out_scores() -> None:
    candidates = sweep(np.array([1.0, 1.5, 2.0]), 60, 0)
    draws = draw(candidates, 50, np.random.default_rng(0))
    assert share_of(candidates) == 0
    assert worth(candidates, 50).value == pytest.approx(float(draws.out_of_bag.mean()))


def test_one_candidate_is_worth_about_what_it_reads() -> None:
    found = worth(sweep(np.array([1.5]), 300, 0))
    assert found.value == pytest.approx(found.raw, abs=0.01)
    assert found.optimism == found.raw - found.value


def test_a_class_of_one_case_leaves_nothing_to_score_and_says_so() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 20))
    labels = np.zeros(20, np.int64)
    labels[3] = 1
    found = worth(of_scores(scores, labels))
    written = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert written["corrected"] is None and written["optimism"] is None and written["raw"] == found.raw
    assert "too few" in written["corrected_interval"]["undefined"]


def test_resamples_without_a_score_are_left_out() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 20))
    labels = (np.arange(20) < 3).astype(np.int64)
    candidates = of_scores(scores, labels)
    draws = draw(candidates, 200, np.random.default_rng(0))
    assert np.isnan(draws.out_of_bag).any()
    assert np.isfinite(corrected(candidates, draws, candidates.trials, Interval(0.5, 0.2, 0.8)).value)


def test_a_resample_that_lost_a_label_counts_for_nothing() -> None:
    candidates = sweep(np.array([1.0, 1.5, 2.0]), 60, 0)
    draws = draw(candidates, 50, np.random.default_rng(0))
    in_bag, out_of_bag = draws.in_bag.copy(), draws.out_of_bag.copy()
    in_bag[:10], out_of_bag[:10] = np.nan, 0
    lost = Draws(draws.resamples, in_bag, draws.winners, out_of_bag)
    found = corrected(candidates, lost, candidates.trials, Interval(0.5, 0.2, 0.8))
    assert found.value == pytest.approx(float(draws.out_of_bag[10:].mean()))


def test_a_perfect_winner_is_not_certain() -> None:
    labels = (np.arange(20) < 10).astype(np.int64)
    found = worth(of_scores(np.stack([labels * 5.0, labels * 4.0]), labels))
    assert found.value == 1 and found.interval.low < 0.8 and found.interval.high == 1


def test_of_one_candidate_the_interval_is_as_wide_as_the_plain_one() -> None:
    """Nothing was chosen, so the deviation of the left-out scores must come to that of all cases."""
    widths = []
    for seed in range(12):
        candidates = sweep(np.array([1.5]), 400, seed)
        found, plain = (
            worth(candidates, 800).interval,
            auroc_interval(probabilities(candidates.logits[0], "binary"), candidates.labels, "binary"),
        )
        widths.append((found.high - found.low) / (plain.high - plain.low))
    assert np.mean(widths) == pytest.approx(1, abs=0.05)


def test_the_interval_is_that_of_the_left_out_scores(draw_losses: Callable[[], Candidates]) -> None:
    candidates = draw_losses()
    draws = draw(candidates, 100, np.random.default_rng(0))
    found = corrected(candidates, draws, candidates.trials, Interval(0.5, 0.2, 0.8)).interval
    reach = 1.959964 * draws.out_of_bag.astype(float).std() / np.sqrt(np.e - 1)
    assert found.high - found.value == found.value - found.low == pytest.approx(reach)


def test_a_loss_is_corrected_upwards(draw_losses: Callable[[], Candidates]) -> None:
    candidates = draw_losses()
    draws = draw(candidates, 100, np.random.default_rng(0))
    found = corrected(candidates, draws, candidates.trials, Interval(0.5, 0.2, 0.8))
    assert 0 < found.raw < found.value and found.optimism < 0
    assert found.interval.low < found.value < found.interval.high


@pytest.fixture
def draw_losses(draw: Any) -> Callable[[], Candidates]:
    """`draw` of conftest under a name of its own: here `draw` resamples."""

    def make() -> Candidates:
        logits, labels = draw_of(draw)
        noisy = logits + np.random.default_rng(2).normal(0, 1, (20, *logits.shape))
        return Candidates(
            np.arange(20), np.ones(20, np.intp), noisy.astype(np.float32), labels, "multiclass", "val/loss"
        )

    return make


def draw_of(make: Any) -> Any:
    return make("multiclass", 60, 1)
