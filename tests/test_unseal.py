import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from medmnist.evaluator import getACC, getAUC

from medtune import unseal as unsealing
from medtune.data.splits import load_sealed_test, load_search_splits
from medtune.evaluation.comparison import auroc_difference
from medtune.evaluation.intervals import auroc_interval
from medtune.evaluation.metrics import evaluate, probabilities
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.unseal import unseal


@pytest.fixture(scope="module")
def retrained_once(
    finished_once: SweepFolder, tmp_path_factory: pytest.TempPathFactory, retrain_best: Any
) -> SweepFolder:
    path = tmp_path_factory.mktemp("retrained") / "tiny"
    shutil.copytree(finished_once.path, path)
    folder = SweepFolder(path)
    retrain_best(folder, 2, 1, with_default=True)
    return folder


@pytest.fixture
def retrained(retrained_once: SweepFolder, tmp_path: Any) -> SweepFolder:
    shutil.copytree(retrained_once.path, tmp_path / "tiny")
    return SweepFolder(tmp_path / "tiny")


def test_numbers_are_those_of_evaluation_on_the_test_split(retrained: SweepFolder) -> None:
    config = retrained.config()
    result = unseal(retrained, config)
    labels = load_sealed_test(config.data).labels
    for index, name in enumerate(["model", "model-1"]):
        with np.load(retrained.retrained / name / "test.npz") as kept:
            logits = kept["logits"]
            np.testing.assert_array_equal(kept["labels"], labels)
        assert logits.dtype == np.float32 and logits.shape == (240, 2)
        plain = evaluate(logits, labels, "binary")
        for metric in ("auroc", "accuracy", "ece"):
            assert result["seeds"][metric]["each"][index] == pytest.approx(plain[metric])
        if index == 0:
            interval = auroc_interval(probabilities(logits, "binary"), labels, "binary")
            assert result["auroc"] == {"value": interval.value, "low": interval.low, "high": interval.high}
            assert (result["brier"], result["nll"]) == (plain["brier"], plain["loss"])
            assert result["ece"]["low"] <= result["ece"]["value"] <= result["ece"]["high"]
    assert result["cases"] == 240 and result["looks"] == 1 and result["model"] == "model"
    assert result["seeds"]["auroc"]["mean"] == pytest.approx(np.mean(result["seeds"]["auroc"]["each"]))
    assert json.loads((retrained.path / "test.json").read_text()) == result


