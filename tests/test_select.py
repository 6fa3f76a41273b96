import json
from typing import Any

import numpy as np
import pytest

from medtune import select as selecting
from medtune.evaluation.metrics import evaluate
from medtune.search.folder import FolderError, SweepFolder
from medtune.select import (
    candidates_of,
    current_selection,
    ensemble,
    one_trial,
    saved_finalists,
    select,
    winner,
    write_selection,
)


def entries(folder: SweepFolder) -> Any:
    return selecting._entries(folder, folder.config())


def test_every_epoch_of_every_trial_is_a_candidate(finished_once: SweepFolder) -> None:
    candidates, left_out = candidates_of(finished_once, finished_once.config(), entries(finished_once))
    wanted = [(entry.number, epoch) for entry in entries(finished_once) for epoch in sorted(entry.values)]
    assert list(zip(candidates.trials, candidates.epochs, strict=True)) == wanted and not left_out
    assert {entry.state for entry in entries(finished_once)} == {"complete", "pruned"}
    for index, (trial, epoch) in enumerate(wanted):
        value = evaluate(candidates.logits[index], candidates.labels, "binary")["auroc"]
        assert value == pytest.approx(entries(finished_once)[trial].values[epoch])


def test_where_epochs_are_chosen_by_another_metric_each_trial_is_there_once(finished: SweepFolder) -> None:
    config = finished.config()
    config = config.model_copy(update={"search": config.search.model_copy(update={"best_epoch": "val/loss"})})
    candidates, _ = candidates_of(finished, config, entries(finished))
    assert [*candidates.trials] == [entry.number for entry in entries(finished)]
    assert [*candidates.epochs] == [entry.best_epoch for entry in entries(finished)]


def test_the_choice_is_written_and_is_plain_json(finished: SweepFolder) -> None:
    chosen = select(finished, finished.config())
    write_selection(finished, chosen)
    text = (finished.path / "selection.json").read_text()
    found = json.loads(text, parse_constant=pytest.fail)
    assert found == json.loads(json.dumps(chosen.as_json()))
    candidates, _ = candidates_of(finished, finished.config(), entries(finished))
    best = candidates.goodness.argmax()
    assert (found["winner"], found["epoch"]) == (candidates.trials[best], candidates.epochs[best])
    assert found["raw"] == pytest.approx(candidates.goodness[best])
    assert found["optimism"] == pytest.approx(found["raw"] - found["corrected"]) and found["winner"] in found["tie"]
    assert {"single", "bagged", "greedy"} == set(found["ensembles"]["options"])
    assert found["ensembles"]["options"]["single"]["estimate"] == found["corrected"]  # one number for one model
    assert found["one_standard_error"] in candidates.trials
    assert winner(finished, finished.config()).members[0].trial == found["winner"]


def test_the_same_again(finished: SweepFolder) -> None:
    first = select(finished, finished.config()).as_json()
    assert select(finished, finished.config()).as_json() == first


def test_it_is_made_anew_only_when_more_trials_have_ended(
    finished: SweepFolder, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finished.config()
    found = current_selection(finished, config)
    with monkeypatch.context() as patch:
        patch.setattr(selecting, "select", lambda *_: pytest.fail("chosen anew"))
        assert not saved_finalists(finished, config)
        assert current_selection(finished, config) == json.loads(json.dumps(found))
    finished.write_config(config.model_copy(update={"search": config.search.model_copy(update={"trials": 6})}))
    tiny.run(tiny.open(finished))
    assert sum(current_selection(finished, finished.config())["ended"].values()) == 6


def test_an_ensemble_has_at_most_so_many_trials(finished: SweepFolder) -> None:
    for kind in ("bagged", "greedy"):
        found = ensemble(finished, finished.config(), kind, 2)
        assert 1 <= len(found.trials) <= 2 and sum(member.weight for member in found.members) == pytest.approx(1)


def test_a_trial_by_its_number(finished: SweepFolder) -> None:
    (member,) = one_trial(finished, finished.config(), 1).members
    assert (member.trial, member.epoch) == (1, entries(finished)[1].best_epoch)
    with pytest.raises(FolderError, match="no trial 99: they are numbered 0 to 4"):
        one_trial(finished, finished.config(), 99)


def test_without_predictions_it_says_so(tiny: Any, tmp_path: Any, finished: SweepFolder) -> None:
    folder = tiny.create(tmp_path / "empty")
    with pytest.raises(FolderError, match="no trial that ended with predictions: `medtune resume .*`"):
        select(folder, folder.config())
    (finished.trial(1) / "validation.npz").unlink()
    assert select(finished, finished.config()).as_json()["left_out"] == {1: "it has left no predictions"}


def test_a_trial_that_diverged_in_an_epoch_is_there_with_the_others(finished: SweepFolder) -> None:
    kept = finished.predictions(1)
    kept["logits"][0, 0, 0] = np.nan
    finished.write_predictions(1, kept)
    candidates, _ = candidates_of(finished, finished.config(), entries(finished))
    assert 1 not in candidates.epochs[candidates.trials == 1]


def test_those_on_the_same_cases_as_most_are_compared(finished: SweepFolder) -> None:
    kept = finished.predictions(0)
    finished.write_predictions(0, {**kept, "logits": kept["logits"][:, :50], "labels": kept["labels"][:50]})
    found = select(finished, finished.config()).as_json()
    assert found["left_out"] == {0: "it was validated on other cases than most"} and len(found["trials"]) == 4


def test_where_nothing_keeps_the_constraints_the_least_broken_are_finalists(finished: SweepFolder) -> None:
    config = finished.config()
    limits = {"val/ece": {"max": 0.0}}
    chosen = select(
        finished, config.model_copy(update={"search": config.search.model_copy(update={"constraints": limits})})
    )
    assert chosen.best and chosen.best[0] == (chosen.selection.trial, chosen.selection.epoch)
    assert chosen.as_json()["note"]


def test_constraints_decide_who_may_win(finished: SweepFolder) -> None:
    config = finished.config()
    free = select(finished, config).as_json()
    limit = min(one["val/ece"] for one in candidates_of(finished, config, entries(finished))[0].metrics) + 1e-6
    strict = config.model_copy(
        update={"search": config.search.model_copy(update={"constraints": {"val/ece": {"max": limit}}})}
    )
    found = select(finished, strict).as_json()
    assert found["eligible"] < found["candidates"] == free["candidates"] and found["raw"] <= free["raw"]
