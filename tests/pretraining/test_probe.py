"""The linear probe against scikit-learn's own logistic regression on standardised features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medtune.config.trial import ModelConfig, TrialConfig
from medtune.data.batches import DeviceSplit
from medtune.data.folds import stratified_folds
from medtune.evaluation.metrics import evaluate
from medtune.pretraining.loop import encode_cases
from medtune.pretraining.probe import ITERATIONS, STRENGTHS, WITHOUT_CHOICE, Probe, fit
from medtune.task import TASKS, Task
from medtune.training.loop import predict_logits

Splits = Callable[..., DeviceSplit]

CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 3, "multilabel": 4, "ordinal": 3}
every_task = pytest.mark.parametrize("task", TASKS)


def probe(task: Task, train: DeviceSplit, seed: int = 0, **keys: Any) -> Probe:
    config = TrialConfig(model=ModelConfig(name="smallcnn", finetune="probe"), **keys)
    return Probe(config, task, CLASSES[task], train, seed)


def noisy(split: DeviceSplit) -> DeviceSplit:
    """Every fifth label is that of another case, so that a free fit is a bad one."""
    labels = split.labels.clone()
    labels[::5] = labels[::5].roll(1, dims=0)
    return DeviceSplit(split.images, labels)


def known(probe: Probe, split: DeviceSplit) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    features = encode_cases(probe.model, split, probe.autocast).double().numpy()
    return features, split.labels.numpy().astype(np.int64)


def fitted(features: NDArray[np.float64], labels: NDArray[np.int64], strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=ITERATIONS)).fit(features, labels)


def peer(probe: Probe, val: DeviceSplit, strength: float) -> NDArray[np.float64]:
    """Probabilities, (cases, classes), of scikit-learn's regressions: one a label, or one for all classes."""
    features, labels = known(probe, probe.train)
    asked, _ = known(probe, val)
    if labels.ndim == 2:
        return np.stack([fitted(features, one, strength).predict_proba(asked)[:, 1] for one in labels.T], axis=1)
    return fitted(features, labels, strength).predict_proba(asked)


def loss(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    if labels.ndim == 2:
        return float(np.mean([log_loss(one, its) for one, its in zip(labels.T, probabilities.T, strict=True)]))
    return float(log_loss(labels, probabilities))


@every_task
def test_its_probabilities_are_those_of_scikit_learn_for_the_best_c(make_split: Splits, task: Task) -> None:
    train, val = noisy(make_split(task, cases=60)), noisy(make_split(task, cases=50, seed=1))
    trained = probe(task, train)
    record = trained.run_epoch(val)
    logits = trained.predictions.logits[1].astype(np.float64)
    probabilities = expit(logits) if task == "multilabel" else softmax(logits, axis=1)
    np.testing.assert_allclose(probabilities, peer(trained, val, record.values["probe/C"]), atol=2e-4)

    _, labels = known(trained, val)
    losses = {strength: loss(peer(trained, val, strength), labels) for strength in STRENGTHS[::2]}
    losses[record.values["probe/C"]] = record.values["val/loss"]
    assert record.values["probe/C"] == min(losses, key=lambda strength: losses[strength])


def test_two_classes_share_the_log_odds(make_split: Splits) -> None:
    train, val = make_split(cases=60), make_split(cases=50, seed=1)
    trained = probe("binary", train)
    strength = trained.run_epoch(val).values["probe/C"]
    logits = trained.predictions.logits[1]
    asked, _ = known(trained, val)
    odds = fitted(*known(trained, train), strength).decision_function(asked)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], odds, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(logits.sum(axis=1), 0, atol=1e-4)


@every_task
def test_c_is_the_one_with_the_least_loss_on_validation(make_split: Splits, task: Task) -> None:
    train, val = noisy(make_split(task, cases=40)), noisy(make_split(task, cases=40, seed=1))
    trained = probe(task, train)
    told = trained.run_epoch(val).values
    assert told["probe/C"] in STRENGTHS
    fixed = []
    for strength in STRENGTHS[::4]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("medtune.pretraining.probe.STRENGTHS", (strength,))
            values = probe(task, train).run_epoch(val).values
        assert values["probe/C"] == strength
        fixed.append(values["val/loss"])
    assert told["val/loss"] <= min(fixed) + 1e-6 and max(fixed) > told["val/loss"] + 1e-3


@every_task
def test_without_validation_c_is_chosen_out_of_five_folds(make_split: Splits, task: Task) -> None:
    train, val = noisy(make_split(task)), make_split(task, seed=1)
    trained = probe(task, train)
    record = trained.run_epoch(None)
    assert list(record.values) == ["train/loss", "probe/C", "epoch_seconds"] and trained.predictions.logits == {}
    features = encode_cases(trained.model, train, trained.autocast).double().numpy()
    targets, classes = train.labels.numpy().astype(np.int64), trained.classes

    def loss(strength: float) -> float:
        held_out = []
        for fold in stratified_folds(targets, 5):
            rest = np.setdiff1d(np.arange(len(targets)), fold)
            logits = fit(features[rest], targets[rest], task, classes, strength).logits(features[fold])
            held_out.append(evaluate(logits.astype(np.float32), targets[fold], task)["loss"])
        return float(np.mean(held_out))

    assert record.values["probe/C"] == min(STRENGTHS, key=loss)
    logits = predict_logits(trained.model, val, trained.autocast).astype(np.float64)
    probabilities = expit(logits) if task == "multilabel" else softmax(logits, axis=1)
    np.testing.assert_allclose(probabilities, peer(trained, val, record.values["probe/C"]), atol=2e-4)


