import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from medtune.config.trial import Metric
from medtune.selection.candidates import Candidates
from medtune.selection.candidates import draw as resample
from medtune.selection.choose import choose
from medtune.selection.ensembles import bagged, greedy, single
from medtune.selection.recommendation import Recommendation, recommend
from medtune.task import Task


def candidates_of(
    draw: Callable[..., Any], task: Task, metric: Metric, scales: tuple[float, ...], cases: int = 80
) -> Candidates:
    logits, labels = draw(task, cases, 1)
    generator = np.random.default_rng(2)
    seen = np.stack([logits + generator.normal(0, scale, logits.shape) for scale in scales]).astype(np.float32)
    return Candidates(np.arange(len(scales)), np.ones(len(scales), int), seen, labels, task, metric)


def recommended(candidates: Candidates, **options: Any) -> Recommendation:
    found = choose(candidates, 80, 0)
    return recommend(candidates, found.draws, found.corrected.value, frozenset(), np.random.default_rng(1), **options)


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize("metric", get_args(Metric))
def test_every_task_and_metric_has_a_reason_in_words(draw: Callable[..., Any], task: Task, metric: Metric) -> None:
    found = recommended(candidates_of(draw, task, metric, (2, 2, 2, 2)))
    assert set(found.options) == {"single", "bagged", "greedy"}
    assert found.ensemble is found.options[found.kind].ensemble
    written = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert written["recommended"] == found.kind
    assert written["why"] == found.why
    best = found.options["single"].ensemble.as_json()
    assert written["options"]["single"]["members"] == best["members"]


def test_several_where_they_are_better(draw: Callable[..., Any]) -> None:
    found = recommended(candidates_of(draw, "binary", "val/auroc", (4,) * 8, cases=200), most=4)
    several, one = found.options[found.kind].estimate, found.options["single"].estimate
    assert found.kind != "single"
    assert len(found.ensemble.trials) == 4
    assert several > one + 0.02
    assert f"of 4 trials reads .{several * 1000:.0f} out of bag" in found.why
    assert f"the single winner .{one * 1000:.0f}: .{(several - one) * 1000:03.0f} better (" in found.why


def test_the_single_winner_is_worth_what_the_selection_says(draw: Callable[..., Any]) -> None:
    candidates = candidates_of(draw, "binary", "val/auroc", (4,) * 8)
    draws = resample(candidates, 80, np.random.default_rng(0))
    found = recommend(candidates, draws, 0.999, frozenset(), np.random.default_rng(1))
    assert found.options["single"].estimate == 0.999
    assert found.kind == "single" and "the single winner .999" in found.why


def test_less_is_better_of_a_loss(draw: Callable[..., Any]) -> None:
    found = recommended(candidates_of(draw, "binary", "val/loss", (4,) * 8, cases=200))
    several, one = found.options[found.kind].estimate, found.options["single"].estimate
    assert 0 < several < one
    assert f"{one - several:.3f} better (".removeprefix("0") in found.why and "-" not in found.why


def test_a_difference_of_ten_keeps_its_digits(draw: Callable[..., Any]) -> None:
    candidates = candidates_of(draw, "binary", "val/loss", (4,) * 8)
    draws = resample(candidates, 80, np.random.default_rng(0))
    several = recommended(candidates).options["bagged"].estimate
    found = recommend(candidates, draws, several + 10.25, frozenset(), np.random.default_rng(1))
    assert ": 10." in found.why and " better (" in found.why


def test_by_an_ece_a_single_model_and_several_cannot_be_compared(draw: Callable[..., Any]) -> None:
    found = recommended(candidates_of(draw, "binary", "val/ece", (4,) * 8, cases=200))
    assert found.kind == "single" and "ECE of fewer cases" in found.why


def test_one_where_nothing_else_comes_near(draw: Callable[..., Any]) -> None:
    found = recommended(candidates_of(draw, "binary", "val/auroc", (0.01, 50, 50)))
    assert found.kind == "single"
    assert "nothing to average" in found.why
    assert list(found.ensemble.trials) == [0]


@pytest.mark.parametrize("metric", ["val/auroc", "val/loss"])
def test_one_where_averaging_harms_beyond_the_error(draw: Callable[..., Any], metric: Metric) -> None:
    found = recommended(candidates_of(draw, "binary", metric, (0.1, 1, 1, 1), cases=300))
    assert found.kind == "single"
    assert " worse (standard error" in found.why and found.why.endswith("and so the single winner is taken")


def test_one_candidate(draw: Callable[..., Any]) -> None:
    found = recommended(candidates_of(draw, "multilabel", "val/auroc", (1,)))
    assert found.kind == "single"
    assert found.options["greedy"].ensemble == found.ensemble


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("complete", [frozenset[int](), frozenset({0})])
def test_one_trial_of_many_epochs(draw: Callable[..., Any], metric: Metric, complete: frozenset[int]) -> None:
    candidates = candidates_of(draw, "multiclass", metric, (4,) * 8)
    candidates = replace(candidates, trials=np.zeros(8, int), epochs=np.arange(1, 9))
    selection = choose(candidates, 80, 0)
    worth = selection.corrected.value
    found = recommend(candidates, selection.draws, worth, complete, np.random.default_rng(1))
    assert found.kind == "single" and "nothing to average" in found.why
    assert selection.tie == (0,) and found.options["single"].estimate == worth
    assert all(option.ensemble.kind == "single" for option in found.options.values())


def test_a_resample_that_lost_a_label_says_nothing_of_the_winner(draw: Callable[..., Any]) -> None:
    candidates = candidates_of(draw, "multilabel", "val/auroc", (1, 1, 1))
    labels = candidates.labels.copy()
    labels[:, :3] = 0
    labels[[0, 1], 2] = labels[[0, 10], 0] = labels[[1, 11], 1] = 1
    logits = np.where(labels == 1, 1, -1) + np.random.default_rng(0).normal(0, 1, candidates.logits.shape)
    logits[0] = np.where(labels == 1, -9, 9)  # the opposite of the truth
    candidates = replace(candidates, logits=logits.astype(np.float32), labels=labels)
    assert not choose(candidates, 80, 0).draws.defined.all()
    found = recommended(candidates)
    assert all(0 not in option.ensemble.trials for option in found.options.values())
    assert found.options["single"].estimate > 0.6


def test_too_few_cases_to_judge_by(draw: Callable[..., Any]) -> None:
    candidates = candidates_of(draw, "binary", "val/auroc", (4,) * 6)
    found = recommended(replace(candidates, labels=(np.arange(80) == 0).astype(np.int64)))
    assert found.kind == "single"
    assert "too few cases" in found.why
    assert found.as_json()["options"]["single"]["estimate"] is None


def test_the_options_are_what_the_functions_give(draw: Callable[..., Any]) -> None:
    candidates = candidates_of(draw, "ordinal", "val/accuracy", (3,) * 6)
    found = recommended(candidates, most=3)
    draws = resample(candidates, 80, np.random.default_rng(0))
    assert found.options["single"].ensemble == single(candidates)
    assert found.options["bagged"].ensemble == bagged(candidates, draws, frozenset(), 3)
    assert found.options["greedy"].ensemble == greedy(candidates, np.random.default_rng(1), 3)
