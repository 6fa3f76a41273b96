"""A resumed training is the uninterrupted one, to the last bit, and a checkpoint is tensors and JSON and no more."""

import io
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from medtune.data.batches import DeviceSplit
from medtune.training import loop, tensorfile
from medtune.training.checkpoint import decode, encode, encode_weights, load_weights
from medtune.training.loop import Training
from medtune.training.tensorfile import read_part, read_values

Trainings = Callable[..., Training]
Splits = Callable[..., DeviceSplit]

OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adam"},
    {"name": "adamw"},
    {"name": "sgd"},
    {"name": "sgd", "momentum": 0.0},
    {"name": "rmsprop"},
    {"name": "rmsprop", "momentum": 0.5},
]
RANDOM: dict[str, Any] = {  # draws from every stream
    "epochs": 4,
    "model": {"name": "smallcnn", "dropout": 0.3},
    "augment": {"flip": True, "rotate_degrees": 20, "noise": 0.05, "erase": 0.3},
    "schedule": {"name": "cosine", "warmup": 0.1},
    "loss": {"label_smoothing": 0.1},
}


def state(training: Training) -> dict[str, Any]:
    """All of a checkpoint but for when an epoch ended, and the time that it took."""
    data = encode(training).to_bytes()
    values = read_values(io.BytesIO(data))
    for record in values["records"]:
        del record["values"]["epoch_seconds"], record["at"]
    return load(data) | {"values": json.dumps(values)}


def assert_same(first: Training, second: Training) -> None:
    expected, found = state(first), state(second)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype and torch.equal(found[name], value), name
        else:
            assert found[name] == value
    assert (first.best is None) == (second.best is None)
    assert first.best is None or second.best is second.records[first.best.epoch - 1]


def restarted(training: Training, anew: Callable[[], Training]) -> Training:
    """The training, as a process finds it that has only the checkpoint."""
    other = anew()
    decode(encode(training).to_bytes(), other)
    return other


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_training_restarted_after_every_epoch_equals_an_uninterrupted_one(
    make_training: Trainings, make_split: Splits, optimizer: dict[str, Any], precision: str
) -> None:
    val = make_split(seed=1)

    def anew() -> Training:
        return make_training(optimizer=optimizer, precision=precision, **RANDOM)

    whole, resumed = anew(), restarted(anew(), anew)
    for _ in range(4):
        whole.run_epoch(val)
        resumed = restarted(resumed, anew)
        resumed.run_epoch(val)
        assert_same(whole, resumed)
    assert whole.finished and resumed.finished


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_so_does_one_with_every_other_thing_that_has_a_state(
    make_training: Trainings, make_split: Splits, task: str
) -> None:
    train, val = (make_split(task, seed=seed) for seed in (0, 1))
    keys: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 16,
        "model": {"name": "smallcnn", "finetune": {"2": 1, "1": 2, "0": 3}, "backbone_lr": 0.3, "hidden": 8},
        "optimizer": {"name": "adamw", "decay_norms": False},
        "schedule": {"name": "plateau", "patience": 0},
        "augment": {"mixup": 0.2, "cutmix": 1.0, "policy": {"name": "trivialaugment"}},
        "loss": {"focal_gamma": 1.0, "class_weights": "balanced"},
        "sampling": "balanced",
        "ema": 0.9,
    }

    def anew() -> Training:
        return make_training(task, train=train, **keys)

    whole, resumed = anew(), anew()
    for _ in range(4):
        whole.run_epoch(val)
        resumed = restarted(resumed, anew)
        resumed.run_epoch(val)
        assert_same(whole, resumed)


def test_so_does_one_that_ran_out_of_memory(make_training: Trainings, make_split: Splits) -> None:
    val = make_split(seed=1)

    def anew() -> Training:
        training = make_training(**RANDOM)
        training.halve(2)
        return training

    whole, resumed, never = anew(), anew(), make_training(**RANDOM)
    for _ in range(4):
        for training in (whole, never):
            training.run_epoch(val)
        resumed = restarted(resumed, anew)
        resumed.run_epoch(val)
        assert_same(whole, resumed)
    # the first epoch is that of whole batches, later ones differ by what batch normalization sees
    assert whole.records[0].values["val/loss"] == never.records[0].values["val/loss"]
    assert whole.records[1].values["val/loss"] != never.records[1].values["val/loss"]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_so_does_a_resnet18_in_colour(make_training: Trainings, make_split: Splits, task: str) -> None:
    train, val = (make_split(task, cases=12, channels=3, seed=seed) for seed in (0, 1))

    def anew() -> Training:
        return make_training(task, train=train, epochs=2, batch_size=6, model={"name": "resnet18"})

    whole = anew()
    whole.run_epoch(val)
    resumed = restarted(whole, anew)
    for training in (whole, resumed):
        training.run_epoch(val)
    assert_same(whole, resumed)


