import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medtune.config.sweep import SweepConfig
from medtune.finalists import run_finalists
from medtune.search.events import Watcher
from medtune.search.folder import SweepFolder
from medtune.search.launch import in_this_process
from medtune.tracking import tracker, ui
from medtune.tracking.mirror import drain
from medtune.tracking.spool import Spool

Call = Callable[..., tuple[int, str, str]]
SLOW_PACKAGES = {"ray", "torch", "mlflow", "optuna", "pandas", "sklearn", "matplotlib"}
WRONG = """\
sweep: Bad Name
data: {dataset: brestmnist}
trial:
  epochs: 3
  optimzer: {name: adam}
"""


class Untracked:
    """A tracker that tracks nothing."""

    reached, uri, parent_run_id, tags = True, "sqlite:///nowhere.db", "0123", {}

    def __init__(self, folder: SweepFolder, config: SweepConfig) -> None:
        self.spool = Spool(folder.tracking / "spool.jsonl")

    def __enter__(self) -> "Untracked":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def watcher(self) -> Watcher:
        return Watcher()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UV", raising=False)


@pytest.fixture
def without_engines(monkeypatch: pytest.MonkeyPatch, tiny: Any) -> list[int]:
    """Sweeps run in this process and are not tracked; after as many messages as the list has, they are interrupted."""
    budget: list[int] = []

    def run_sweep(folder: SweepFolder, config: SweepConfig, watchers: Sequence[Watcher]) -> bool:
        run = tiny.open(folder, *watchers)
        if not budget:
            tiny.run(run)
            return True
        real, left = run.message, [budget[0]]

        def message(number: int, message: dict[str, Any]) -> bool:
            left[0] -= 1
            if not left[0]:
                run.interrupt()
            return real(number, message)

        run.message = message
        tiny.run(run)
        return not run.stopping

    monkeypatch.setattr("medtune.search.sweep.run_sweep", run_sweep)
    monkeypatch.setattr(tracker, "Tracker", Untracked)
    return budget


class TestCheck:
    def test_a_wrong_file_is_refused_at_once_with_all_that_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "wrong.yaml").write_text(WRONG)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "medtune", "check", "wrong.yaml"],
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert told.returncode == 2 and told.stdout == ""
        imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in told.stderr.splitlines() if "|" in line}
        assert "pydantic" in imported and not imported & SLOW_PACKAGES
        problems = [line for line in told.stderr.splitlines() if not line.startswith("import time:")]
        assert [re.match(r"wrong\.yaml:\d+:\d+: ", line) is not None for line in problems] == [True] * 3
        assert problems[0].startswith("wrong.yaml:1:8: ") and "breastmnist" in problems[1]
        assert problems[2].startswith("wrong.yaml:5:3: ") and "optimizer" in problems[2]
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # seconds on any load

    @pytest.mark.parametrize("verb", ["check", "sweep", "plan", "doctor"])
    def test_every_verb_refuses_it(self, verb: str, medtune: Call, tmp_path: Path) -> None:
        (tmp_path / "wrong.yaml").write_text(WRONG)
        code, out, err = medtune(verb, "wrong.yaml")
        assert code == 2 and out == "" and err.count("wrong.yaml:") == 3
        assert [path.name for path in tmp_path.iterdir()] == ["wrong.yaml"]

    def test_a_right_file(self, medtune: Call, tiny: Any) -> None:
        code, out, err = medtune("check", tiny.file)
        assert (code, err) == (0, "") and "right; 5 trials over 6 dimensions of phantom-binary" in out

    def test_overrides_are_checked_too(self, medtune: Call, tiny: Any) -> None:
        code, _, err = medtune("check", tiny.file, "--set", "trial.epochs=none", "--set", "seed=-1")
        assert code == 2 and "--set trial.epochs=none: " in err and "--set seed=-1: " in err
        assert medtune("check", tiny.file, "--set", "seed=7")[0] == 0

    def test_a_file_that_is_not_there(self, medtune: Call) -> None:
        code, _, err = medtune("check", "no.yaml")
        assert code == 2 and "no.yaml: there is no such file" in err