def test_a_class_that_the_test_lacks_is_said(retrained: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    real = unsealing.load_sealed_test

    def poorer(data: Any) -> Any:
        split = real(data)
        return replace(split, labels=np.zeros_like(split.labels))

    monkeypatch.setattr(unsealing, "load_sealed_test", poorer)
    result = unseal(retrained, retrained.config())
    assert result["auroc"]["value"] is None and "no case has class 1" in result["auroc"]["undefined"]
    assert result["seeds"]["auroc"] == {"mean": None, "each": [None, None]} and result["seeds"]["ece"]["mean"] > 0
    assert json.loads((retrained.path / "test.json").read_text()) == result


def test_a_second_look_is_asked_for_counted_and_labelled(retrained: SweepFolder) -> None:
    first = unseal(retrained, retrained.config())
    (retrained.path / "test.json").unlink()  # nobody can take a look back
    with pytest.raises(FolderError, match="opened once already.*--again looks once more"):
        unseal(retrained, retrained.config())
    second = unseal(retrained, retrained.config(), again=True)
    assert (first.pop("looks"), second.pop("looks")) == (1, 2)
    assert (first.pop("label"), second.pop("label")[:38]) == ("first look", "look 2: the test had been opened once ")
    assert first == second
    with pytest.raises(FolderError, match="2 times"):
        unseal(retrained, retrained.config())


def test_beside_it_stands_the_untuned_default_trained_the_same_way(retrained: SweepFolder) -> None:
    result = unseal(retrained, retrained.config())
    logits = {}
    for name in ("model", "default"):
        with np.load(retrained.retrained / name / "test.npz") as kept:
            logits[name], labels = probabilities(kept["logits"], "binary"), kept["labels"]
    assert result["default"]["trial"] == 0
    assert result["default"]["auroc"] == auroc_interval(logits["default"], labels, "binary").as_json()
    wanted = auroc_difference(logits["model"], logits["default"], labels, "binary").as_json()
    assert result["default"]["difference"]["auroc"] == wanted
    assert wanted["value"] == pytest.approx(result["auroc"]["value"] - result["default"]["auroc"]["value"])


def test_the_bootstrap_gives_an_interval_too(retrained: SweepFolder) -> None:
    result = unseal(retrained, retrained.config())
    delong, bootstrap = result["auroc"], result["auroc_bootstrap"]
    assert bootstrap["value"] == delong["value"] and bootstrap["low"] < bootstrap["value"] < bootstrap["high"]
    assert bootstrap["low"] == pytest.approx(delong["low"], abs=0.03)


def test_a_look_that_crashed_is_a_look(retrained: SweepFolder, killed_in: Any) -> None:
    with killed_in(unsealing, "load_sealed_test"):
        unseal(retrained, retrained.config())
    assert unseal(retrained, retrained.config(), again=True)["looks"] == 2


@pytest.mark.parametrize("lacks", ["model-1/model.json", "default/model.json", "model/model.safetensors"])
def test_a_retraining_that_is_not_whole_costs_no_look(retrained: SweepFolder, lacks: str) -> None:
    (retrained.retrained / lacks).unlink()
    with pytest.raises((FolderError, FileNotFoundError)):
        unseal(retrained, retrained.config())
    assert Ledger(retrained, retrained.config()).looks == 0


def test_every_card_has_its_own_numbers(retrained: SweepFolder) -> None:
    result = unseal(retrained, retrained.config())
    for name, value in zip(("model", "model-1"), result["seeds"]["auroc"]["each"], strict=True):
        assert f"{value:.3f} (" in (retrained.retrained / name / "MODEL_CARD.md").read_text()
    default = (retrained.retrained / "default" / "MODEL_CARD.md").read_text()
    assert f"{result['default']['auroc']['value']:.3f} (" in default and "the untuned default of the sweep" in default


def test_without_a_model_the_seal_stays(finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsealing, "load_sealed_test", lambda data: pytest.fail("opened"))
    with pytest.raises(FolderError, match="retrain"):
        unseal(finished, finished.config())
    monkeypatch.undo()


def test_the_official_files_lie_beside_each_model(retrained: SweepFolder) -> None:
    unseal(retrained, retrained.config())
    train, val = load_search_splits(retrained.config().data)
    for name in ("model", "model-1"):
        files = {path.name.split("_")[1]: path for path in (retrained.retrained / name).glob("*.csv")}
        assert files.keys() == {"train", "val", "test"}
        for split, cases in (("train", train), ("val", val)):
            assert len(files[split].read_text().splitlines()) == len(cases)
        with np.load(retrained.retrained / name / "test.npz") as kept:
            wanted = probabilities(kept["logits"], "binary")
            auc, acc = (get(kept["labels"], wanted, "binary-class") for get in (getAUC, getACC))
        assert files["test"].name == f"phantom-binary_test_[AUC]{auc:.3f}_[ACC]{acc:.3f}@{name}.csv"
        read = np.loadtxt(files["test"], delimiter=",")
        np.testing.assert_allclose(read, np.column_stack([np.arange(240), wanted]), rtol=1e-12)


def test_a_new_plan_takes_the_old_numbers_away_and_the_same_one_does_not(
    retrained: SweepFolder, retrain_best: Any
) -> None:
    unseal(retrained, retrained.config())
    retrain_best(retrained, 2, 1, with_default=True)
    assert (retrained.path / "test.json").exists()
    retrain_best(retrained, 1, 1)
    assert not (retrained.path / "test.json").exists()
