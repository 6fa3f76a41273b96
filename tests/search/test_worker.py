from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.config.default import default_point, trial_config
from medtune.search import worker
from medtune.search.attempts import Attempts
from medtune.search.resources import Share
from medtune.search.sweep import JobMaker
from medtune.search.worker import Job, Message, SearchData, run_job
from medtune.training.loop import Training

EVERYTHING = (
    "trial.optimizer={name: adam, lr: 0.003}",
    "trial.model.dropout=0.3",
    "trial.augment={flip: true, noise: 0.1, shift: 0.1}",
    "trial.schedule={name: cosine}",
)
MOMENTUM = ("trial.optimizer={name: sgd, lr: 0.02, momentum: 0.9}", "trial.schedule={name: onecycle}")


@pytest.fixture(scope="module")
def data(tiny: Any) -> SearchData:
    return tiny.data(tiny.config())


@pytest.fixture
def make_job(tiny: Any, tmp_path: Path) -> Callable[..., Job]:
    """`make_job(*overrides, number=3)`: the default of the tiny sweep, or of what the overrides make of it."""

    def make(*overrides: str, number: int = 3) -> Job:
        config = tiny.config(*overrides)
        trial = trial_config(config.trial, default_point(config.trial)).model_dump(mode="json")
        return JobMaker(config, Share("cpu", 1, 0.0, 1))(number, trial, str(tmp_path / f"{number:04d}"))

    return make


def messages(job: Job, data: SearchData, stop_after: int = 99) -> list[Message]:
    """What a worker says, without times. It is ended after so many messages."""
    said: list[Message] = []

    def report(message: Message) -> None:
        said.append({key: value for key, value in message.items() if key not in ("at", "epoch_seconds")})
        if len(said) == stop_after:
            raise SystemExit

    try:
        run_job(job, data, report)
    except SystemExit:
        assert len(said) == stop_after
    return said


@pytest.mark.parametrize("overrides", [EVERYTHING, MOMENTUM], ids=["adam", "sgd"])
def test_a_resumed_trial_equals_an_uninterrupted_one(
    overrides: tuple[str, ...],
    make_job: Callable[..., Job],
    data: SearchData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job(*overrides)
    expected = messages(job, data)
    resumed = replace(job, storage=str(tmp_path / "resumed"))
    trained, run_epoch = [], Training.run_epoch
    monkeypatch.setattr(Training, "run_epoch", lambda self, val: trained.append(self.epoch + 1) or run_epoch(self, val))
    assert messages(resumed, data, stop_after=1) == expected[:1]
    assert messages(resumed, data, stop_after=2) == expected[:2]  # the first is told again
    assert messages(resumed, data) == expected
    assert trained == [1, 2, 3]  # none of them twice
    assert [message["epoch"] for message in expected] == [1, 2, 3]
    assert [message["last"] for message in expected] == [False, False, True]
    last, again = Attempts(job.storage).last(), Attempts(resumed.storage).last()
    assert last is not None and again is not None and (last.attempt, again.attempt) == (1, 3)
    for part in (Attempts.weights, lambda attempts, file: attempts.predictions(file)[0]):
        one, other = part(Attempts(job.storage), last), part(Attempts(resumed.storage), again)
        assert one.keys() == other.keys() and one
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_a_finished_trial_is_only_told_again(make_job: Callable[..., Job], data: SearchData) -> None:
    job = make_job()
    assert messages(job, data) == messages(job, data)


def test_a_trial_is_the_same_wherever_and_whenever_it_runs(make_job: Callable[..., Job], data: SearchData) -> None:
    first = messages(make_job(number=3), data)
    messages(make_job(number=4), data)
    np.random.seed(5)
    assert messages(replace(make_job(number=3), storage="memory://again/0003"), data) == first
    assert messages(make_job(number=5), data) != first


def test_an_exception_fails_the_trial_and_the_worker_lives_on(
    make_job: Callable[..., Job], data: SearchData, tmp_path: Path
) -> None:
    job = make_job()
    wrong = replace(job, config={**job.config, "model": {"name": "perceptron"}}, storage=str(tmp_path / "wrong"))
    (said,) = messages(wrong, data)
    assert list(said) == ["failed"]
    assert said["failed"].startswith("ValidationError: ") and "\n" not in said["failed"]
    assert ".py:" in said["failed"]
    assert len(messages(job, data)) == 3


@pytest.mark.parametrize("optimizer", ["{name: sgd, lr: 1.0e+9}", "{name: adam, lr: 1.0e+9}"])
def test_a_trial_that_diverges_fails_within_an_epoch_and_says_so(
    optimizer: str, make_job: Callable[..., Job], data: SearchData
) -> None:
    said = messages(make_job(f"trial.optimizer={optimizer}"), data)
    assert list(said[-1]) == ["failed"] and said[-1]["failed"].startswith("training diverged in epoch 1: loss ")
    assert len(said) == 1


def test_an_attempt_that_is_no_longer_the_current_one_says_and_writes_nothing_more(
    make_job: Callable[..., Job], data: SearchData
) -> None:
    job, said = make_job(), []

    def report(message: Message) -> None:
        said.append(message["epoch"])
        Attempts(job.storage).begin()

    run_job(job, data, report)
    assert said == [1]
    last = Attempts(job.storage).last()
    assert last is not None and (last.attempt, last.epoch) == (1, 1)


def test_a_stopped_trial_is_no_failed_one(make_job: Callable[..., Job], data: SearchData) -> None:
    said = []

    def report(message: Message) -> None:
        said.append(message)
        raise SystemExit

    with pytest.raises(SystemExit):
        run_job(make_job(), data, report)
    assert len(said) == 1 and "failed" not in said[0]


def test_on_the_cpu_there_is_one_copy_of_the_data(data: SearchData) -> None:
    read_only = data.train.images.copy()
    read_only.flags.writeable = False  # as Ray's object store has it
    shared = SearchData("any", replace(data.train, images=read_only), data.val)
    splits = worker._on_device(shared, "cpu")
    train, val = splits.train, splits.val
    assert np.shares_memory(train.images.numpy(), read_only) and np.shares_memory(
        train.labels.numpy(), data.train.labels
    )
    assert np.shares_memory(val.images.numpy(), data.val.images)


def test_training_does_not_write_into_the_data(make_job: Callable[..., Job], data: SearchData) -> None:
    before = data.train.images.copy(), data.val.images.copy()
    messages(make_job(*EVERYTHING), data)
    np.testing.assert_array_equal(data.train.images, before[0])
    np.testing.assert_array_equal(data.val.images, before[1])
