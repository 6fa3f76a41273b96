"""The two kinds of sweep files, and the labels that stand below `data` and are swept with the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from medtune.config.default import default_point, settings_at, start_points, swept_values
from medtune.config.json_schema import sweep_schema
from medtune.config.pretrain import MoCo, PretrainConfig, SimCLR
from medtune.config.problems import ConfigError
from medtune.config.read import read_sweep
from medtune.config.space import distributions
from medtune.config.sweep import SweepConfig
from medtune.config.trial import AdamW, Labels
from medtune.config.write import file_tree, sweep_text
from medtune.config.yaml_text import load_yaml

Reading = Callable[[str], SweepConfig]
LABELS = "sweep: a\ndata: {labels: {fraction: {choice: [0.1, 1.0]}, seed: {int: [0, 4]}}}\n"
PRETRAIN = """\
sweep: a
pretrain:
  method: {choice: [{name: simclr, temperature: {log_uniform: [0.05, 0.15]}}, {name: moco, queue: {choice: [0, 64]}}]}
  optimizer: {lr: {log_uniform: [1.0e-4, 1.0e-2]}}
"""


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    def read(text: str) -> SweepConfig:
        (tmp_path / "sweep.yaml").write_text(text)
        return read_sweep(tmp_path / "sweep.yaml")

    return read


@pytest.mark.parametrize("text", ["sweep: a\n", LABELS, PRETRAIN, LABELS + PRETRAIN.partition("\n")[2]])
def test_what_is_written_reads_back_to_the_same(reading: Reading, text: str) -> None:
    config = reading(text)
    assert reading(sweep_text(config)) == config
    sections = list(file_tree(config))
    assert ("pretrain" in sections) == ("pretrain:" in text) != ("trial" in sections)


def test_labels_are_dimensions_like_any_other(reading: Reading) -> None:
    space = reading(LABELS).trial
    assert [name for name, _ in distributions(space)] == ["labels.fraction", "labels.seed"]
    (point,) = start_points(space, [{"labels.fraction": 0.1, "labels.seed": 3}])
    trial = settings_at(space, point)
    assert trial.labels == Labels(fraction=0.1, seed=3)
    assert swept_values(space, point, trial) == {"labels.fraction": 0.1, "labels.seed": 3}
    assert settings_at(space, default_point(space)).labels == Labels()
    either = reading("sweep: a\ndata: {labels: {choice: [null, {fraction: 0.1}]}}\n").trial
    assert settings_at(either, default_point(either)).labels is None
    tree = load_yaml(sweep_text(reading(LABELS)))
    assert tree["data"]["labels"] == {"fraction": {"choice": [0.1, 1.0]}, "seed": {"int": [0, 4]}}
    assert "labels" not in tree["trial"]


def test_a_pretraining_has_defaults_of_its_own(reading: Reading) -> None:
    space = reading(PRETRAIN).trial
    settings = settings_at(space, default_point(space))
    assert isinstance(settings, PretrainConfig) and isinstance(settings.optimizer, AdamW)
    assert settings.method == SimCLR(temperature=0.15)  # the default, clipped to the bounds
    assert (settings.optimizer.lr, settings.schedule.name, settings.augment.crop) == (1e-3, "cosine", 0.5)
    (point,) = start_points(space, [{"method": {"name": "moco", "queue": 64}}])
    assert settings_at(space, point).method == MoCo(queue=64)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data: {labels: {fraction: 0}}", "2:27: data.labels.fraction must be above 0, not 0"),
        ("data: {labels: {fraction: {uniform: [0.1, 2]}}}", "2:43: data.labels.fraction must be at most 1, not 2.0"),
        ("data: {labels: {part: 0.1}}", "2:17: unknown key part in data.labels"),
        ("data: {labels: 0.1}", "2:16: data.labels must be a mapping, not 0.1; write {fraction: 0.1}"),
        ("data: {labels: {uniform: [0, 1]}}", "2:16: data.labels must be a mapping, not uniform"),
        ("data: {labels: {fraction: 0.1}, train_fraction: 0.5}", "2:8: data.labels stands in the place of train_"),
        ("trial: {labels: {fraction: 0.1}}", "2:9: labels stands below data: write data: {labels: ...}"),
        ("data: {labels: {seed: 1}}\ntrial: {folds: 3}", "2:8: data.labels is a part of train, and trial.folds"),
        ("trial: {epochs: 3}\npretrain: {epochs: 3}", "3:1: pretrain stands in the place of trial"),
        ("pretrain: {choice: [{epochs: 3}]}", "2:11: no distribution can stand at pretrain itself"),
        ("pretrain: {method: {name: byol}}", "2:27: pretrain.method.name must be simclr, moco or vicreg"),
        ("pretrain: {method: {name: vicreg, queue: 8}}", "2:35: queue is a key of method moco, not of vicreg"),
        ("pretrain: {model: {name: smallcnn, weights: imagenet}}", "2:45: pretrain.model.weights: none are published"),
        ("pretrain: {augment: {hue: {uniform: [0, 0.2]}}}", "2:22: pretrain.augment.hue is swept but nothing reads it"),
        ("trial: {model: {finetune: probe, hidden: 8}}", "2:42: trial.model.hidden: the linear probe has no dense"),
        ("trial: {folds: 3, model: {finetune: {choice: [all, probe]}}}", "2:16: trial.folds: the linear probe chooses"),
        ("search: {sampler: grid}\npretrain: {augment: {crop: {uniform: [0, 0.2]}}}", "3:28: a grid cannot count"),
        ("search: {sampler: grid}\ndata: {labels: {fraction: {uniform: [0.1, 1]}}}", "3:27: a grid cannot count"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(reading: Reading, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        reading(f"sweep: a\n{text}\n")
    (line,) = caught.value.problems
    assert line.partition("sweep.yaml:")[2].startswith(problem), line


@pytest.mark.parametrize("text", [LABELS, PRETRAIN])
def test_the_schema_knows_both(text: str) -> None:
    validator = Draft7Validator(sweep_schema())
    assert not list(validator.iter_errors(load_yaml(text)))
    both = load_yaml(text) | {"trial": {}, "pretrain": {}}
    assert list(validator.iter_errors(both))
    assert list(validator.iter_errors({"sweep": "a", "pretrain": {"method": {"queue": 8, "name": "simclr"}}}))
