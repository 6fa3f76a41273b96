import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from medtune.config.json_schema import sweep_schema
from medtune.config.yaml_text import load_yaml

SCHEMA = sweep_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def valid(trial: str) -> bool:
    return bool(VALIDATOR.is_valid({"sweep": "a", "trial": load_yaml(trial)}))


def test_the_written_schema_is_current() -> None:
    written = Path(__file__).parents[2] / "medtune.schema.json"
    assert json.loads(written.read_text()) == SCHEMA, "write it anew: medtune schema > medtune.schema.json"


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    references = {line.split('"')[3] for line in json.dumps(SCHEMA, indent=1).splitlines() if '"$ref"' in line}
    assert {reference.removeprefix("#/$defs/") for reference in references} <= set(SCHEMA["$defs"])


def test_the_design_document_s_example(design: str) -> None:
    assert list(VALIDATOR.iter_errors(load_yaml(design))) == []


@pytest.mark.parametrize(
    "trial",
    [
        "{}",
        "{optimizer: {lr: 0.5}}",
        "{optimizer: {choice: [{name: adam}, {choice: [{name: sgd, momentum: {uniform: [0, 0.9]}}]}]}}",
        "{optimizer: {name: {choice: [adam, adamw]}, beta1: {uniform: [0.8, 0.9]}}}",
        "{schedule: {name: {choice: [step, multistep]}, gamma: {choice: [0.1, {log_uniform: [0.01, 0.5]}]}}}",
        "{schedule: {name: multistep, milestones: {choice: [[0.5, 0.75], [{uniform: [0.2, 0.4]}, 0.6]]}}}",
        "{early_stopping: {patience: {choice: [null, {int: [3, 9], step: 3}]}}}",
        "{augment: {rotate_degrees: {int: [0, 20], step: 5}, noise: {uniform: [0, 0.4], step: 0.1}}}",
        "{model: {choice: [{name: smallcnn, dropout: 0.5}, {name: resnet18}]}, batch_size: {log_int: [8, 64]}}",
    ],
)
def test_right_trials(trial: str) -> None:
    assert valid(trial)


@pytest.mark.parametrize(
    "trial",
    [
        "{optimzer: {name: sgd}}",
        "{optimizer: {name: adam, momentum: 0.9}}",
        "{optimizer: {momentum: 0.9}}",
        "{optimizer: {choice: [{name: adamw, momentum: 0.9}]}}",
        "{schedule: {name: {choice: [constant, step]}, gamma: 0.1}}",
        "{schedule: {name: {choice: [constant, stpe]}}}",
        "{epochs: 2.5}",
        "{epochs: {uniform: [1, 5]}}",
        "{epochs: {int: [1, 5.5]}}",
        "{epochs: {int: [1, 5, 9]}}",
        "{epochs: {log_int: [1, 5], step: 2}}",
        "{epochs: {int: [1, 5], choice: [1]}}",
        "{batch_size: {choice: []}}",
        "{batch_size: {choice: [32, '64']}}",
        "{augment: {noise: {uniform: [0, 2]}}}",
        "{augment: {noise: {log_uniform: [0, 1]}}}",
        "{augment: {flip: {int: [0, 1]}}}",
    ],
)
def test_wrong_trials(trial: str) -> None:
    assert not valid(trial)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"sweep": "A b"},
        {"sweep": "a", "sede": 1},
        {"sweep": "a", "seed": {"int": [0, 9]}},
        {"sweep": "a", "data": {"dataset": "brestmnist"}},
        {"sweep": "a", "pruning": {"name": "asha", "brackets": 2}},
        {"sweep": "a", "resources": {"gpus_per_trial": "atuo"}},
    ],
)
def test_wrong_files(tree: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(tree)


def test_keys_say_what_they_mean_and_their_default() -> None:
    final = SCHEMA["$defs"]["Cosine.final"]
    assert (final["description"], final["default"]) == ("last lr as a fraction of the first", 0.0)
