import json
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from medtune.config.trial import Metric
from medtune.selection.candidates import Candidates, best_of_trials
from medtune.selection.choose import Selection, choose
from medtune.task import Task

NOISE = (0.5, 1.0, 2.0, 4.0)


@pytest.fixture
def made(draw: Callable[..., Any]) -> Callable[..., Candidates]:
    """`made(task, metric, trials, epochs)`: noisier views of one good model, the first trial the least noisy."""

    def make(
        task: Task = "binary", metric: Metric = "val/auroc", trials: int = 4, epochs: int = 2, cases: int = 50
    ) -> Candidates:
        logits, labels = draw(task, cases, 1)
        generator = np.random.default_rng(2)
        scales = np.repeat(NOISE[:trials], epochs)
        noisy = [logits + generator.normal(0, scale, logits.shape) for scale in scales]
        numbers = np.repeat(np.arange(trials), epochs), np.tile(np.arange(1, epochs + 1), trials)
        return Candidates(*numbers, np.stack(noisy).astype(np.float32), labels, task, metric)

    return make


def written(selection: Selection) -> dict[str, Any]:
    return json.loads(json.dumps(selection.as_json(), allow_nan=False))


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize("metric", get_args(Metric))
def test_every_task_by_every_metric(made: Callable[..., Candidates], task: Task, metric: Metric) -> None:
    candidates = made(task, metric)
    selection = choose(candidates, 40, 0, costs={0: 3.0, 1: 2.0, 2: 1.0})
    found = written(selection)
    values = [metrics[metric] for metrics in candidates.metrics]
    assert found["raw"] == (max(values) if candidates.sign > 0 else min(values))
    assert found["optimism"] == pytest.approx(found["raw"] - found["corrected"])
    assert found["corrected_interval"]["low"] <= found["corrected"] <= found["corrected_interval"]["high"]
    assert found["raw_interval"]["low"] <= found["raw"] <= found["raw_interval"]["high"]
    assert found["winner"] in found["tie"] and found["winner"] == found["trials"][0]["trial"]
    assert found["epoch"] == found["trials"][0]["epoch"] and found["raw"] == found["trials"][0]["value"]
    assert sum(trial["wins"] for trial in found["trials"]) == pytest.approx(1)
    assert [trial["tied"] for trial in found["trials"]] == [t["trial"] in found["tie"] for t in found["trials"]]
    assert found["candidates"] == 8 and found["cases"] == 50 and found["resamples"] == 40


def test_the_same_seed_chooses_the_same(made: Callable[..., Candidates]) -> None:
    one, other, third = (written(choose(made(), 50, seed)) for seed in (3, 3, 4))
    assert one == other and one["corrected"] != third["corrected"]


class TestConstraints:
    def test_what_breaks_them_is_not_chosen(self, made: Callable[..., Candidates]) -> None:
        candidates = made()
        free = choose(candidates, 40, 0)
        taken = candidates.metrics[int(candidates.goodness.argmax())]["val/ece"]
        others = sorted(metrics["val/ece"] for metrics in candidates.metrics)
        limit = (others[0] + min(ece for ece in others[1:])) / 2 if taken > others[0] else taken
        bound = choose(candidates, 40, 0, constraints={"val/ece": {"max": limit}})
        assert len(bound.eligible) == 1 and bound.note == ""
        found = {trial["trial"]: trial for trial in written(bound)["trials"]}
        assert found[bound.trial]["feasible"] and found[bound.trial]["wins"] == 1
        broken = [trial for trial in found.values() if not trial["feasible"]]
        assert len(broken) == 3 and all(trial["broken"]["val/ece max"] > 0 for trial in broken)
        assert not any(trial["tied"] or trial["pareto"] or trial["wins"] for trial in broken)
        assert len(free.eligible) == 8

    def test_a_trial_is_shown_at_its_best_epoch_that_keeps_them(self, made: Callable[..., Candidates]) -> None:
        candidates = made(trials=1)
        better = int(candidates.goodness.argmax())
        ece = [metrics["val/ece"] for metrics in candidates.metrics]
        side = {"max": (sum(ece)) / 2} if ece[better] > ece[1 - better] else {"min": sum(ece) / 2}
        selection = choose(candidates, 40, 0, constraints={"val/ece": side})
        assert selection.epoch == candidates.epochs[1 - better]
        assert selection.standings[0].epoch == selection.epoch and not selection.standings[0].broken

    def test_where_nothing_keeps_them_the_least_broken_wins_and_it_is_said(
        self, made: Callable[..., Candidates]
    ) -> None:
        candidates = made()
        selection = choose(candidates, 40, 0, constraints={"val/accuracy": {"min": 1.5}})
        accuracy = [metrics["val/accuracy"] for metrics in candidates.metrics]
        assert accuracy[int(np.flatnonzero(candidates.trials == selection.trial)[selection.epoch - 1])] == max(accuracy)
        assert "nothing keeps the constraints" in selection.note and "val/accuracy min by" in selection.note
        assert written(selection)["note"] == selection.note


