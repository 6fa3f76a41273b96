import json
from statistics import mean
from typing import Any

import pytest

from medtune.finalists import Bout, Finalist, run_finalists
from medtune.search.folder import SweepFolder
from medtune.search.jobs import TrainingFailed
from medtune.search.launch import in_this_process
from medtune.search.worker import run_job
from medtune.training.seeds import FINALISTS, trial_seed


def quiet(bout: Bout, record: Any) -> None: ...


def run(folder: SweepFolder, candidates: Any, seeds: int, on_epoch: Any = quiet) -> list[Finalist]:
    return run_finalists(folder, folder.config(), candidates, seeds, on_epoch, in_this_process)


def test_each_is_its_trial_up_to_the_chosen_epoch_on_fresh_seeds(finished: SweepFolder, tiny: Any) -> None:
    told: list[Any] = []
    found = run(finished, [(0, 2), (1, 1)], 2, lambda bout, record: told.append((bout, record["epoch"])))
    wanted = [Bout(0, 2, 0), Bout(0, 2, 1), Bout(1, 1, 0), Bout(1, 1, 1)]
    assert told == [(bout, epoch) for bout in wanted for epoch in range(1, bout.epoch + 1)]
    # by hand: the same job of a sweep, with the other seed
    job = next(iter(tiny.open(tiny.create(finished.path.parent / "other")).next_job() for _ in range(1)))
    messages: list[Any] = []
    storage = str(finished.path.parent / "by-hand")
    by_hand = {**vars(job), "seed": trial_seed(0, FINALISTS), "stop": 2, "storage": storage}
    run_job(type(job)(**by_hand), tiny.data(finished.config()), messages.append)
    first = next(finalist for finalist in found if finalist.trial == 0)
    assert first.values[0] == messages[-1]["val/auroc"] and messages[-1]["last"]
    means = [mean(finalist.values) for finalist in found]
    assert means == sorted(means, reverse=True)
    assert {path.name for path in (finished.path / "finalists").iterdir()} == {"results.jsonl"}


def test_what_is_known_is_not_trained_again(finished: SweepFolder) -> None:
    before = run(finished, [(0, 1), (1, 1)], 1)
    assert run(finished, [(0, 1), (1, 1)], 1, lambda *_: pytest.fail("trained again")) == before
    told: list[Bout] = []
    run(finished, [(0, 1), (2, 1)], 1, lambda bout, record: told.append(bout))
    assert told == [Bout(2, 1, 0)]


def test_after_a_kill_it_goes_on_to_the_same_numbers(finished: SweepFolder, finished_once: SweepFolder) -> None:
    def killed(bout: Bout, record: Any) -> None:
        if (bout.trial, record["epoch"]) == (1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(finished, [(0, 2), (1, 3)], 1, killed)
    told: list[Any] = []
    found = run(finished, [(0, 2), (1, 3)], 1, lambda bout, record: told.append((bout.trial, record["epoch"])))
    assert told == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]  # what a checkpoint has is only told again
    (finished.path / "finalists" / "results.jsonl").unlink()
    assert run(finished, [(0, 2), (1, 3)], 1) == found


def test_a_line_that_a_kill_cut_short_costs_one_training(finished: SweepFolder) -> None:
    before = run(finished, [(0, 1), (1, 1)], 1)
    results = finished.path / "finalists" / "results.jsonl"
    results.write_text(results.read_text()[:-20])
    told: list[Bout] = []
    assert run(finished, [(0, 1), (1, 1), (2, 1)], 1, lambda bout, record: told.append(bout))[:0] == []
    assert told == [Bout(1, 1, 0), Bout(2, 1, 0)]
    assert run(finished, [(0, 1), (1, 1)], 1, lambda *_: pytest.fail("trained again")) == before


def test_one_that_fails_on_a_seed_cannot_win_and_the_others_decide(
    finished: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medtune.search import worker

    real = worker._epochs

    def failing(job: Any, *others: Any) -> Any:
        if job.trial == 1:  # the second training: of trial 1, from the second seed
            raise ValueError("no more")
        return real(job, *others)

    monkeypatch.setattr(worker, "_epochs", failing)
    first, last = run(finished, [(1, 1), (0, 1)], 2)
    assert (first.trial, last.trial) == (0, 1) and not first.failed
    assert len(last.values) == 1 and "no more" in last.failed[1] and last.as_json()["mean"] is None
    assert Finalist.from_json(json.loads(json.dumps(last.as_json()))) == last
    monkeypatch.undo()
    told: list[Any] = []
    run(finished, [(0, 1), (1, 1)], 2, lambda bout, record: told.append((bout.trial, bout.index)))
    assert told == [(1, 1)]


def test_where_all_fail_it_says_why(finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from medtune.search import worker

    def failing(*_: Any) -> None:
        raise ValueError("no more")

    monkeypatch.setattr(worker, "_epochs", failing)
    with pytest.raises(TrainingFailed, match=r"finalist 2, seed 1 failed: ValueError: no more .*has ended is kept"):
        run(finished, [(2, 1)], 1)
