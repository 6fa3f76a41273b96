"""One pretraining: what it learns from, what it reports, and that its steps do not depend on how they are computed."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtune.data.batches import DeviceSplit
from medtune.evaluation.metrics import evaluate
from medtune.pretraining import loop
from medtune.pretraining.loop import Pretraining, encode_cases
from medtune.pretraining.neighbours import neighbour_logits
from medtune.task import TASKS, Task
from medtune.training.loop import Diverged
from medtune.training.progress import EpochRecord
from medtune.training.streams import Streams

Pretrainings = Callable[..., Pretraining]
Splits = Callable[..., DeviceSplit]

METHODS: dict[str, dict[str, Any]] = {
    "simclr": {"name": "simclr"},
    "moco": {"name": "moco", "queue": 24, "momentum": 0.9},
    "moco v3": {"name": "moco", "queue": 0, "momentum": 0.9},
    "vicreg": {"name": "vicreg"},
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
SAME: dict[str, Any] = dict.fromkeys(("flip", "blur", "grey"), 0) | dict.fromkeys(
    ("rotate_degrees", "crop", "brightness", "contrast", "saturation", "hue"), 0.0
)


def run(pretraining: Pretraining, val: DeviceSplit | None) -> list[EpochRecord]:
    while not pretraining.finished:
        pretraining.run_epoch(val)
    return pretraining.records


def numbers(pretraining: Pretraining) -> list[dict[str, float]]:
    return [{k: v for k, v in record.values.items() if k != "epoch_seconds"} for record in pretraining.records]


def state(pretraining: Pretraining) -> dict[str, Tensor]:
    parts = {"encoder": pretraining.encoder, "method": pretraining.method}
    return {f"{of}.{name}": t.clone() for of, part in parts.items() for name, t in part.state_dict().items()}


def slopes(pretraining: Pretraining) -> dict[str, Tensor]:
    parts = {"encoder": pretraining.encoder, "method": pretraining.method}
    named = [(f"{of}.{name}", one.grad) for of, part in parts.items() for name, one in part.named_parameters()]
    return {name: slope for name, slope in named if slope is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def norms(pretraining: Pretraining) -> list[_BatchNorm]:
    parts: tuple[nn.Module, ...] = (pretraining.encoder, pretraining.method)
    return [module for part in parts for module in part.modules() if isinstance(module, _BatchNorm)]


def without_batch_norm(pretraining: Pretraining) -> Pretraining:
    """Its norms normalise by their running statistics whatever the mode: a case's embedding is its own alone."""
    for norm in norms(pretraining):
        norm.eval()
        norm.train = lambda mode=True: None  # type: ignore
    return pretraining


@contextmanager
def watched(pretraining: Pretraining) -> Iterator[list[int]]:
    """How many views go through the encoder, each time."""
    views: list[int] = []
    hook = pretraining.encoder.register_forward_hook(lambda module, given, features: views.append(len(features)))
    yield views
    hook.remove()


# --- what an epoch gives


def test_a_record_has_these_values(make_pretraining: Pretrainings, make_split: Splits) -> None:
    trained = ["train/loss", "train/alignment", "train/uniformity", "lr"]
    validated = ["val/auroc", "val/accuracy", "val/loss", "val/ece", "val/brier"]
    assert list(make_pretraining().run_epoch(make_split(seed=1)).values) == [*trained, *validated, "epoch_seconds"]
    pretraining = make_pretraining()
    assert list(pretraining.run_epoch(None).values) == [*trained, "epoch_seconds"]
    assert pretraining.predictions.logits == {} and pretraining.best is None


@pytest.mark.parametrize("task", TASKS)
def test_what_validates_it_are_the_votes_of_its_neighbours(
    make_pretraining: Pretrainings, make_split: Splits, task: Task
) -> None:
    labelled, val = make_split(task, cases=30, seed=1), make_split(task, cases=25, seed=2)
    pretraining = make_pretraining(task, labelled=labelled, neighbours=3)
    record = pretraining.run_epoch(val)
    (logits,) = pretraining.predictions.logits.values()
    bank, features = (encode_cases(pretraining.encoder, split, pretraining.autocast) for split in (labelled, val))
    classes = pretraining.classes
    wanted = neighbour_logits(bank, labelled.labels, features, task, classes, 3)
    np.testing.assert_array_equal(logits, wanted.numpy())
    values = evaluate(logits, val.labels.numpy().astype(np.int64), task)
    assert {f"val/{name}": value for name, value in values.items()}.items() <= record.values.items()


