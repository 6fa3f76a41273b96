"""Folders that earlier versions made, as tests/examples keeps them: each opens, and is gone on with.

main-job: by the first version with `medtune sweep`, killed within the last trial, whose checkpoint is there. recipes:
by a later one, interrupted there. evaluation: killed there, with an evaluation and two retrained models. choice: the
same, with a selection, finalists, a retrained model and a test. All ran the tiny sweep with 6 epochs. Weights that no
test asks for are left out, and so is what says how far tracking had come.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from medtune.cli import main
from medtune.search.entries import Entry
from medtune.search.folder import FORMAT, FolderError, SweepFolder
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool, TrialSpool

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("main-job", "recipes", "evaluation", "choice")
Say = Callable[..., tuple[int, str]]


@pytest.fixture(params=NAMES)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> SweepFolder:
    return copied(request.param, tmp_path)


def copied(name: str, to: Path) -> SweepFolder:
    return SweepFolder.open(Path(shutil.copytree(EXAMPLES / name, to / "runs" / name)))


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """`say("status", folder)`: the exit code of a verb, and all that it prints."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medtune", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out + told.err

    return call


def test_status_opens_it(example: SweepFolder, say: Say) -> None:
    code, told = say("status", example.path)
    assert code == 0 and "5 trials (2 complete, 2 pruned, 1 unfinished)" in told
    assert "trial 1, epoch 1: val AUROC 0.983" in told and f"`medtune resume {example.path}` goes on" in told
    assert example.format == (1, "")


@pytest.fixture(scope="module")
def by_this_version(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    folder: SweepFolder = tiny.create(tmp_path_factory.mktemp("now") / "tiny", "trial.epochs=6")
    tiny.run(tiny.open(folder))
    return folder


def test_it_is_gone_on_with_and_is_what_it_would_have_been(
    example: SweepFolder, tiny: Any, by_this_version: SweepFolder, record_property: Any
) -> None:
    record_property("injected", f"a folder of an earlier version: {example.path.name}")
    before = example.predictions(1)
    run = tiny.open(example, TrialSpool(Spool(example.tracking / "spool.jsonl"), {}))
    tiny.run(run)
    assert run.finished and example.predictions(1)["logits"].tobytes() == before["logits"].tobytes()  # type: ignore[index]
    assert known(tiny.entries(example)) == known(tiny.entries(by_this_version))
    for number in range(5):
        records = [[record["epoch"] for record in folder.epochs(number)] for folder in (example, by_this_version)]
        assert records[0] == records[1]
    record_property("held", "5 of 5 trials as this version has them, to the last bit; none run twice")


def known(entries: list[Entry]) -> list[str]:
    """What every version writes down: that it was the pruner who ended a trial is told by its state."""
    return [repr(replace(entry, stopped=False)) for entry in entries]


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_what_is_asked_of_it_afterwards(example: SweepFolder, say: Say, record_property: Any) -> None:
    record_property("injected", f"a folder of an earlier version: {example.path.name}")
    path = example.path
    code, told = say("replay", path, 1, "--verify")
    assert code == 0 and "identical to the last bit: 6 epochs" in told
    code, told = say("select", path)
    assert code == 0 and "best     trial 1" in told and json.loads((path / "selection.json").read_text())["winner"]
    code, told = say("evaluate", path)
    assert (
        code == 0 and "validation, 120 cases\nAUROC    0.9" in told
    )  # of the winner, by its finalists where there are
    code, told = say("report", path)
    assert code == 0 and (path / "report.html").exists()
    record_property("held", "replay to the last bit, select, evaluate, report: exit 0")


@pytest.mark.slow
def test_what_it_did_not_carry_over_is_carried_over_now(example: SweepFolder, say: Say, record_property: Any) -> None:
    record_property("injected", f"the spool of an earlier version: {example.path.name}")
    code, told = say("tracking", "sync", example.path)
    assert code == 0 and "has everything" in told
    client = mlflow.MlflowClient(tracking_uri(example.config().tracking, example.path))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`medtune.sweep_id` = '{example.sweep_id}'")
    trials = [run for run in runs if run.data.tags["medtune.run"].startswith("trial-")]
    assert len(trials) == 5
    points = 0
    for run in trials:
        epochs = [record["epoch"] for record in example.epochs(int(run.data.tags["medtune.trial"]))]
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/auroc")]
        assert steps == epochs
        points += len(steps)
    record_property("held", f"5 trials, {points} epochs, each once")


def test_retrained_models_of_before_the_choice_are_made_anew(tmp_path: Path, say: Say) -> None:
    folder = copied("evaluation", tmp_path)
    plan = folder.retrained / "plan.json"
    message = f"{plan} was written by an earlier medtune: `medtune retrain {folder.path}` makes the models anew\n"
    assert say("test", folder.path) == (2, message)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_retrained_model_is_tested_again(tmp_path: Path, say: Say) -> None:
    folder = copied("choice", tmp_path)
    code, told = say("test", folder.path, "--again")
    assert code == 0 and "look 2" in told


class TestALaterVersion:
    @pytest.fixture
    def later(self, finished: SweepFolder) -> SweepFolder:
        (finished.path / "sweep.format").write_text(f"{FORMAT + 1} medtune 9.1.0\n")
        return finished

    def test_is_named(self, later: SweepFolder) -> None:
        with pytest.raises(FolderError) as caught:
            SweepFolder.open(later.path)
        assert str(caught.value) == (
            f"{later.path} was written by a later version, medtune 9.1.0: its format is {FORMAT + 1}, and this version "
            f"knows those up to {FORMAT}; `pip install --upgrade medtune` brings one that can read it"
        )

    @pytest.mark.parametrize(
        "verb", ["status", "resume", "select", "retrain", "evaluate", "report", "replay", "test", "sync"]
    )
    def test_every_verb_refuses_it(self, later: SweepFolder, say: Say, verb: str) -> None:
        before = {path: path.stat().st_mtime_ns for path in later.path.rglob("*") if path.name != "sweep.lock"}
        words = {"sync": ("tracking", "sync", later.path), "replay": ("replay", later.path, 1)}
        code, told = say(*words.get(verb, (verb, later.path)))
        assert code == 2 and told.startswith(f"{later.path} was written by a later version, medtune 9.1.0")
        assert told.count("\n") == 1
        assert before == {path: path.stat().st_mtime_ns for path in later.path.rglob("*") if path.name != "sweep.lock"}

    def test_this_one_says_its_number(self, finished: SweepFolder) -> None:
        number, writer = SweepFolder.open(finished.path).format
        assert number == FORMAT and writer.startswith("medtune ")
