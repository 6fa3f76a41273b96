"""Names in a sweep file become names of folders, and none of them leads out of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtune.config.read import ConfigError
from medtune.config.sweep import NAME, Data, SweepConfig, Tracking
from medtune.tracking.mirror import _experiment
from medtune.tracking.server import default_artifacts, tracking_uri

Read = Callable[..., SweepConfig]
Wrong = Callable[..., list[str]]
LEAVING = [
    *("..", ".", "../x", "a/../../b", "a/b", "/etc", "/", "~", "~root", "$HOME", "-rf", "", " ", "a b", "a\n", "a\t"),
    *("a\0b", "a%2f..%2fb", "\uff0e\uff0e\uff0fx", "a\u202eb", "b\u0430d", "A", "a" * 64, "a" * 5000),
    *("..\\x", "c:\\x", "a\\b", "c:x", "con", "nul", "aux.txt", "com1", "lpt9.log", "a.", "..."),
]


def written(text: str) -> str:
    return json.dumps(text)  # which YAML reads as it is


@pytest.mark.parametrize("name", LEAVING)
def test_the_name_of_a_sweep(name: str, wrong: Wrong) -> None:
    (problem,) = wrong(f"sweep: {written(name)}")
    assert problem.startswith("sweep.yaml:1:8: ") and len(problem) < 300 and problem.isprintable()


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(name=st.from_regex(NAME))
def test_what_is_taken_is_one_folder(name: str) -> None:
    try:
        config = SweepConfig(sweep=name)
    except ValueError:
        return
    where = Path("/somewhere/runs", config.sweep)
    assert where.parent == Path("/somewhere/runs") and where.name == name and ".." not in where.parts


@pytest.mark.parametrize("name", [*LEAVING, "../breastmnist", "breastmnist/../x", "phantom-../x", "phantom-"])
def test_the_name_of_a_data_set(name: str, wrong: Wrong) -> None:
    (problem,) = wrong(f"sweep: a\ndata: {{dataset: {written(name)}}}")
    assert problem.startswith("sweep.yaml:2:17: ") and len(problem) < 400


@pytest.mark.parametrize("name", ["resnet18/../x", "timm/../x", "timm//etc", "timm/a/b", "../resnet18", "timm/A\\b"])
def test_the_name_of_a_model(name: str, wrong: Wrong) -> None:
    (problem,) = wrong(f"sweep: a\ntrial: {{model: {{name: {written(name)}}}}}")
    assert problem.startswith("sweep.yaml:2:23: trial.model.name")


@pytest.mark.parametrize("folder", ["/", "..", "~", "/tmp/..", "a/../..", "C:\\x"])
def test_the_title_of_a_folder_of_pictures_is_one_word(folder: str) -> None:
    assert "/" not in Data(folder=folder).title and Data(folder=folder).title not in (".", "..")


@pytest.mark.parametrize("key", ["data: {root", "data: {folder", "tracking: {uri", "tracking: {experiment"])
def test_no_name_has_a_character_that_cannot_be_seen(key: str, wrong: Wrong) -> None:
    for text in ("a\0b", "\x1b[2J", "\x7f"):
        (problem,) = wrong(f"sweep: a\n{key}: {written(text)}}}")
        assert "control character" in problem and problem.isprintable()


def test_an_experiment_s_name_is_no_longer_than_mlflow_takes(read: Read, wrong: Wrong) -> None:
    assert read(f"sweep: a\ntracking: {{experiment: {'x' * 500}}}")
    (problem,) = wrong(f"sweep: a\ntracking: {{experiment: {'x' * 501}}}")
    assert "tracking.experiment must be text of at most 500 characters" in problem


@pytest.mark.slow
def test_an_experiment_s_name_is_no_path(tmp_path: Path, read: Read) -> None:
    """MLflow puts the files of a run below the folder of its experiment, whose name is no part of that."""
    sweep = tmp_path / "home" / "runs" / "a"
    sweep.mkdir(parents=True)
    client = mlflow.MlflowClient(tracking_uri(Tracking(), sweep))
    for name in ("../x", "/etc", "a/../../b", "..", "c:\\x", "a" * 500, "%2e%2e/x"):
        config = read(f"sweep: a\ntracking: {{experiment: {written(name)}}}").tracking
        experiment = _experiment(client, config.experiment, default_artifacts(config, sweep))
        run = client.create_run(experiment)
        client.log_text(run.info.run_id, "x", "file.txt")
        kept = Path(unquote(urlsplit(run.info.artifact_uri).path)).resolve()
        assert kept.is_relative_to(sweep.parent / "mlartifacts") and (kept / "file.txt").is_file()
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"runs"}
    assert {path.name for path in sweep.parent.iterdir()} == {"a", "mlflow.db", "mlartifacts"}


def test_a_name_by_override_is_held_to_the_same(read: Read) -> None:
    with pytest.raises(ConfigError, match="--set sweep=../x: sweep must be a name of"):
        read("sweep: a", "sweep=../x")
