from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from medtune.config.trial import Metric
from medtune.evaluation.metrics import evaluate
from medtune.selection.candidates import Candidates, draw
from medtune.task import Task


@pytest.fixture
def made(draw: Callable[..., Any]) -> Callable[..., Candidates]:
    """`made(task, metric)`: three trials of two epochs, each a noisier view of the same good model."""

    def make(task: Task, metric: Metric = "val/auroc", cases: int = 60) -> Candidates:
        logits, labels = draw(task, cases, 1)
        generator = np.random.default_rng(2)
        noisy = [logits + generator.normal(0, scale, logits.shape) for scale in (0.2, 0.5, 1, 2, 4, 8)]
        trials, epochs = np.repeat(np.arange(3), 2), np.tile([1, 2], 3)
        return Candidates(trials, epochs, np.stack(noisy).astype(np.float32), labels, task, metric)

    return make


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize("metric", get_args(Metric))
def test_a_resample_is_scored_as_those_cases_would_be(
    made: Callable[..., Candidates], task: Task, metric: Metric
) -> None:
    candidates = made(task, metric)
    draws = draw(candidates, 20, np.random.default_rng(0))
    for index in (0, 7, 19):
        cases = np.repeat(np.arange(60), draws.resamples.counts[index])
        wanted = [evaluate(logits[cases], candidates.labels[cases], task) for logits in candidates.logits]
        values = [candidates.sign * one[metric.removeprefix("val/")] for one in wanted]
        np.testing.assert_allclose(draws.in_bag[index], values, atol=2e-6)
        outside = draws.resamples.counts[index] == 0
        winner = draws.winners[index]
        out = evaluate(candidates.logits[winner][outside], candidates.labels[outside], task)
        np.testing.assert_allclose(
            draws.out_of_bag[index], candidates.sign * out[metric.removeprefix("val/")], atol=2e-6
        )


def test_what_cannot_be_ranked_is_refused(made: Callable[..., Candidates]) -> None:
    candidates = made("binary")
    one_class = Candidates(
        candidates.trials,
        candidates.epochs,
        candidates.logits,
        np.zeros(60, np.int64),
        "binary",
        "val/auroc",
    )
    with pytest.raises(ValueError, match="val/auroc is not defined"):
        draw(one_class, 10, np.random.default_rng(0))
