import numpy as np
import pytest
from scipy.stats import spearmanr

from medtune.config.sweep import Asha
from medtune.search.pruning import KeepAll, build_pruner
from medtune.search.rehearsal import EPOCH_END, SHUT_DOWN, START_UP, TRIAL_START, Planned, learning_curves, rehearse


class After:
    """Stops every trial after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.seen = epoch, []

    def stop(self, trial: int, epoch: int, value: float) -> bool:
        self.seen.append((trial, epoch))
        return epoch >= self.epoch


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def lasting(epochs: int, seconds: float) -> float:
    return TRIAL_START + epochs * (seconds + EPOCH_END)


class TestTheWorkers:
    def test_one_trains_a_trial_after_the_other(self, generator: np.random.Generator) -> None:
        went = rehearse([Planned(2, 1.0), Planned(3, 2.0)], 1, KeepAll(), generator)
        assert went.ends == pytest.approx(START_UP + np.cumsum([lasting(2, 1.0), lasting(3, 2.0)]))
        assert went.seconds == went.ends[-1] + SHUT_DOWN and (went.pruned, went.complete, went.epochs) == (0, 2, 5)

    def test_the_next_trial_goes_to_the_one_that_is_free(self, generator: np.random.Generator) -> None:
        trials = [Planned(1, 10.0), Planned(1, 1.0), Planned(1, 2.0), Planned(1, 3.0)]
        went = rehearse(trials, 2, KeepAll(), generator)
        short = np.cumsum([lasting(1, seconds) for seconds in (1.0, 2.0, 3.0)])
        assert went.ends == pytest.approx(START_UP + np.array([*short, lasting(1, 10.0)]))

    def test_more_of_them_than_trials(self, generator: np.random.Generator) -> None:
        assert rehearse([Planned(1, 1.0)], 8, KeepAll(), generator).seconds == pytest.approx(
            START_UP + lasting(1, 1.0) + SHUT_DOWN
        )

    def test_on_a_busy_machine_all_but_the_epochs_takes_longer(self, generator: np.random.Generator) -> None:
        went = rehearse([Planned(2, 1.0)], 1, KeepAll(), generator, slowness=2)
        assert went.seconds == pytest.approx(2 + 2 * (START_UP + TRIAL_START + 2 * EPOCH_END + SHUT_DOWN))


class TestWhatIsStopped:
    def test_all_but_the_default(self, generator: np.random.Generator) -> None:
        pruner = After(2)
        went = rehearse([Planned(4, 1.0)] * 3, 1, pruner, generator)
        assert (went.pruned, went.complete, went.epochs) == (2, 1, 4 + 2 + 2)
        assert pruner.seen == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (2, 1), (2, 2)]

    def test_not_at_the_last_epoch(self, generator: np.random.Generator) -> None:
        assert rehearse([Planned(2, 1.0)] * 3, 1, After(2), generator).pruned == 0

    def test_asha_keeps_about_a_third_at_each_rung(self, generator: np.random.Generator) -> None:
        pruner = build_pruner(Asha(grace_epochs=1, reduction_factor=3), "max", 27)
        went = rehearse([Planned(27, 1.0)] * 600, 2, pruner, generator)
        assert went.epochs / 600 == pytest.approx(1 + 2 / 3 + 6 / 9 + 18 / 27, rel=0.3)
        assert went.complete / 600 == pytest.approx(1 / 27, abs=0.05)

    def test_patience_ends_a_trial_that_is_no_better_and_does_not_prune_it(
        self, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        curves = np.array([[0.5, 0.6, 0.6, 0.55, 0.7], [0.1, 0.2, 0.3, 0.4, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5]])
        monkeypatch.setattr("medtune.search.rehearsal.learning_curves", lambda *_: curves)
        went = rehearse([Planned(5, 1.0, patience=2)] * 3, 1, KeepAll(), generator)
        assert (went.epochs, went.pruned) == (4 + 5 + 3, 0)


class TestTheCurves:
    def test_are_as_those_of_real_trials(self, generator: np.random.Generator) -> None:
        """Of 600 random configurations on BreastMNIST, after epochs 1, 2, 8 and 20 of 20."""
        curves = learning_curves([20] * 4000, generator)
        at = [0, 1, 7, 19]
        assert curves.mean(axis=0)[at] == pytest.approx([0.638, 0.701, 0.817, 0.858], abs=0.03)
        assert curves.std(axis=0)[at] == pytest.approx([0.111, 0.113, 0.075, 0.064], abs=0.02)
        ranks = [spearmanr(curves[:, epoch], curves[:, -1])[0] for epoch in (1, 2, 5, 8)]
        assert ranks == pytest.approx([0.63, 0.66, 0.74, 0.81], abs=0.06)

    def test_a_longer_trial_takes_as_many_epochs_more_to_rise(self) -> None:
        curves = learning_curves([5, 50], np.random.default_rng(0))
        assert curves.shape == (2, 50)
        short, long = (learning_curves([epochs] * 3000, np.random.default_rng(0)) for epochs in (10, 100))
        assert short.mean(axis=0) == pytest.approx(long.mean(axis=0)[9::10], abs=0.005)
