import io
from collections.abc import Callable
from pathlib import Path

import pytest

from medtune.config.problems import ConfigError
from medtune.config.read import read_sweep
from medtune.config.sweep import SweepConfig
from medtune.config.write import dump_sweep, dump_yaml, without_password
from medtune.config.yaml_text import load_yaml

Read = Callable[..., SweepConfig]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["search.start_with=[{optimizer: {name: sgd, lr: 0.01}}, {augment.noise: 0}]", "trial.epochs=100"],
        ["trial.schedule={name: multistep, milestones: {choice: [[0.5, 0.75], [{uniform: [0.2, 0.4]}, 0.6]]}}"],
        ["trial.optimizer={choice: [{name: {choice: [adam, adamw]}, lr: {choice: [1e-5, {log_uniform: [1e-3, 1]}]}}]}"],
        ["sweep=2024-01-01", "data.root=null-island", "tracking.experiment='1e-4'", "pruning={name: none}"],
    ],
)
def test_what_is_written_reads_to_the_same(read: Read, design: str, tmp_path: Path, overrides: list[str]) -> None:
    config = read(design, *overrides)
    path = tmp_path / "again.yaml"
    dump_sweep(config, path)
    assert read_sweep(path) == config
    stream = io.StringIO()
    dump_sweep(config, stream)
    assert stream.getvalue() == path.read_text()


def test_the_file_is_readable_and_has_its_defaults(read: Read, design: str) -> None:
    stream = io.StringIO()
    dump_sweep(read(design), stream)
    text = stream.getvalue()
    assert text.startswith("sweep: breast-small\nseed: 0\ndata:\n  dataset: breastmnist\n")
    assert "  root: null\n" in text
    assert "        weight_decay: {log_uniform: [1.0e-6, 0.1]}\n        decay_norms: true\n" in text
    assert "    rotate_degrees: {int: [0, 20], step: 5}\n" in text
    assert "    noise: {choice: [0, {uniform: [0.1, 0.4]}]}\n" in text
    assert "  schedule:\n    name: {choice: [constant, cosine, step]}\n    warmup: 0.0\n" in text


def test_a_failed_write_leaves_the_old_file(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read("sweep: a")
    before = sorted(tmp_path.iterdir())

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        dump_sweep(config, tmp_path / "sweep.yaml")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "sweep.yaml").read_text() == "sweep: a"


@pytest.mark.parametrize(
    "value", [1e-5, 1e-4, 0.1, 1e22, -2.5e-10, 1 / 3, 3, True, None, "1e-4", "null", "", "2024-01-01"]
)
def test_plain_values_come_back(value: object) -> None:
    again = load_yaml(dump_yaml({"value": value, "list": [value]}))
    assert again == {"value": value, "list": [value]}
    assert type(again["value"]) is type(value)


def test_floats_are_written_so_that_older_readers_take_them_for_numbers() -> None:
    assert dump_yaml({"a": 1e-05, "b": 2.5e-10, "c": 1e22}) == "a: 1.0e-5\nb: 2.5e-10\nc: 1.0e+22\n"


def test_load_yaml_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml:2:1: a stands twice, first in line 1"):
        load_yaml("a: 1\na: 2", source="config.yaml")
    with pytest.raises(ConfigError, match=r"config.yaml:1:6: this is not YAML"):
        load_yaml("a: [1", source="config.yaml")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db:5432/mlflow", "postgresql://me:***@db:5432/mlflow"),
        ("https://me:secret@mlflow.example.org/path", "https://me:***@mlflow.example.org/path"),
        ("http://:secret@host", "http://:***@host"),
        ("at http://me:secret@host and http://you:word@there", "at http://me:***@host and http://you:***@there"),
        ("http://me@host:5000", "http://me@host:5000"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("uri: http://host:5000\nto: me@there", "uri: http://host:5000\nto: me@there"),
        ("sqlite:////home/me/runs/mlflow.db", "sqlite:////home/me/runs/mlflow.db"),
    ],
)
def test_no_password_is_shown(uri: str, shown: str) -> None:
    assert without_password(uri) == shown
