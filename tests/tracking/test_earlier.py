from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from medtune.config.problems import ConfigError
from medtune.config.sweep import SweepConfig
from medtune.search.earlier import sweep_in, with_warm_start
from medtune.search.folder import SweepFolder
from medtune.search.run import SweepRun
from medtune.tracking import staged
from medtune.tracking.earlier import _nested, _value, sweeps_of_experiment
from medtune.tracking.mirror import drain
from medtune.tracking.server import tracking_uri
from medtune.tracking.spool import Spool, TrialSpool

TAGS = {"sweep": "tiny", "dataset": "phantom-binary", "size": 28, "git_commit": ""}
OTHER = "trial.augment={flip: {choice: [true, false]}, mixup: {choice: [0, {uniform: [0.1, 0.4]}]}}"
BY_LOSS = "search={sampler: random, trials: 3, metric: val/loss, constraints: {val/ece: {max: 0.0}}}"


def _mirrored(tiny: Any, path: Path, *overrides: str) -> SweepRun:
    folder = tiny.create(path, "trial.epochs=2", *overrides)
    run = tiny.open(folder, TrialSpool(Spool(folder.tracking / "spool.jsonl"), TAGS))
    tiny.run(run)
    return run


@pytest.fixture(scope="module")
def runs(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps in one experiment, and one that was killed before its file was there."""
    runs = tmp_path_factory.mktemp("earlier") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staged, "draw_predictions", lambda *_: None)  # takes seconds
        for name, overrides in {"first": [OTHER], "second": [BY_LOSS, "sweep=second"]}.items():
            assert drain(_mirrored(tiny, runs / name, *overrides).folder)
        folder = tiny.create(runs / "third", "sweep=third")
        tiny.run_killed(folder, 2, TrialSpool(Spool(folder.tracking / "spool.jsonl"), TAGS))
        assert drain(folder)
    return runs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may be written to where we are."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def config(tiny: Any) -> SweepConfig:
    return tiny.config("search={sampler: random, trials: 20}", "search.warm_start=[medtune]")


def test_an_experiment_tells_the_same_as_the_folders(
    config: SweepConfig, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = sweeps_of_experiment(config, runs / "new", "medtune")
    assert "third" in capsys.readouterr().err  # it has no sweep.yaml yet
    assert [sweep.name.split()[0] for sweep in found] == ["tiny", "second"]
    assert [sweep.direction for sweep in found] == ["max", "min"]
    for name, sweep in zip(("first", "second"), found, strict=True):
        there = sweep_in(runs / name)
        assert sweep.swept == there.swept
        told, known = (sorted(each.trials, key=lambda trial: trial.entry.number) for each in (sweep, there))
        for one, other in zip(told, known, strict=True):
            assert (one.entry.number, one.entry.state) == (other.entry.number, other.entry.state)
            assert one.entry.value == pytest.approx(other.entry.value)
            assert (one.entry.violation > 0) == (name == "second")
            assert _rounded(one.configuration) == _rounded(other.configuration)


def _rounded(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    return float(f"{tree:.4g}") if isinstance(tree, float) else tree


def test_a_sweep_begins_with_them(config: SweepConfig, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warm = with_warm_start(config, runs / "new", sweeps_of_experiment)
    assert 2 <= len(warm.search.start_with) <= 5 and warm.search.warm_start == ("medtune",)
    err = capsys.readouterr().err
    assert "trial 1 begins as trial" in err and " of tiny (" in err


def test_what_is_not_there_is_refused_with_a_line_and_makes_nothing(config: SweepConfig, runs: Path) -> None:
    uri = tracking_uri(config.tracking, runs / "new")
    with pytest.raises(
        ConfigError, match="^search.warm_start: brest is neither the folder of a sweep nor an experiment of sqlite"
    ):
        sweeps_of_experiment(config, runs / "new", "brest")
    with pytest.raises(ConfigError, match="medtune is neither the folder of .* nor an experiment of"):
        sweeps_of_experiment(config, runs / "first" / "new", "medtune")
    assert not (runs / "first" / "mlflow.db").exists() and mlflow.MlflowClient(uri).get_experiment_by_name("medtune")


def test_a_server_that_is_away(tiny: Any, runs: Path) -> None:
    away = tiny.config("tracking.uri=http://me:secret@127.0.0.1:9")
    with pytest.raises(ConfigError) as refused:
        sweeps_of_experiment(away, runs / "new", "medtune")
    (line,) = refused.value.problems
    assert "http://me:***@127.0.0.1:9 cannot be asked for medtune: " in line and "secret" not in line


def test_a_run_of_another_kind_is_no_trial(config: SweepConfig, runs: Path) -> None:
    client = mlflow.MlflowClient(tracking_uri(config.tracking, runs / "new"))
    experiment = client.get_experiment_by_name("medtune").experiment_id
    folder = SweepFolder(runs / "first")
    tags = {"medtune.sweep_id": folder.sweep_id, "medtune.run": "retrain-0", "medtune.trial": "1"}
    client.create_run(experiment, tags={**tags, "medtune.state": "complete"})
    client.create_run(experiment)  # somebody else's
    (first, _) = sweeps_of_experiment(config, runs / "new", "medtune")
    assert len(first.trials) == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None),
        ("True", True),
        ("1e-05", 1e-5),
        ("32", 32),
        ("[0.5, 0.75]", [0.5, 0.75]),
        ("timm/a_b.c", "timm/a_b.c"),
    ],
)
def test_params_are_values_again(text: str, value: Any) -> None:
    assert _value(text) == value


def test_dotted_names_make_a_tree() -> None:
    assert _nested({"optimizer.name": "sgd", "optimizer.lr": 1, "epochs": 2}) == {
        "optimizer": {"name": "sgd", "lr": 1},
        "epochs": 2,
    }
