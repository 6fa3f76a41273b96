"""One trial: what it learns from, what it reports, when it ends, and that it is the same each time."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medtune.data.batches import DeviceSplit
from medtune.evaluation.metrics import evaluate
from medtune.task import TASKS, Task
from medtune.training import loop
from medtune.training.loop import Diverged, Training, predict_logits
from medtune.training.progress import EpochRecord, Objective

Trainings = Callable[..., Training]
Splits = Callable[..., DeviceSplit]

RANDOM: dict[str, Any] = {  # draws from every stream
    "model": {"name": "smallcnn", "dropout": 0.3},
    "augment": {"flip": True, "shift": 0.1, "rotate_degrees": 20, "crop": 0.2, "noise": 0.05, "erase": 0.3},
    "loss": {"label_smoothing": 0.1},
}
# train/loss, val/loss, val/brier of each epoch of `golden`, float32 on a CPU
GOLDEN = {
    "sgd": [[1.257965, 1.071073, 0.646681], [0.905705, 1.012978, 0.606384], [0.848668, 1.014571, 0.608711]],
    "adamw": [[1.064509, 1.381964, 0.844477], [0.797634, 1.215962, 0.723246], [0.752794, 0.780323, 0.475102]],
}


def golden(make_training: Trainings, make_split: Splits, optimizer: str) -> list[list[float]]:
    training = make_training(
        "multiclass",
        train=make_split("multiclass", channels=3),
        model={"name": "smallcnn", "dropout": 0.2},
        optimizer={"name": optimizer, "lr": 0.01},
        schedule={"name": "cosine", "warmup": 0.2},
        augment={"flip": True, "brightness": 0.2, "rotate_degrees": 10},
        loss={"label_smoothing": 0.1},
    )
    records = [training.run_epoch(make_split("multiclass", channels=3, seed=1)) for _ in range(3)]
    return [[record.values[name] for name in ("train/loss", "val/loss", "val/brier")] for record in records]


def run(training: Training, val: DeviceSplit | None) -> list[EpochRecord]:
    while not training.finished:
        training.run_epoch(val)
    return training.records


def numbers(training: Training) -> list[dict[str, float]]:
    return [{k: v for k, v in record.values.items() if k != "epoch_seconds"} for record in training.records]


def watch_steps(training: Training, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], float]]:
    """A list that gets the cases and the loss of every step."""
    steps: list[tuple[list[int], float]] = []
    step = training._train_step

    def watched(cases: torch.Tensor) -> torch.Tensor:
        loss = step(cases)
        steps.append((cases.tolist(), loss.item()))
        return loss

    monkeypatch.setattr(training, "_train_step", watched)
    return steps


def script(monkeypatch: pytest.MonkeyPatch, name: str, values: list[float]) -> None:
    """The evaluations find these values of a metric, one after the other."""
    following = iter(values)
    monkeypatch.setattr(loop, "evaluate", lambda *_: {name: next(following)})


# --- every model, every task


EVERY_MODEL = [
    *itertools.product(["smallcnn", "resnet18"], [28, 64], TASKS, [1, 3], ["float32"]),
    *itertools.product(["smallcnn", "resnet18"], [28], ["multiclass", "multilabel"], [1], ["bfloat16"]),
    *itertools.product(["smallcnn", "resnet18"], [128], ["binary"], [3], ["float32"]),
]


@pytest.mark.parametrize(("model", "size", "task", "channels", "precision"), EVERY_MODEL)
def test_every_model_trains_a_batch_of_every_task(
    make_training: Trainings, make_split: Splits, model: str, size: int, task: Task, channels: int, precision: str
) -> None:
    split = make_split(task, cases=4, size=size, channels=channels)
    training = make_training(task, train=split, model={"name": model}, batch_size=4, precision=precision)
    before = {name: tensor.clone() for name, tensor in training.model.named_parameters()}
    record = training.run_epoch(split)
    assert math.isfinite(record.values["train/loss"]) and math.isfinite(record.values["val/loss"])
    assert all(not torch.equal(tensor, before[name]) for name, tensor in training.model.named_parameters())
    (logits,) = training.predictions.logits.values()
    assert logits.dtype == np.float32 and logits.shape == (4, training.model.head.out_features)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["smallcnn", "resnet18"])
@pytest.mark.parametrize("task", TASKS)
def test_every_model_trains_a_batch_at_224_pixels(
    make_training: Trainings, make_split: Splits, model: str, task: Task
) -> None:
    split = make_split(task, cases=4, size=224, channels=3)
    record = make_training(task, train=split, model={"name": model}, batch_size=4).run_epoch(split)
    assert math.isfinite(record.values["train/loss"]) and math.isfinite(record.values["val/loss"])


@pytest.mark.parametrize("task", TASKS)
def test_what_can_be_learnt_is_learnt(make_training: Trainings, make_split: Splits, task: Task) -> None:
    training = make_training(task, train=make_split(task, cases=200), epochs=8, optimizer={"name": "adam", "lr": 0.01})
    records = run(training, make_split(task, cases=100, seed=1))
    assert records[-1].values["train/loss"] < 0.85 * records[0].values["train/loss"]
    assert records[-1].values["val/auroc"] > (0.6 if task == "multilabel" else 0.9)


@pytest.mark.parametrize("model", ["smallcnn", "resnet18"])
def test_a_last_batch_of_one_case_trains(make_training: Trainings, make_split: Splits, model: str) -> None:
    training = make_training(train=make_split(cases=9, size=28), model={"name": model}, batch_size=8)
    assert math.isfinite(training.run_epoch(None).values["train/loss"])


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_backbone_computes_in_the_asked_precision(
    make_training: Trainings, make_split: Splits, precision: str, dtype: torch.dtype
) -> None:
    training = make_training(precision=precision)
    seen = set()
    training.model.backbone.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    training.run_epoch(make_split())
    assert seen == {dtype}


# --- the same numbers again


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_the_same_seed_gives_the_same_numbers_to_the_last_bit(
    make_training: Trainings, make_split: Splits, optimizer: str, precision: str
) -> None:
    first, second = (make_training(optimizer={"name": optimizer}, precision=precision, **RANDOM) for _ in range(2))
    run(first, make_split(seed=1))
    torch.manual_seed(77)
    run(second, make_split(seed=1))
    assert numbers(first) == numbers(second)
    weights = second.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first.model.state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_golden_losses(make_training: Trainings, make_split: Splits, optimizer: str) -> None:
    found = golden(make_training, make_split, optimizer)
    np.testing.assert_allclose(found, GOLDEN[optimizer], rtol=1e-4)


def test_another_seed_gives_other_numbers(make_training: Trainings) -> None:
    first, second = (make_training(seed=seed).run_epoch(None).values["train/loss"] for seed in (0, 1))
    assert first != second


def test_global_random_state_is_left_alone(
    make_training: Trainings, make_split: Splits, global_randomness: Callable[[], bytes]
) -> None:
    val, before = make_split(), global_randomness()
    for model in ("smallcnn", "resnet18"):
        make_training(**RANDOM | {"model": {"name": model, "dropout": 0.3}, "batch_size": 40}).run_epoch(val)
    assert global_randomness() == before


# --- an epoch


def test_an_epoch_sees_every_case_once_in_an_order_of_its_own(
    make_training: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make_training(batch_size=16)
    steps = watch_steps(training, monkeypatch)
    orders = []
    for _ in range(2):
        steps.clear()
        training.run_epoch(None)
        assert [len(cases) for cases, _ in steps] == [16, 16, 8]
        orders.append([case for cases, _ in steps for case in cases])
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert orders[0] != orders[1] != list(range(40)) != orders[0]


def test_train_loss_is_the_mean_over_the_cases(make_training: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make_training(batch_size=16)
    steps = watch_steps(training, monkeypatch)
    found = training.run_epoch(None).values["train/loss"]
    assert found == pytest.approx(sum(loss * len(cases) for cases, loss in steps) / 40, rel=1e-6)


def test_the_lr_of_the_configuration_follows_the_schedule(make_training: Trainings) -> None:
    training = make_training(
        epochs=4, optimizer={"name": "sgd", "lr": 0.02}, schedule={"name": "multistep", "milestones": [0.5, 0.75]}
    )
    assert [record.values["lr"] for record in run(training, None)] == pytest.approx([0.02, 0.02, 0.002, 0.0002])


def test_the_lr_that_is_told_is_that_of_the_head(make_training: Trainings) -> None:
    keys: dict[str, Any] = {
        "model": {"name": "smallcnn", "backbone_lr": 0.1},
        "optimizer": {"name": "adam", "lr": 0.02},
    }
    assert make_training(**keys).run_epoch(None).values["lr"] == pytest.approx(0.02)


def test_an_lr_of_next_to_nothing_changes_next_to_nothing(make_training: Trainings) -> None:
    training = make_training(optimizer={"name": "adam", "lr": 1e-12})
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    training.run_epoch(None)
    for parameter, was in zip(training.model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, was, atol=1e-10, rtol=1e-6)


def test_augmentation_and_smoothing_of_the_configuration_reach_the_training(make_training: Trainings) -> None:
    plain = make_training().run_epoch(None).values["train/loss"]
    for keys in ({"augment": {"noise": 0.1}}, {"loss": {"label_smoothing": 0.2}}, {"model": RANDOM["model"]}):
        assert make_training(**keys).run_epoch(None).values["train/loss"] != plain


@pytest.mark.parametrize(
    "keys",
    [
        {"augment": {"mixup": 0.4}},
        {"augment": {"cutmix": 1.0}},
        {"augment": {"policy": {"name": "randaugment"}}},
        {"loss": {"focal_gamma": 2.0}},
        {"sampling": "balanced"},
        {"optimizer": {"name": "adam", "weight_decay": 0.5, "decay_norms": False}},
        {"model": {"name": "smallcnn", "backbone_lr": 0.1}},
        {"model": {"name": "smallcnn", "finetune": "head"}},
        {"model": {"name": "smallcnn", "skip": False}},
    ],
    ids=str,
)
def test_every_other_option_reaches_it_too(make_training: Trainings, keys: dict[str, Any]) -> None:
    def weights(**keys: Any) -> torch.Tensor:
        training = make_training(epochs=1, **keys)
        training.run_epoch(None)
        return torch.cat([parameter.detach().flatten() for parameter in training.model.parameters()])

    plain = weights(optimizer={"name": "adam", "weight_decay": 0.5}) if "optimizer" in keys else weights()
    assert not torch.equal(weights(**keys), plain)


def test_so_do_the_weights_of_rare_classes(make_training: Trainings, make_split: Splits) -> None:
    rare = DeviceSplit(make_split().images, (torch.arange(40) >= 36).long())
    losses = []
    for weights in ("none", "balanced"):
        training = make_training(train=rare, loss={"class_weights": weights}, batch_size=40)
        losses.append(training.run_epoch(None).values["train/loss"])
    assert losses[0] != losses[1] and training.class_weights is not None
    assert training.class_weights.tolist() == pytest.approx([40 / 72, 5])


def test_a_balanced_order_draws_every_class_as_often(make_training: Trainings, make_split: Splits) -> None:
    split = make_split(cases=400)
    rare = DeviceSplit(split.images, (torch.arange(400) >= 380).long())
    order = make_training(train=rare, sampling="balanced")._order()
    assert len(order) == 400 and 160 < (order >= 380).sum() < 240


def test_the_running_mean_is_what_is_validated(make_training: Trainings, make_split: Splits) -> None:
    val = make_split(seed=1)
    training = make_training(ema=0.9)
    training.run_epoch(val)
    assert training.evaluated is not training.model
    mean = predict_logits(training.evaluated, val, training.autocast)
    np.testing.assert_array_equal(training.predictions.logits[1], mean)
    assert not np.array_equal(mean, predict_logits(training.model, val, training.autocast))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_layers_train_from_their_epoch_on(make_training: Trainings, optimizer: str) -> None:
    model = {"name": "smallcnn", "finetune": {"2": 1, "1": 3}}
    training = make_training(epochs=3, model=model, optimizer={"name": optimizer})
    blocks = [next(training.model.backbone[index].parameters()) for index in range(3)]
    moved = []
    for _ in range(3):
        before = [block.detach().clone() for block in blocks]
        training.run_epoch(None)
        moved.append([not torch.equal(block, was) for block, was in zip(blocks, before, strict=True)])
    assert moved == [[False, False, True], [False, False, True], [False, True, True]]


def test_batches_are_timed(make_training: Trainings) -> None:
    for count, images in [(1, 16), (2, 24), (9, 24)]:
        training = make_training(batch_size=16)
        seconds, timed = training.time_batches(count)
        assert seconds > 0 and timed == images
    training = make_training(batch_size=64)
    assert training.time_batches(3)[1] == 40  # a single batch serves as its own warm-up


# --- evaluation


@pytest.mark.parametrize("task", TASKS)
def test_values_are_those_of_the_kept_logits_and_the_loss_is_unsmoothed(
    make_training: Trainings, make_split: Splits, task: Task
) -> None:
    val = make_split(task, seed=1)
    training = make_training(task, loss={"label_smoothing": 0.3})
    record = training.run_epoch(val)
    logits = training.predictions.logits[1]
    expected = evaluate(logits, val.labels.numpy().astype(np.int64), task)
    assert {f"val/{name}": value for name, value in expected.items()}.items() <= record.values.items()
    loss = F.binary_cross_entropy_with_logits if task == "multilabel" else F.cross_entropy
    assert record.values["val/loss"] == pytest.approx(loss(torch.from_numpy(logits), val.labels).item(), rel=1e-5)


def test_a_record_has_these_values(make_training: Trainings, make_split: Splits) -> None:
    names = ["train/loss", "lr", "val/auroc", "val/accuracy", "val/loss", "val/ece", "val/brier", "epoch_seconds"]
    assert list(make_training().run_epoch(make_split()).values) == names
    assert list(make_training().run_epoch(None).values) == ["train/loss", "lr", "epoch_seconds"]


def test_evaluation_in_chunks_is_that_in_one_pass(
    make_training: Trainings, make_split: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, val = make_training(), make_split(cases=23, seed=1)
    training.run_epoch(None)
    whole = predict_logits(training.model, val, training.autocast)
    monkeypatch.setattr(loop, "CASES_PER_PASS", 5)
    chunks = predict_logits(training.model, val, training.autocast)
    assert whole.shape == (23, 2) and whole.dtype == np.float32
    np.testing.assert_allclose(chunks, whole, rtol=1e-5, atol=1e-5)


def test_evaluation_changes_nothing_and_draws_nothing(make_training: Trainings, make_split: Splits) -> None:
    evaluated, left_alone = make_training(**RANDOM), make_training(**RANDOM)
    val = make_split(seed=1)
    for _ in range(2):
        first, second = (predict_logits(evaluated.model, val, evaluated.autocast) for _ in range(2))
        assert np.array_equal(first, second)
        evaluated.run_epoch(val)
        left_alone.run_epoch(None)
    weights = left_alone.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in evaluated.model.state_dict().items())


# --- divergence


@pytest.mark.parametrize("val", [True, False])
@pytest.mark.parametrize("lr", [1e6, 1e30])
def test_an_absurd_lr_diverges_within_the_epoch(
    make_training: Trainings, make_split: Splits, lr: float, val: bool
) -> None:
    training = make_training(optimizer={"name": "sgd", "lr": lr})
    with pytest.raises(Diverged, match="training diverged in epoch 1: loss"):
        training.run_epoch(make_split() if val else None)
    assert training.records == [] and training.best is None and training.predictions.logits == {}


def test_nan_weights_are_seen_in_the_epoch_in_which_they_appear(make_training: Trainings, make_split: Splits) -> None:
    training = make_training()
    training.run_epoch(make_split())
    torch.nn.init.constant_(training.model.head.bias, math.nan)
    with pytest.raises(Diverged, match="training diverged in epoch 2: loss nan"):
        training.run_epoch(make_split())
    assert training.epoch == 1 and list(training.predictions.logits) == [1]


@pytest.mark.parametrize(("loss", "diverges"), [(loop.DIVERGED, True), (loop.DIVERGED * 0.99, False)])
def test_a_loss_beyond_recovery_is_a_divergence_although_finite(
    make_training: Trainings, monkeypatch: pytest.MonkeyPatch, loss: float, diverges: bool
) -> None:
    training = make_training()
    monkeypatch.setattr(training, "_train_epoch", lambda past: loss)
    if diverges:
        with pytest.raises(Diverged):
            training.run_epoch(None)
    else:
        training.run_epoch(None)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_a_divergence_although_the_training_loss_is_fine(
    make_training: Trainings, make_split: Splits, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    logits = np.zeros((40, 2), np.float32)
    logits[3, 1] = wrong
    monkeypatch.setattr(loop, "predict_logits", lambda *_: logits)
    training = make_training()
    with pytest.raises(Diverged):
        training.run_epoch(make_split())
    assert training.records == []


# --- the best epoch and the last


@pytest.mark.parametrize(
    ("metric", "direction", "values", "best"),
    [
        ("val/auroc", "max", [0.5, 0.8, 0.8, 0.6], 2),
        ("val/auroc", "max", [0.9, 0.8, 0.8, 0.6], 1),
        ("val/auroc", "max", [0.5, 0.6, 0.7, 0.8], 4),
        ("val/auroc", "max", [math.nan, 0.5, math.nan, 0.5], 2),
        ("val/auroc", "max", [math.nan] * 4, None),
        ("val/loss", "min", [0.9, 0.4, 0.4, 0.5], 2),
        ("val/loss", "min", [math.nan, 0.9, 1.0, 0.8], 4),
    ],
)
def test_the_best_epoch_is_the_first_with_the_best_value(
    make_training: Trainings,
    make_split: Splits,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    direction: str,
    values: list[float],
    best: int | None,
) -> None:
    script(monkeypatch, metric.removeprefix("val/"), values)
    training = make_training(epochs=4, batch_size=40, metric=metric, direction=direction)
    records = run(training, make_split(cases=4))
    assert (training.best.epoch if training.best else None) == best
    assert best is None or training.best is records[best - 1]
    assert list(training.predictions.logits) == [1, 2, 3, 4]


def test_of_predictions_over_the_limit_the_best_epoch_stays(
    make_training: Trainings, make_split: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, "auroc", [0.5, 0.8, 0.8, 0.6])
    training = make_training(epochs=4, batch_size=40)
    training.predictions.limit = 100  # three epochs of 4 cases x 2 classes
    run(training, make_split(cases=4))
    assert list(training.predictions.logits) == [2]


@pytest.mark.parametrize(
    ("patience", "values", "stop"),
    [
        (None, [0.9, 0.1, 0.1, 0.1, 0.1], 5),
        (1, [0.5, 0.6, 0.6, 0.9], 3),
        (2, [0.7, 0.6, 0.8, 0.8, 0.8], 5),
        (2, [0.7, 0.7, 0.6, 0.9], 3),
        (4, [0.7, 0.6, 0.6, 0.6, 0.6], 5),
        (1, [math.nan] * 5, 5),
        (2, [0.7, math.nan, math.nan], 3),
    ],
)
def test_patience_ends_a_trial_so_many_epochs_after_its_best(
    make_training: Trainings,
    make_split: Splits,
    monkeypatch: pytest.MonkeyPatch,
    patience: int | None,
    values: list[float],
    stop: int,
) -> None:
    script(monkeypatch, "auroc", values)
    training = make_training(epochs=5, batch_size=40, early_stopping={"patience": patience})
    records = run(training, make_split(cases=4))
    assert [record.last for record in records] == [False] * (stop - 1) + [True]
    assert [record.epoch for record in records] == list(range(1, stop + 1))


def test_a_training_without_validation_runs_to_its_last_epoch(make_training: Trainings) -> None:
    training = make_training(epochs=3, early_stopping={"patience": 1})
    assert not training.finished
    assert len(run(training, None)) == 3
    assert training.best is None and training.finished


@pytest.mark.parametrize(
    ("direction", "value", "than", "expected"),
    [
        ("max", 0.6, 0.5, True),
        ("max", 0.5, 0.5, False),
        ("min", 0.4, 0.5, True),
        ("min", 0.5, 0.5, False),
        ("max", 0.1, None, True),
        ("max", math.nan, None, False),
        ("max", math.nan, 0.5, False),
        ("min", math.nan, 0.5, False),
        ("max", 0.1, math.nan, True),
    ],
)
def test_better_is_strictly_better_and_a_number(
    direction: str, value: float, than: float | None, expected: bool
) -> None:
    assert Objective("val/auroc", direction).better(value, than) is expected


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_halved_batches_take_the_steps_of_whole_ones(make_training: Trainings, task: Task) -> None:
    keys = {"optimizer": {"name": "sgd", "lr": 0.1}, "augment": {"mixup": 0.4}, "loss": {"class_weights": "balanced"}}
    whole, halved = make_training(task, **keys), make_training(task, **keys)
    halved.halve()
    for training in (whole, halved):
        training.model.eval()  # batch normalization without the batch
        training._train_mode = lambda epoch: None
        training._train_epoch([])
    assert (whole.halves, halved.halves) == (1, 2)
    for one, other in zip(whole.model.parameters(), halved.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
