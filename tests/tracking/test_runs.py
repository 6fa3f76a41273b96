import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from medtune.replay import compare, replay
from medtune.search.folder import SweepFolder
from medtune.search.record import RecordError, record_in_folder
from medtune.tracking import mirror, staged
from medtune.tracking.runs import record_of_run
from medtune.tracking.spool import Spool, TrialSpool


@pytest.fixture(scope="module")
def tracked(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """A finished trial and one that is unfinished, with their runs in `mlflow.db` beside the folder."""
    folder = tiny.create(tmp_path_factory.mktemp("tracked") / "runs" / "tiny", "search.trials=2")
    tiny.run_killed(folder, 4, TrialSpool(Spool(folder.tracking / "spool.jsonl"), {"sweep": "tiny"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staged, "draw_predictions", lambda *_: None)
        assert mirror.drain(folder)
    return folder


@pytest.fixture(autouse=True)
def here(tracked: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tracked.path.parent.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def run_id(tracked: SweepFolder) -> Callable[[str], str]:
    """The id of the run with a key of ours, such as `trial-0000`."""
    client = mlflow.MlflowClient(f"sqlite:///{tracked.path.parent / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = {run.data.tags["medtune.run"]: run.info.run_id for run in client.search_runs(experiments)}
    return found.__getitem__


def test_a_run_holds_what_the_folder_does(tracked: SweepFolder, run_id: Callable[[str], str]) -> None:
    of_run, of_folder = record_of_run(f"runs:/{run_id('trial-0000')}"), record_in_folder(tracked.path, 0)
    assert (of_run.trial, of_run.used, of_run.epochs) == (0, of_folder.used, of_folder.epochs)
    assert of_run.where.startswith(f"trial 0, run {run_id('trial-0000')} on sqlite:///")


def test_a_run_alone_is_enough(tracked: SweepFolder, run_id: Callable[[str], str], tmp_path: Path) -> None:
    record = record_of_run(f"runs:/{run_id('trial-0000')}")
    shutil.move(tracked.path, tmp_path / "away")
    try:
        record = record_of_run(f"runs:/{run_id('trial-0000')}")
        verdict = compare(record, replay(record, lambda *_: None))
    finally:
        shutil.move(tmp_path / "away", tracked.path)
    assert verdict.identical and (verdict.epochs, verdict.numbers, verdict.logits) == (3, 21, 3)


@pytest.mark.parametrize("server", ["runs", "runs/mlflow.db", "sqlite:///runs/mlflow.db"])
def test_where_the_server_is_can_be_said(
    tracked: SweepFolder, run_id: Callable[[str], str], server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = server.replace("runs", str(tracked.path.parent), 1)
    monkeypatch.chdir(tmp_path)
    assert record_of_run(f"runs:/{run_id('trial-0000')}", given).trial == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert record_of_run(f"runs:/{run_id('trial-0000')}").trial == 0
    assert list(tmp_path.iterdir()) == []


def test_the_address_of_a_page_names_server_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Client:
        def __init__(self, uri: str) -> None:
            asked.append(uri)

        def get_run(self, run_id: str) -> Any:
            asked.append(run_id)
            raise OSError("away")

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    with pytest.raises(RecordError, match=r"run 0a1b on http://me:\*\*\*@host:5000/ml cannot be read: away"):
        record_of_run("http://me:secret@host:5000/ml/#/experiments/1/runs/0a1b/artifacts?x=1")
    assert asked == ["http://me:secret@host:5000/ml", "0a1b"]


class TestWhatIsRefused:
    def test_a_run_that_is_not_there(self) -> None:
        with pytest.raises(RecordError, match=r"run 0123 on sqlite:.* cannot be read: .*not found") as refused:
            record_of_run("runs:/0123")
        assert "\n" not in str(refused.value)

    def test_a_run_of_something_else(self, run_id: Callable[[str], str]) -> None:
        with pytest.raises(RecordError, match=r"is sweep, and no trial: give a run that the UI lists as trial-0000"):
            record_of_run(f"runs:/{run_id('sweep')}")

    def test_a_trial_that_has_not_ended(self, run_id: Callable[[str], str]) -> None:
        with pytest.raises(RecordError, match=r"has no files yet: they come when the trial ends"):
            record_of_run(f"runs:/{run_id('trial-0001')}")

    def test_no_address_and_no_database(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(RecordError, match=r"http://\*\*\*|write runs:/ID"):
            record_of_run("http://host/nothing")
        with pytest.raises(RecordError, match=r"nowhere: there is no such database"):
            record_of_run("runs:/0123", "nowhere")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RecordError, match=r"there is no runs/mlflow.db here: say with --tracking"):
            record_of_run("runs:/0123")
        assert list(tmp_path.iterdir()) == []