def scripted(values: list[float]) -> Callable[..., dict[str, float]]:
    """An evaluation that finds these AUROCs, one after the other."""
    following: Iterator[float] = iter(values)
    return lambda *_: {"auroc": next(following)}


@pytest.mark.parametrize(
    ("values", "stop", "best"),
    [
        ([0.6, 0.7, 0.7, 0.5, 0.9], 4, 2),
        ([math.nan, 0.7, 0.8, 0.5, 0.8, 0.9], 5, 3),
        ([math.nan] * 6, 6, None),
    ],
)
@pytest.mark.parametrize("interrupted_after", [1, 2, 3])
def test_patience_goes_on_where_it_was(
    make_training: Trainings,
    make_split: Splits,
    monkeypatch: pytest.MonkeyPatch,
    values: list[float],
    stop: int,
    best: int | None,
    interrupted_after: int,
) -> None:
    monkeypatch.setattr(loop, "evaluate", scripted(values))

    def anew() -> Training:
        return make_training(epochs=6, batch_size=40, early_stopping={"patience": 2})

    training, val = anew(), make_split(cases=4)
    while not training.finished:
        training.run_epoch(val)
        if training.epoch == interrupted_after:
            training = restarted(training, anew)
    assert training.epoch == stop
    assert (training.best.epoch if training.best else None) == best


@pytest.fixture
def trained(make_training: Trainings, make_split: Splits) -> Training:
    training = make_training()
    for _ in range(2):
        training.run_epoch(make_split(seed=1))
    return training


def test_a_checkpoint_is_a_json_header_and_raw_numbers_and_nothing_else(trained: Training) -> None:
    data = encode(trained).to_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert list(metadata) == ["medtune"] and json.loads(metadata["medtune"])["version"] == tensorfile.VERSION
    places = sorted(entry["data_offsets"] for entry in header.values())
    assert [0, *(end for _, end in places)] == [*(begin for begin, _ in places), len(data) - 8 - length]
    assert sum(tensor.nbytes for tensor in load(data).values()) == len(data) - 8 - length


def test_a_file_holds_the_same_bytes(trained: Training, tmp_path: Path) -> None:
    checkpoint = encode(trained)
    checkpoint.to_file(str(tmp_path / "checkpoint"))
    assert (tmp_path / "checkpoint").read_bytes() == checkpoint.to_bytes()


def test_nothing_is_pickled(trained: Training, make_training: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    decode(encode(trained).to_bytes(), make_training())


def test_a_checkpoint_of_another_version_is_refused(
    trained: Training, make_training: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorfile, "VERSION", tensorfile.VERSION + 1)
    data = encode(trained).to_bytes()
    monkeypatch.undo()
    training = make_training()
    before = state(training)
    with pytest.raises(ValueError, match="format 2; this medtune reads format 1"):
        decode(data, training)
    assert all(torch.equal(now, before[name]) for name, now in load(encode(training).to_bytes()).items())


def test_predictions_can_be_read_of_a_checkpoint_without_the_rest(trained: Training) -> None:
    file = io.BytesIO(encode(trained).to_bytes())
    for name, array in trained.predictions.arrays().items():
        np.testing.assert_array_equal(read_part(file, "predictions.")[name], array, strict=True)
    assert trained.best is not None
    assert read_values(file)["best_epoch"] == trained.best.epoch


def test_a_training_without_validation_can_be_restarted(make_training: Trainings) -> None:
    def anew() -> Training:
        return make_training(**RANDOM)

    whole = anew()
    whole.run_epoch(None)
    resumed = restarted(whole, anew)
    for training in (whole, resumed):
        training.run_epoch(None)
    assert_same(whole, resumed)


def test_encoding_leaves_a_training_as_it_is(make_training: Trainings, make_split: Splits) -> None:
    looked_at, left_alone = make_training(**RANDOM), make_training(**RANDOM)
    for _ in range(2):
        encode(looked_at)
        looked_at.run_epoch(make_split(seed=1))
        left_alone.run_epoch(make_split(seed=1))
    assert_same(left_alone, looked_at)


@pytest.mark.parametrize("name", ["smallcnn", "resnet18"])
def test_weights_are_read_back_as_they_were(make_training: Trainings, tmp_path: Path, name: str) -> None:
    model, other = (make_training(model={"name": name}, seed=seed).model for seed in (0, 1))
    (tmp_path / "model.safetensors").write_bytes(encode_weights(model))
    load_weights(str(tmp_path / "model.safetensors"), other)
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_weights_are_read_in_the_order_of_their_names_though_they_lie_otherwise(trained: Training) -> None:
    found = read_part(io.BytesIO(encode(trained).to_bytes()), "model.")
    weights = trained.model.state_dict()
    assert any(not weight.is_contiguous() for weight in weights.values()) and found.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(found[name], weight.numpy(), strict=True)