def test_a_single_case_without_validation_has_the_c_that_is_usual(make_split: Splits) -> None:
    one = make_split("binary").part(torch.tensor([0]))
    assert probe("binary", one).run_epoch(None).values["probe/C"] == WITHOUT_CHOICE == 1


@every_task
def test_only_the_head_changes_and_it_is_what_predicts(
    make_split: Splits, task: Task, global_randomness: Callable[[], bytes]
) -> None:
    train, val = make_split(task), make_split(task, seed=1)
    before = global_randomness()
    trained = probe(task, train)
    weights = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    record = trained.run_epoch(val)
    assert global_randomness() == before
    after = trained.model.state_dict()
    assert {name for name, tensor in weights.items() if not torch.equal(tensor, after[name])} == {
        "head.weight",
        "head.bias",
    }
    np.testing.assert_array_equal(trained.predictions.logits[1], predict_logits(trained.model, val, trained.autocast))
    values = evaluate(trained.predictions.logits[1], val.labels.numpy().astype(np.int64), task)
    assert {f"val/{name}": value for name, value in values.items()}.items() <= record.values.items()


@every_task
def test_its_loss_on_train_is_that_of_the_model(make_split: Splits, task: Task) -> None:
    train = noisy(make_split(task))
    trained = probe(task, train)
    told = trained.run_epoch(make_split(task, seed=1)).values["train/loss"]
    logits = predict_logits(trained.model, train, trained.autocast)
    assert told == pytest.approx(evaluate(logits, train.labels.numpy().astype(np.int64), task)["loss"], rel=1e-3)


def test_it_is_one_epoch_whatever_the_configuration_says(make_split: Splits) -> None:
    trained = probe("binary", make_split(), epochs=7)
    record = trained.run_epoch(make_split(seed=1))
    assert record.epoch == 1 and record.last and trained.finished and trained.best is record
    assert trained.optimizer is None


def test_the_same_seed_is_the_same_probe(make_split: Splits) -> None:
    records = []
    for seed in (0, 0, 1):
        values = probe("multiclass", noisy(make_split("multiclass")), seed).run_epoch(make_split("multiclass", seed=1))
        records.append({name: value for name, value in values.values.items() if name != "epoch_seconds"})
    assert records[0] == records[1] != records[2]


@every_task
def test_a_case_of_each_class_is_enough(make_split: Splits, task: Task) -> None:
    split = make_split(task)
    if task == "multilabel":
        cases = torch.tensor([int((split.labels[:, 0] == value).nonzero()[0]) for value in (0, 1)])
    else:
        cases = torch.arange(CLASSES[task])
    for val in (make_split(task, seed=1), None):
        trained = probe(task, split.part(cases))
        record = trained.run_epoch(val)
        assert np.isfinite(record.values["train/loss"])
        assert np.isfinite(predict_logits(trained.model, split, trained.autocast)).all()


@every_task
def test_classes_without_a_case_are_unlikely_and_not_impossible(make_split: Splits, task: Task) -> None:
    split = make_split(task)
    ones = (split.labels == 1).reshape(len(split), -1).all(dim=1).nonzero().flatten()
    trained = probe(task, split.part(ones))
    trained.run_epoch(make_split(task, seed=1))
    logits = predict_logits(trained.model, split, trained.autocast)
    assert np.isfinite(logits).all()
    assert (logits > 0).all() if task == "multilabel" else (logits.argmax(axis=1) == 1).all()
    assert (logits == logits[0]).all()


def test_two_of_three_classes_are_told_apart_and_the_third_is_unlikely(make_split: Splits) -> None:
    split = make_split("multiclass", cases=60)
    two = (split.labels != 1).nonzero().flatten()
    trained = probe("multiclass", split.part(two))
    trained.run_epoch(None)
    logits = predict_logits(trained.model, split, trained.autocast)[two.numpy()].astype(np.float64)
    shares = softmax(logits, axis=1)
    assert (shares[:, 1] < 0.2).all() and (shares[:, 1] > 0).all()
    assert (logits[:, [0, 2]].argmax(axis=1) * 2 == split.labels[two].numpy()).mean() > 0.8


def test_units_that_never_speak_do_not_disturb_it(make_split: Splits) -> None:
    train = make_split()
    trained = probe("binary", train)
    with torch.no_grad():
        trained.model.get_parameter("backbone.2.norm.weight")[:9] = 0
        trained.model.get_parameter("backbone.2.norm.bias")[:9] = -100
    features, _ = known(trained, train)
    assert (features.std(axis=0) == 0).sum() >= 9
    trained.run_epoch(make_split(seed=1))
    assert np.isfinite(trained.predictions.logits[1]).all()
