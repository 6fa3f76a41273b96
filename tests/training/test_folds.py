"""Cross-validation: every case is held out once, the folds go in lockstep, and a checkpoint has all of it."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from medtune.config.trial import TrialConfig
from medtune.data.batches import DeviceSplit, join
from medtune.evaluation.metrics import evaluate
from medtune.training.checkpoint import decode, encode
from medtune.training.folds import CrossValidation
from medtune.training.loop import Training, predict_logits
from medtune.training.progress import AUROC

Splits = Callable[..., DeviceSplit]


def cross_validation(make_split: Splits, task: str = "binary", seed: int = 0, **keys: Any) -> CrossValidation:
    quick = {"epochs": 3, "batch_size": 8, "model": {"name": "smallcnn", "dropout": 0.2}, "folds": 3}
    train, val = make_split(task, cases=30), make_split(task, cases=15, seed=1)
    config = TrialConfig.model_validate(quick | keys)

    def make(part: DeviceSplit, seed: int) -> Training:
        return Training(config, task, 2 if task == "binary" else 4, part, seed)  # type: ignore[arg-type]

    return CrossValidation(make, config, AUROC, join(train, val), seed)


def values(run: CrossValidation) -> list[dict[str, float]]:
    return [{k: v for k, v in record.values.items() if k != "epoch_seconds"} for record in run.records]


def test_every_case_is_held_out_once_by_a_model_that_has_not_seen_it(make_split: Splits) -> None:
    run = cross_validation(make_split)
    assert sorted(np.concatenate(run.cases).tolist()) == list(range(45))
    for training, held_out in zip(run.trainings, run.held_out, strict=True):
        assert training.train.cases is not None and held_out.cases is not None
        seen, left = set(training.train.cases.tolist()), set(held_out.cases.tolist())
        assert not seen & left and len(seen | left) == 45


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_record_has_mean_and_spread_and_the_logits_are_out_of_fold(make_split: Splits, task: str) -> None:
    run = cross_validation(make_split, task)
    record = run.run_epoch(None)
    each = []
    for training, held_out, cases in zip(run.trainings, run.held_out, run.cases, strict=True):
        logits = predict_logits(training.model, held_out, training.autocast)
        np.testing.assert_array_equal(run.predictions.logits[1][cases], logits)
        each.append(evaluate(logits, held_out.labels.numpy().astype(np.int64), task)["loss"])  # type: ignore[arg-type]
    assert record.values["val/loss"] == pytest.approx(np.mean(each))
    assert record.values["val/loss_std"] == pytest.approx(np.std(each, ddof=1))
    both = torch.cat([make_split(task, cases=30).labels, make_split(task, cases=15, seed=1).labels])
    np.testing.assert_array_equal(run.predictions.labels, both.numpy())


def test_the_folds_are_those_of_every_trial_and_their_models_are_not_alike(make_split: Splits) -> None:
    first, second = (cross_validation(make_split, seed=seed) for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first.cases, second.cases, strict=True))
    heads = [training.model.head.weight for run in (first, second) for training in run.trainings]
    assert len({json.dumps(head.tolist()) for head in heads}) == 6


def test_a_cross_validation_goes_on_from_its_checkpoint(make_split: Splits) -> None:
    keys: dict[str, Any] = {"ema": 0.9, "schedule": {"name": "plateau", "patience": 0}}
    whole, resumed = (cross_validation(make_split, **keys) for _ in range(2))
    whole.run_epoch(None)
    resumed.run_epoch(None)
    for _ in range(2):
        other = cross_validation(make_split, **keys)
        decode(encode(resumed).to_bytes(), other)
        resumed = other
        whole.run_epoch(None)
        resumed.run_epoch(None)
    assert whole.finished and values(whole) == values(resumed)
    expected, found = encode(whole).tensors, encode(resumed).tensors
    assert expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert {name.split(".")[1] for name in expected if name.startswith("model.")} == {"0", "1", "2"}


def test_patience_is_that_of_the_mean(make_split: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cross_validation(make_split, epochs=9, early_stopping={"patience": 2})
    advance = run.advance
    aurocs = iter([0.6, 0.7, 0.5, 0.5, 0.9])

    def told(*arguments: Any) -> Any:
        found = advance(*arguments)
        found.values["val/auroc"] = next(aurocs)
        return found

    monkeypatch.setattr(run, "advance", told)
    while not run.finished:
        run.run_epoch(None)
    assert run.epoch == 4 and run.best is not None and run.best.epoch == 2


def test_a_class_that_a_fold_lacks_leaves_the_metric_undefined(make_split: Splits) -> None:
    run = cross_validation(make_split, folds=5)
    for held_out in run.held_out[:1]:
        held_out.labels.zero_()
    values = run.run_epoch(None).values
    assert math.isnan(values["val/auroc"]) and math.isnan(values["val/auroc_std"])
    assert math.isfinite(values["val/loss_std"])