@every_method
def test_the_loss_falls(make_pretraining: Pretrainings, method: dict[str, Any]) -> None:
    augment = {"crop": 0.1, "brightness": 0.1, "contrast": 0.1, "blur": 0.0}
    pretraining = make_pretraining(method=method, epochs=8, augment=augment, optimizer={"name": "adamw", "lr": 0.01})
    losses = [record.values["train/loss"] for record in run(pretraining, None)]
    assert all(map(math.isfinite, losses))
    # a queue begins as noise, from which every view is told easily
    first = losses[2] if method.get("queue") else losses[0]
    assert np.mean(losses[-2:]) < 0.95 * first


@every_method
def test_every_weight_moves_and_the_slow_copy_does_not_by_the_optimizer(
    make_pretraining: Pretrainings, method: dict[str, Any]
) -> None:
    pretraining = make_pretraining(method=method)
    trained = {id(parameter) for group in pretraining.optimizer.param_groups for parameter in group["params"]}
    of_method = dict(pretraining.method.named_parameters())
    assert {name for name, parameter in of_method.items() if id(parameter) not in trained} == {
        name for name in of_method if name.startswith("slow.")
    }
    before = state(pretraining)
    pretraining.run_epoch(None)
    after = {name: tensor for name, tensor in state(pretraining).items() if tensor.numel() and "mean" not in name}
    unmoved = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert unmoved <= {"encoder.std", "method.slow.0.std", "method.oldest"}


def test_the_last_epoch_is_that_of_the_configuration_or_of_patience(
    make_pretraining: Pretrainings, make_split: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [record.last for record in run(make_pretraining(epochs=2), None)] == [False, True]
    aurocs = iter([0.8, 0.7, 0.6, 0.9])
    monkeypatch.setattr(loop, "evaluate", lambda *_: {"auroc": next(aurocs)})
    pretraining = make_pretraining(epochs=4, early_stopping={"patience": 2})
    assert len(run(pretraining, make_split())) == 3
    assert pretraining.best is not None and pretraining.best.epoch == 1


# --- randomness


@every_method
def test_the_seed_alone_decides(
    make_pretraining: Pretrainings, make_split: Splits, method: dict[str, Any], global_randomness: Callable[[], bytes]
) -> None:
    before = global_randomness()
    one, again, other = (make_pretraining(method=method, epochs=2, seed=seed) for seed in (0, 0, 1))
    for pretraining in (one, again, other):
        run(pretraining, make_split(seed=1))
    assert global_randomness() == before
    assert numbers(one) == numbers(again) and same(state(one), state(again))
    assert numbers(one) != numbers(other) and not same(state(one), state(other))


def test_validation_changes_nothing_and_draws_nothing(make_pretraining: Pretrainings, make_split: Splits) -> None:
    validated, left_alone = make_pretraining(), make_pretraining()
    run(validated, make_split(seed=1))
    run(left_alone, None)
    assert same(state(validated), state(left_alone))


@every_method
def test_labels_of_the_images_are_never_read(
    make_pretraining: Pretrainings, make_split: Splits, method: dict[str, Any]
) -> None:
    images = make_split()
    blank = replace(images, labels=torch.full((len(images), 3), math.nan))
    one, other = make_pretraining(method=method, images=images), make_pretraining(method=method, images=blank)
    for pretraining in (one, other):
        run(pretraining, make_split(seed=1))
    assert numbers(one) == numbers(other) and same(state(one), state(other))


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own(
    make_pretraining: Pretrainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[list[int]] = []
    batch = DeviceSplit.batch

    def noted(split: DeviceSplit, cases: Tensor | slice) -> tuple[Tensor, Tensor]:
        assert isinstance(cases, Tensor)
        orders[-1].extend(cases.tolist())
        return batch(split, cases)

    monkeypatch.setattr(DeviceSplit, "batch", noted)
    pretraining = make_pretraining(batch_size=16)
    for _ in range(2):
        orders.append([])
        pretraining.run_epoch(None)
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40)) and orders[0] != orders[1]