def test_one_candidate(made: Callable[..., Candidates]) -> None:
    found = written(choose(made(trials=1, epochs=1), 40, 0))
    assert found["winner"] == 0 and found["tie"] == [0] and found["thrifty"] == 0 and found["pareto"] == [0]


def test_candidates_that_are_all_the_same(made: Callable[..., Candidates]) -> None:
    candidates = made().part(np.zeros(4, int))
    same = Candidates(np.arange(4), np.ones(4, int), candidates.logits, candidates.labels, "binary", "val/auroc")
    found = written(choose(same, 40, 0, costs={3: 1.0, 0: 2.0}))
    assert found["winner"] == 0 and found["tie"] == [0, 1, 2, 3] and found["thrifty"] == 3
    assert found["optimism"] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("metric", get_args(Metric))
def test_a_class_with_one_case(made: Callable[..., Candidates], metric: Metric) -> None:
    candidates = made(metric=metric)
    labels = np.zeros(50, np.int64)
    labels[7] = 1
    rare = Candidates(candidates.trials, candidates.epochs, candidates.logits, labels, "binary", metric)
    found = written(choose(rare, 40, 0))
    assert (found["corrected"] is None) == (metric == "val/auroc")


def test_a_rare_label_of_several_is_lost_in_some_resamples(made: Callable[..., Candidates]) -> None:
    candidates = made("multilabel")
    labels = candidates.labels.copy()
    labels[:, :4] = 0
    labels[:3, 3] = 1  # only ever beside one of three rarer labels, each of which has another case
    labels[[0, 10], 0] = labels[[1, 11], 1] = labels[[2, 12], 2] = 1
    rare = Candidates(candidates.trials, candidates.epochs, candidates.logits, labels, "multilabel", "val/auroc")
    selection = choose(rare, 400, 0)
    assert not selection.draws.defined.all()
    assert sum(standing.wins for standing in selection.standings) == pytest.approx(1)
    written(selection)


def test_the_usual_rule_stands_beside_the_thrifty_choice(made: Callable[..., Candidates]) -> None:
    candidates = made(trials=4)
    logits = candidates.logits.copy()
    logits[2:] = logits[:2].mean(axis=0) + np.random.default_rng(0).normal(0, 1.2, logits[2:].shape)
    near = Candidates(candidates.trials, candidates.epochs, logits, candidates.labels, "binary", "val/auroc")
    costs = {0: 9.0, 1: 3.0, 2: 2.0, 3: 1.0}
    selection = choose(near, 200, 0, costs=costs)
    found = written(selection)
    for name, errors in (("thrifty", 0.25), ("one_standard_error", 1.0)):
        drawn, each = selection.draws.in_bag.astype(float), best_of_trials(near)
        error = (drawn[:, [selection.winner]] - drawn[:, each]).std(axis=0)
        behind = near.goodness[selection.winner] - near.goodness[each]
        assert found[name] == min(np.flatnonzero(behind <= errors * error), key=lambda trial: costs[int(trial)])
    assert found["one_standard_error"] != found["thrifty"]


def test_few_cases(made: Callable[..., Candidates]) -> None:
    written(choose(made(cases=4), 40, 0))


def test_nothing_to_choose_from_and_nothing_to_choose_by(made: Callable[..., Candidates]) -> None:
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose(made().part(np.array([], int)), 40, 0)
    candidates = made()
    one_class = Candidates(
        candidates.trials, candidates.epochs, candidates.logits, np.zeros(50, np.int64), "binary", "val/auroc"
    )
    with pytest.raises(ValueError, match="val/auroc is not defined"):
        choose(one_class, 40, 0)
