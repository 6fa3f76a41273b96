"""Real sweeps through Ray, started, interrupted, killed and resumed as people do it; and what needs no Ray for it."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from medtune.search import cluster, engine
from medtune.search.resources import Share
from medtune.search.worker import Job, Message, SearchData


class TestWhatRayTells:
    """The scheduler's side of the engine, with trials that are none."""

    @pytest.fixture
    def told(self, tiny: Any, tmp_path: Path) -> Callable[..., str]:
        """`told(message)`: what Ray is answered for a message of the trial that runs."""
        run = tiny.open(tiny.create(tmp_path / "tiny"))
        messages = engine._Messages(engine._Driver(run, Share("cpu", 1, 0.0, 2)))
        config = {"trial": run.next_job().trial, "kind": ""}
        trial = SimpleNamespace(config=config, run_metadata=SimpleNamespace(num_failures=2))
        trial.error_file = None

        def tell(**message: Any) -> str:
            return messages.on_trial_result(None, trial, {"message": json.dumps(message)})

        tell.trial, tell.run, tell.messages = trial, run, messages
        return tell

    def test_only_a_new_epoch_makes_up_for_a_death(self, told: Any) -> None:
        epoch = {"last": False, "at": 1.0, "val/auroc": 0.5}
        assert told(epoch=1, **epoch) == TrialScheduler.CONTINUE and told.trial.run_metadata.num_failures == 0
        told.trial.run_metadata.num_failures = 2
        told(epoch=1, **epoch)  # told again by the next attempt
        assert told.trial.run_metadata.num_failures == 2
        told(epoch=2, **epoch)
        assert told.trial.run_metadata.num_failures == 0

    def test_a_trial_that_has_ended_is_stopped(self, told: Any, tiny: Any) -> None:
        assert told(failed="training diverged in epoch 1") == TrialScheduler.STOP
        assert told(epoch=1, last=False, at=1.0) == TrialScheduler.STOP
        assert [entry.state for entry in tiny.entries(told.run.folder)] == ["failed"]

    def test_a_worker_that_keeps_dying_fails_its_trial(self, told: Any, tiny: Any) -> None:
        told.trial.should_recover = lambda: True
        told.messages.on_trial_error(None, told.trial)
        assert told.run.live
        told.trial.should_recover = lambda: False
        told.messages.on_trial_error(None, told.trial)
        told.messages.on_trial_error(None, told.trial)
        (entry,) = tiny.entries(told.run.folder)
        assert entry.state == "failed" and entry.note == "its worker died 3 times without finishing an epoch"

    def test_the_first_signal_interrupts_and_an_echo_of_it_does_nothing_more(
        self, told: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = signal.getsignal(signal.SIGINT)
        now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with engine._signals(told.messages.driver):
            os.kill(os.getpid(), signal.SIGTERM)
            assert told.run.stopping
            now += 0.5
            os.kill(os.getpid(), signal.SIGINT)
            now += 2
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_worker_that_dies_is_tried_again_while_it_gains_epochs(tiny: Any, tmp_path: Path, ray_folder: Path) -> None:
    folder = tiny.create(tmp_path / "tiny", "search.trials=3", "pruning={name: none}")

    def work(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
        """Trial 1 dies after its second epoch has been told, trial 2 always before its second."""
        import os

        from medtune.search.attempts import Attempts
        from medtune.search.worker import run_job

        attempt = Attempts(job.storage).current() + 1

        def dying(message: Message) -> None:
            report(message)
            if (job.trial == 1 and message["epoch"] == 2 and attempt == 1) or job.trial == 2:
                os._exit(1)

        run_job(job, data, dying)

    run = tiny.open(folder)
    try:
        cluster.start(run.config.cluster)
        engine.run_jobs(run, tiny.data(run.config), Share("cpu", 1, 0.0, 2), work=work)
    finally:
        cluster.stop()
    first, second, third = tiny.entries(folder)
    assert (first.state, second.state, third.state) == ("complete", "complete", "failed")
    assert "died 3 times" in third.note and list(third.values) == [1]
    assert [record["epoch"] for record in folder.epochs(1)] == [1, 2, 3]