def test_a_single_image_that_is_left_over_is_skipped(make_pretraining: Pretrainings, make_split: Splits) -> None:
    for cases, expected in [(33, [32, 32]), (34, [32, 32, 4]), (32, [32, 32])]:
        pretraining = make_pretraining(images=make_split(cases=cases), batch_size=16)
        with watched(pretraining) as views:
            record = pretraining.run_epoch(None)
        assert views == expected and math.isfinite(record.values["train/loss"])


# --- divergence


@pytest.mark.parametrize("val", [True, False])
def test_nan_is_a_divergence(make_pretraining: Pretrainings, make_split: Splits, val: bool) -> None:
    pretraining = make_pretraining()
    pretraining.run_epoch(None)
    nn.init.constant_(next(pretraining.encoder.parameters()), math.nan)
    with pytest.raises(Diverged, match="epoch 2: loss nan"):
        pretraining.run_epoch(make_split() if val else None)
    assert pretraining.epoch == 1


@every_method
def test_a_step_too_far_is_a_divergence_although_the_loss_before_it_was_fine(
    make_pretraining: Pretrainings, make_split: Splits, method: dict[str, Any]
) -> None:
    pretraining = make_pretraining(method=method, batch_size=40, optimizer={"name": "sgd", "lr": 1e38})
    with pytest.raises(Diverged, match="epoch 1"):
        pretraining.run_epoch(make_split())
    assert pretraining.records == [] and pretraining.predictions.logits == {}


# --- in parts


@every_method
@pytest.mark.parametrize("micro_batch", [2, 7, 13, 40, 100])
def test_gradients_in_parts_are_those_of_the_whole_batch(
    make_pretraining: Pretrainings, method: dict[str, Any], micro_batch: int
) -> None:
    keys: dict[str, Any] = {"method": method, "batch_size": 40, "optimizer": {"name": "sgd", "lr": 0.01}}
    whole = without_batch_norm(make_pretraining(**keys))
    parts = without_batch_norm(make_pretraining(**keys, micro_batch=micro_batch))
    records = [pretraining.run_epoch(None) for pretraining in (whole, parts)]  # a step, whose gradients stay
    for name in ("train/loss", "train/alignment", "train/uniformity"):
        assert records[1].values[name] == pytest.approx(records[0].values[name], rel=1e-4)
    gradients = [slopes(pretraining) for pretraining in (whole, parts)]
    largest = max(slope.abs().max().item() for slope in gradients[0].values())
    assert largest > 1e-3 and gradients[0].keys() == gradients[1].keys()
    for name, slope in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], slope, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("micro_batch", [None, 16])
