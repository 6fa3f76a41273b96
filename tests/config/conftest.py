"""The sweep file of the design, as far as its keys exist, and ways to write and read files in tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medtune.config.read import ConfigError, read_sweep
from medtune.config.sweep import SweepConfig

DESIGN = """\
# yaml-language-server: $schema=../medtune.schema.json
sweep: breast-small
seed: 0
data:
  dataset: breastmnist
  size: 28
  root: null
  train_fraction: 1.0
trial:
  epochs: 20
  batch_size: {choice: [32, 64, 128]}
  model: {name: smallcnn, dropout: {uniform: [0, 0.5]}}
  optimizer:
    choice:
      - {name: adamw, lr: {log_uniform: [1.0e-4, 1.0e-2]}, weight_decay: {log_uniform: [1.0e-6, 1.0e-1]}}
      - {name: sgd, lr: {log_uniform: [1e-3, 0.3]}, momentum: {uniform: [0.5, 0.99]}}
  schedule: {name: {choice: [constant, cosine, step]}}
  augment:
    flip: {choice: [true, false]}
    rotate_degrees: {int: [0, 20], step: 5}
    noise: {choice: [0, {uniform: [0.1, 0.4]}]}
  loss: {label_smoothing: {uniform: [0, 0.2]}}
  early_stopping: {patience: null}
search:
  sampler: tpe
  trials: 40
  metric: val/auroc
  start_with: []
pruning: {name: asha, grace_epochs: 2, reduction_factor: 3}
resources: {cpus_per_trial: 1, gpus_per_trial: auto, max_concurrent: auto}
budget: {hours: 1.0}
keep: {weights: 5}
retrain: {epochs: null, seeds: 1, train_on: train}
tracking: {uri: null, experiment: medtune}
cluster: {address: null, storage: null}
"""


@pytest.fixture
def design() -> str:
    return DESIGN


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., SweepConfig]:
    """Reads a text as a sweep file, with overrides."""

    def read_text(text: str | bytes, *overrides: str) -> SweepConfig:
        path = tmp_path / "sweep.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_sweep(path, overrides)

    return read_text


@pytest.fixture
def wrong(read: Callable[..., SweepConfig], tmp_path: Path) -> Callable[..., list[str]]:
    """The problems of a text as a sweep file, without the file's folder."""

    def problems(text: str | bytes, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, *overrides)
        assert str(caught.value) == "\n".join(caught.value.problems)
        return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]

    return problems