def test_the_schema_is_the_one_that_is_kept(medtune: Call) -> None:
    code, out, _ = medtune("schema")
    assert code == 0
    assert json.loads(out) == json.loads((Path(__file__).parents[2] / "medtune.schema.json").read_text())


class TestPlan:
    def test_in_words(self, medtune: Call, tiny: Any, tmp_path: Path) -> None:
        code, out, _ = medtune("plan", tiny.file, "--set", "resources.max_concurrent=1")
        assert code == 0
        assert "tiny: 5 trials of up to 3 epochs, 1 at once on " in out
        assert "optimizer[1].momentum: a number from 0.5 to 0.99" in out
        assert re.search(r"time     about .* s, at most .* s \(.* s an epoch\)", out)
        assert list(tmp_path.iterdir()) == []

    def test_as_json(self, medtune: Call, tiny: Any) -> None:
        code, out, err = medtune("plan", tiny.file, "--json")
        told = json.loads(out)
        assert code == 0 and (told["sweep"], told["trials"], told["epochs"]) == ("tiny", 5, 3)
        assert len(told["space"]) == 6 and told["seconds"]["expected"] <= told["seconds"]["at_most"]
        assert "space    6 dimensions" in err


@pytest.mark.usefixtures("without_engines")
class TestSweepAndResume:
    def test_a_sweep(self, medtune: Call, tiny: Any, tmp_path: Path) -> None:
        code, out, err = medtune("sweep", tiny.file)
        assert code == 0
        assert re.search(r"tiny: 5 trials \(\d complete, \d pruned\)", out)
        assert re.search(r"best     trial \d, epoch \d: val AUROC 0\.\d+ \(95 % 0\.\d+ to .*\), accuracy .*, ECE ", out)
        assert "default  trial 0, epoch " in out and f"folder   {tmp_path / 'runs' / 'tiny'}, " in out
        assert "browse   medtune ui runs/tiny" in out and "next     medtune select runs/tiny" in out
        assert err.count(" left") == 5

    def test_as_json(self, medtune: Call, tiny: Any, tmp_path: Path) -> None:
        code, out, err = medtune("sweep", tiny.file, "--json", "--folder", "elsewhere")
        told = json.loads(out.splitlines()[-1], parse_constant=pytest.fail)
        keys = {"sweep", "folder", "trials", "best", "default", "tracking_uri", "parent_run_id", "seconds"}
        assert code == 0 and keys <= told.keys() and len(out.splitlines()) == 1
        assert told["trials"].keys() == {"complete", "pruned", "failed", "unfinished"}
        assert {"trial", "val/auroc", "val/ece"} <= told["best"].keys()
        assert told["folder"] == str(tmp_path / "elsewhere") and "next     medtune select elsewhere" in err

    def test_overrides_reach_the_folder(self, medtune: Call, tiny: Any, tmp_path: Path) -> None:
        code, out, _ = medtune("sweep", tiny.file, "--set", "search.trials=2", "--set", "sweep=short", "--json")
        assert code == 0 and sum(json.loads(out)["trials"].values()) == 2
        assert SweepFolder.open(tmp_path / "runs" / "short").config().search.trials == 2

    def test_a_second_sweep_in_the_folder_is_refused(self, medtune: Call, tiny: Any, finished: SweepFolder) -> None:
        code, out, err = medtune("sweep", tiny.file)
        assert code == 2 and out == "" and "`medtune resume runs/tiny` goes on with it" in err

    def test_an_interrupted_one_names_resume_which_finishes_it(
        self, medtune: Call, tiny: Any, without_engines: list[int], finished_once: SweepFolder, tmp_path: Path
    ) -> None:
        without_engines.append(4)
        code, out, _ = medtune("sweep", tiny.file)
        assert code == 130 and "go on    medtune resume runs/tiny" in out and " unfinished" in out
        without_engines.clear()
        code, out, _ = medtune("resume", "runs/tiny", "--json")
        told, folder = json.loads(out), SweepFolder.open(tmp_path / "runs" / "tiny")
        assert code == 0 and told["trials"]["unfinished"] == 0
        assert tiny.entries(folder) == tiny.entries(finished_once)

    def test_resume_makes_a_finished_one_longer_and_never_shorter(
        self, medtune: Call, tiny: Any, finished: SweepFolder
    ) -> None:
        code, _, err = medtune("resume", finished.path, "--trials", 4)
        assert code == 2 and "has 5 trials already; --trials is the number in all, give 5 or more" in err
        code, out, _ = medtune("resume", finished.path, "--trials", 6, "--json")
        assert code == 0 and sum(json.loads(out)["trials"].values()) == 6
        assert [entry.number for entry in tiny.entries(finished)] == list(range(6))

    def test_where_every_trial_fails_it_says_why(self, medtune: Call, tiny: Any) -> None:
        code, out, err = medtune(
            "sweep", tiny.file, "--set", "trial.optimizer={name: sgd, lr: 1.0e+9}", "--set", "search.trials=2"
        )
        assert code == 1 and "best     none: no trial has a value" in out
        assert err.splitlines()[-1].startswith("every trial failed: training diverged in epoch 1")

    def test_a_server_that_was_not_reached_is_named_with_what_to_do(
        self, medtune: Call, tiny: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Untracked, "reached", False)
        code, out, _ = medtune("sweep", tiny.file, "--set", "search.trials=1")
        assert code == 0 and "was not reached; later: medtune tracking sync runs/tiny" in out