def test_every_step_has_gradients_of_its_own(make_pretraining: Pretrainings, micro_batch: int | None) -> None:
    keys: dict[str, Any] = {"batch_size": 40, "augment": SAME, "optimizer": {"name": "sgd", "lr": 1e-30}}
    pretraining = without_batch_norm(make_pretraining(**keys, micro_batch=micro_batch))
    pretraining.run_epoch(None)
    first = {name: slope.clone() for name, slope in slopes(pretraining).items()}
    pretraining.run_epoch(None)  # weights stand still, and the order of a whole batch does not matter
    for name, slope in slopes(pretraining).items():
        torch.testing.assert_close(slope, first[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("micro_batch", [None, 5, 16])
def test_running_statistics_move_once_a_part(make_pretraining: Pretrainings, micro_batch: int | None) -> None:
    """Weights stand still here, so the views of a step can be sent through a twin, once."""
    keys: dict[str, Any] = {"batch_size": 40, "augment": SAME, "optimizer": {"name": "sgd", "lr": 1e-30}}
    pretraining, twin = make_pretraining(**keys, micro_batch=micro_batch), make_pretraining(**keys)
    order = torch.randperm(40, generator=Streams(0, torch.device("cpu")).order)
    images, _ = twin.images.batch(order)
    twin.encoder.train(), twin.method.train()
    with torch.no_grad():
        for part in torch.cat([images, images]).split(2 * (micro_batch or 40)):
            twin.method.embed(twin.encoder(part))
    pretraining.run_epoch(None)
    for moved, expected in zip(norms(pretraining), norms(twin), strict=True):
        torch.testing.assert_close(moved.running_mean, expected.running_mean)
        torch.testing.assert_close(moved.running_var, expected.running_var)
        assert moved.momentum == expected.momentum


def test_micro_batches_are_images_of_two_views(make_pretraining: Pretrainings) -> None:
    pretraining = make_pretraining(batch_size=20, micro_batch=8)
    with watched(pretraining) as views:
        pretraining.run_epoch(None)
    assert views == 4 * [16, 16, 8]  # twice each, of two batches


def test_halved_batches_take_the_steps_of_whole_ones(make_pretraining: Pretrainings) -> None:
    keys: dict[str, Any] = {"batch_size": 20, "optimizer": {"name": "sgd", "lr": 0.01}}
    whole, halved = (without_batch_norm(make_pretraining(**keys)) for _ in range(2))
    halved.halve(2)
    with watched(halved) as views:
        for _ in range(3):
            whole.run_epoch(None), halved.run_epoch(None)
    assert views == 2 * [40] + 2 * 2 * 2 * [20, 20]
    for one, other in zip(whole.encoder.parameters(), halved.encoder.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_halving_begins_with_the_next_epoch_and_halves_micro_batches_too(make_pretraining: Pretrainings) -> None:
    for keys, before, after in [({}, [40, 40], 4 * [20, 20]), ({"micro_batch": 10}, 4 * [20, 20], 4 * [10] * 4)]:
        pretraining = make_pretraining(**keys)
        for expected in (before, after):
            with watched(pretraining) as views:
                pretraining.run_epoch(None)
            assert views == expected
            pretraining.halve()


# --- the rest


def test_batches_are_timed(make_pretraining: Pretrainings) -> None:
    for count, batch_size, images in [(1, 16, 16), (2, 16, 24), (9, 16, 24), (3, 64, 40)]:
        seconds, timed = make_pretraining(batch_size=batch_size).time_batches(count)
        assert seconds > 0 and timed == images


def test_features_in_chunks_are_those_in_one_pass(
    make_pretraining: Pretrainings, make_split: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretraining, split = make_pretraining(), make_split(cases=23)
    pretraining.run_epoch(None)
    whole = encode_cases(pretraining.encoder, split, pretraining.autocast)
    monkeypatch.setattr(loop, "CASES_PER_PASS", 5)
    chunks = encode_cases(pretraining.encoder, split, pretraining.autocast)
    assert whole.shape == (23, pretraining.encoder.width) and whole.dtype == torch.float32 and not whole.requires_grad
    torch.testing.assert_close(chunks, whole, rtol=1e-4, atol=1e-5)


@every_method
def test_bfloat16_and_colours_train_too(
    make_pretraining: Pretrainings, make_split: Splits, method: dict[str, Any]
) -> None:
    split = make_split("multiclass", channels=3)
    pretraining = make_pretraining(
        "multiclass", images=split, labelled=split, method=method, precision="bfloat16", batch_size=20, micro_batch=8
    )
    values = pretraining.run_epoch(make_split("multiclass", channels=3, seed=1)).values
    assert all(map(math.isfinite, values.values()))
    assert all(tensor.dtype != torch.bfloat16 for tensor in state(pretraining).values())


def test_norms_and_biases_decay_where_they_should(make_pretraining: Pretrainings) -> None:
    for decay_norms in (True, False):
        optimizer = {"name": "adamw", "weight_decay": 0.1, "decay_norms": decay_norms}
        groups = make_pretraining(optimizer=optimizer).optimizer.param_groups
        decaying = [parameter.ndim for group in groups if group["weight_decay"] for parameter in group["params"]]
        assert (min(decaying) == 1) == decay_norms