class TestStatus:
    def test_of_a_finished_sweep(self, medtune: Call, finished: SweepFolder) -> None:
        code, out, _ = medtune("status", "runs/tiny")
        assert code == 0 and "state    finished" in out and "best     trial " in out

    def test_of_one_that_stopped(self, medtune: Call, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "runs" / "tiny")
        tiny.run_killed(folder, 2)
        code, out, _ = medtune("status", "runs/tiny")
        assert code == 0 and "state    stopped: `medtune resume runs/tiny` goes on with it" in out

    def test_of_one_that_runs(self, medtune: Call, finished: SweepFolder) -> None:
        finished.lock()
        assert "state    running" in medtune("status", "runs/tiny")[1]
        finished.unlock()

    def test_as_json(self, medtune: Call, finished: SweepFolder) -> None:
        code, out, err = medtune("status", "runs/tiny", "--json")
        told = json.loads(out)
        assert code == 0 and told["running"] is False and told["wanted"] == 5 and "state    finished" in err

    @pytest.mark.parametrize("verb", ["status", "resume", "retrain", "test", "evaluate", "report", "ui"])
    def test_where_there_is_no_sweep(self, verb: str, medtune: Call, tmp_path: Path) -> None:
        (tmp_path / "runs").mkdir()
        code, out, err = medtune(verb, "runs")
        assert code == 2 and out == "" and "runs holds no sweep" in err


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in this process, and nobody who empties the spool."""
    for module in ("retrained", "selected"):
        monkeypatch.setattr(f"medtune.tracking.{module}.Tracker", Untracked)
    monkeypatch.setattr("medtune.retraining.train.on_ray", in_this_process)


def test_select(medtune: Call, finished: SweepFolder, no_engine: None) -> None:
    code, out, err = medtune("select", "runs/tiny")
    assert code == 0 and "is worth 0." in out and "advice   " in out and "next     medtune retrain runs/tiny" in out
    assert "candidates, 120 cases, 1,000 resamples" in err
    code, out, _ = medtune("select", "runs/tiny", "--json")
    told = json.loads(out)
    assert code == 0 and {"winner", "raw", "corrected", "optimism", "tie"} <= told.keys()
    assert told["winner"] in told["tie"] and told["optimism"] == pytest.approx(told["raw"] - told["corrected"])


def test_select_between_finalists(medtune: Call, finished: SweepFolder, no_engine: None, monkeypatch: Any) -> None:
    monkeypatch.setattr("medtune.tracking.selected.run_finalists", partial(run_finalists, launch=in_this_process))
    code, out, err = medtune("select", "runs/tiny", "--finalists", 2, "--seeds", 2)
    assert code == 0 and out.count("finalist trial ") == 2 and ", seed 2, epoch 1 of " in err
    found = json.loads((finished.path / "selection.json").read_text())
    first, second = found["finalists"]
    assert first["mean"] >= second["mean"] and found["winner"] == first["trial"]
    code, _, err = medtune("retrain", "runs/tiny", "--epochs", 1)
    assert code == 0 and f"trial {first['trial']} up to epoch {first['epoch']}" in err  # what they decided stands


def test_retrain_then_test(medtune: Call, finished: SweepFolder, no_engine: None) -> None:
    code, _, err = medtune("test", "runs/tiny")
    assert code == 2 and "`medtune retrain " in err
    code, out, err = medtune("retrain", "runs/tiny", "--epochs", 1)
    assert code == 0 and f"model    {finished.retrained / 'model'}" in out and "next     medtune test runs/tiny" in out
    assert re.search(r"model, trial \d, epoch 1 of 1: train/loss ", err)
    code, out, _ = medtune("retrain", "runs/tiny", "--epochs", 1, "--seeds", 2, "--json")
    assert code == 0 and [Path(path).name for path in json.loads(out)["models"]] == ["model", "model-1"]
    code, out, _ = medtune("test", "runs/tiny")
    assert code == 0 and re.search(r"test, 240 cases, first look; trial \d up to epoch \d", out)
    assert ("untuned default: AUROC 0." in out) == (finished.retrained / "default").exists()
    assert re.search(r"AUROC    0\.\d+ \(0\.\d+ to ", out) and "over 2 seeds: mean AUROC " in out
    code, out, err = medtune("test", "runs/tiny")
    assert code == 2 and out == "" and "opened once already" in err and "--again" in err
    code, out, _ = medtune("test", "runs/tiny", "--again", "--json")
    told = json.loads(out.splitlines()[-1])
    assert code == 0 and told["looks"] == 2 and told["auroc"].keys() == {"value", "low", "high"}


def test_retrain_another_trial_or_an_ensemble(medtune: Call, finished: SweepFolder, no_engine: None) -> None:
    code, _, err = medtune("retrain", "runs/tiny", "--trial", 1, "--epochs", 1, "--no-default")
    assert code == 0 and "trial 1 up to epoch " in err
    assert not (finished.retrained / "default").exists()
    code, _, err = medtune("retrain", "runs/tiny", "--ensemble", 2, "--train-on", "train+val")
    assert code == 0 and "on train+val" in err and "what was retrained before makes way: trial 1 up to epoch 1" in err
    wrongs = ("--trial", 1, "--ensemble", 2), ("--train-on", "all"), ("--trial", 99), ("--greedy",), ("--again",)
    for wrong in wrongs:
        code, out, err = medtune("retrain", "runs/tiny", *wrong)
        assert code == 2 and out == ""


def test_an_interrupted_retraining_says_how_to_go_on(
    medtune: Call, finished: SweepFolder, no_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medtune.retraining.train.on_ray", interrupted)
    code, _, err = medtune("retrain", "runs/tiny", "--trial", 1, "--epochs", 1)
    assert code == 130 and "interrupted: what was trained is kept" in err and "medtune retrain runs/tiny" in err


def test_test_curves(medtune: Call, finished: SweepFolder, no_engine: None) -> None:
    medtune("retrain", "runs/tiny", "--epochs", 2)
    code, out, err = medtune("retrain", "runs/tiny", "--test-curves")
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "`medtune test " in err
    medtune("test", "runs/tiny")
    code, out, err = medtune("retrain", "runs/tiny", "--test-curves")
    assert code == 2 and "--again" in err
    code, out, err = medtune("retrain", "runs/tiny", "--test-curves", "--again", "--json")
    told = json.loads(out)
    assert code == 0 and (told["epochs"], told["looks"]) == (2, 2) and "epoch 2 of 2: train/auroc " in err
    assert Path(told["curves"]).exists() and Path(told["picture"]).exists()
    code, out, _ = medtune("retrain", "runs/tiny", "--test-curves", "--again")
    assert code == 0 and f"picture  {finished.retrained / 'curves.png'}" in out and "look 3 at the test" in out
    code, _, err = medtune("retrain", "runs/tiny", "--test-curves", "--seeds", 2)
    assert code == 2 and "--test-curves trains what was" in err


def test_evaluate_and_report(medtune: Call, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtune.tracking.evaluated.Tracker", Untracked)
    code, out, err = medtune("evaluate", "runs/tiny", "--trial", 0)
    assert code == 0 and out.startswith("trial 0, epoch ")
    assert f"figures  {finished.path / 'trials' / '0000' / 'evaluation'}" in out
    assert out.count("left out test-time augmentation, MC dropout, robustness, Grad-CAM: the weights of trial 0 ") == 1
    code, out, err = medtune("evaluate", "runs/tiny", "--json")
    told = json.loads(out)
    assert (
        code == 0 and "corruption: noise" in err and told["discrimination"]["auroc"].keys() == {"value", "low", "high"}
    )
    code, _, err = medtune("evaluate", "runs/tiny", "--test", "--trial", 1)
    assert code == 2 and "--test is of the retrained model" in err
    code, out, err = medtune("evaluate", "runs/tiny", "--test")
    assert code == 2 and out == "" and "`medtune retrain " in err
    code, out, _ = medtune("report", "runs/tiny", "--json")
    told = json.loads(out)
    assert code == 0 and Path(told["html"]).exists() and Path(told["markdown"]).exists()


@pytest.mark.parametrize("verb", ["resume", "select", "retrain", "test", "evaluate", "report"])
def test_a_folder_in_use_is_refused(verb: str, medtune: Call, finished: SweepFolder) -> None:
    finished.lock()
    code, _, err = medtune(verb, "runs/tiny")
    finished.unlock()
    assert code == 2 and "in use by another process" in err


def test_sync(medtune: Call, finished: SweepFolder) -> None:
    Spool(finished.tracking / "spool.jsonl").start("sweep", {})
    code, out, _ = medtune("tracking", "sync", "runs/tiny")
    assert code == 0 and out == f"sqlite:///{finished.path.parent / 'mlflow.db'} has everything\n"


def test_the_ui_is_seen_from_this_machine_alone(
    medtune: Call, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    (finished.path.parent / "mlflow.db").touch()
    monkeypatch.setattr(ui, "experiment_id", lambda uri, name: "1")
    monkeypatch.setattr(ui, "_run", lambda command: commands.append(command) or 0)
    code, _, err = medtune("ui", "runs/tiny", "--port", 5055)
    assert code == 0 and "http://127.0.0.1:5055" in err
    text = " ".join(commands[0])
    assert "--host 127.0.0.1 --port 5055" in text and f"sqlite:///{finished.path.parent / 'mlflow.db'}" in text


@pytest.mark.slow
def test_the_ui_ends_with_all_that_it_has_started(finished: SweepFolder) -> None:
    """A SIGTERM to the one process whose number a person knows."""
    Spool(finished.tracking / "spool.jsonl").start("sweep", {})
    assert drain(finished)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "medtune", "ui", str(finished.path), "--port", str(port)])
    try:
        assert _within(180, lambda: _answers(port))
        process.terminate()
        assert process.wait(60) == 0 and _within(20, lambda: not _answers(port))
    finally:
        process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _within(seconds: float, what: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not what():
        time.sleep(0.2)
    return what()


def test_commands_can_be_pasted(medtune: Call, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from medtune.cli.text import command

    assert command("resume", finished.path) == "medtune resume runs/tiny"
    assert command("resume", Path("/elsewhere/tiny")) == "medtune resume /elsewhere/tiny"
    monkeypatch.setenv("UV", "/usr/bin/uv")
    assert command("resume", finished.path) == "uv run medtune resume runs/tiny"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    from medtune.cli.text import print_json

    print_json({"a": float("nan"), "b": [float("nan"), {"c": float("nan")}], "d": 1.5})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, {"c": None}], "d": 1.5}
