"""An evaluation from a sweep's folder: of a trial, and of the retrained model once the test is open."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.evaluate import evaluate
from medtune.frames import load_sweep
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.subjects import Subject, subject_of_test, subject_of_trial
from medtune.unseal import unseal

ALWAYS = (
    "reliability roc pr confusion recalibration operating-points net-benefit epochs mistakes right-and-wrong".split()
)
WITH_THE_MODEL = {"robustness", "grad-cam"}


def say(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def subject(finished_once: SweepFolder, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    path = tmp_path_factory.mktemp("evaluated") / "tiny"
    shutil.copytree(finished_once.path, path)
    folder = SweepFolder(path)
    return subject_of_trial(folder, folder.config())


@pytest.fixture(scope="module")
def found(subject: Subject) -> dict[str, Any]:
    return evaluate(subject, say)


def pictures(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.png")}


class TestOfTheBestTrial:
    def test_its_numbers_are_those_of_its_best_epoch(self, subject: Subject, found: dict[str, Any]) -> None:
        sweep = load_sweep(subject.folder.parents[2])
        assert sweep.best is not None and found["trial"] == sweep.best["number"]
        assert found["discrimination"]["auroc"]["value"] == pytest.approx(sweep.best["val/auroc"])
        assert found["calibration"]["top-label-15-width"]["value"] == pytest.approx(sweep.best["val/ece"])
        assert found["scores"]["nll"]["value"] == pytest.approx(sweep.best["val/loss"])
        assert found["cases"] == len(subject.labels) == len(subject.images) == 120

    def test_the_json_is_all_of_it(self, subject: Subject, found: dict[str, Any]) -> None:
        text = (subject.folder / "evaluation.json").read_text()
        assert json.loads(text) == json.loads(json.dumps(found)) and "NaN" not in text and "Infinity" not in text

    def test_every_figure_is_there(self, subject: Subject, found: dict[str, Any]) -> None:
        assert pictures(subject.folder) >= {*ALWAYS, *WITH_THE_MODEL, "coverage", "label-noise"}

    def test_the_model_is_the_one_that_was_validated(self, found: dict[str, Any]) -> None:
        """Without a corruption it has the AUROC of the saved logits, and one view is one of them."""
        assert found["robustness"]["clean"] == pytest.approx(found["discrimination"]["auroc"]["value"])
        alone = found["uncertainty"]["one model"]
        assert alone["auroc"] == found["discrimination"]["auroc"] and alone["mutual_information"] == pytest.approx(0)
        assert found["uncertainty"]["test-time augmentation"]["members"] == 8

    def test_the_same_again(self, subject: Subject, found: dict[str, Any], tmp_path: Path) -> None:
        assert json.dumps(evaluate(subject, say)) == json.dumps(found)

    def test_after_recalibration_no_case_was_judged_by_a_calibrator_that_saw_it(self, found: dict[str, Any]) -> None:
        after = found["recalibration"]["after"]
        assert set(after) == {"temperature", "vector", "isotonic"} and found["recalibration"]["choice"]["folds"] == 5
        # steps fitted on these very cases would have no error at all in their own bins
        assert after["isotonic"]["ece"]["value"] > 0.01


def test_the_default_is_what_it_is_compared_with(finished: SweepFolder) -> None:
    config = finished.config()
    best = subject_of_trial(finished, config)
    default = subject_of_trial(finished, config, 0)
    assert default.rival is None and best.rival is not None and best.rival.trial == 0 != best.trial
    np.testing.assert_array_equal(best.rival.logits, default.logits)


def test_two_trials_are_compared_case_by_case(finished: SweepFolder) -> None:
    config = finished.config()
    there, back = subject_of_trial(finished, config, 0, 2), subject_of_trial(finished, config, 2, 0)
    found, turned = evaluate(there, say)["against"], evaluate(back, say)["against"]
    assert (found["trial"], turned["trial"]) == (2, 0)
    for name in ("auroc", "accuracy"):
        assert found[name]["value"] == pytest.approx(-turned[name]["value"])
        assert found[name]["p"] == pytest.approx(turned[name]["p"])
    with pytest.raises(FolderError, match="has no trial 9"):
        subject_of_trial(finished, config, 0, 9)


def test_of_a_trial_whose_weights_were_not_kept(finished: SweepFolder) -> None:
    entries = Ledger(finished, finished.config()).entries()
    number = next(entry.number for entry in entries if entry.number not in finished.with_weights())
    subject = subject_of_trial(finished, finished.config(), number)
    found = evaluate(subject, say)
    for part in (found["robustness"], found["grad_cam"], found["uncertainty"]["MC dropout"]):
        assert "keep.weights" in part["undefined"]
    assert not pictures(subject.folder) & WITH_THE_MODEL and pictures(subject.folder) >= set(ALWAYS)


def test_a_trial_that_is_not_there_is_named(finished: SweepFolder) -> None:
    with pytest.raises(FolderError, match="has no trial 9: they are numbered 0 to 4"):
        subject_of_trial(finished, finished.config(), 9)


def test_a_sweep_without_a_value_has_nothing_to_evaluate(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "empty")
    with pytest.raises(FolderError, match="no trial with a value"):
        subject_of_trial(folder, folder.config())


def test_a_running_trial_has_left_nothing_yet(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "killed")
    tiny.run_killed(folder, 1)
    with pytest.raises(FolderError, match="written when a trial ends"):
        subject_of_trial(folder, folder.config(), 0)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "ordinal"])
def test_of_every_task(task: str, tiny: Any, tmp_path: Path) -> None:
    options = (f"data.dataset=phantom-{task}", "trial.epochs=1", "search.trials=2", "pruning={name: none}")
    folder = tiny.create(tmp_path / task, *options)
    tiny.run(tiny.open(folder))
    subject = subject_of_trial(folder, folder.config())
    found = evaluate(subject, say)
    several = {
        f"{name}-{number}" for name in ("operating-points", "net-benefit") for number in range(len(subject.classes))
    }
    assert pictures(subject.folder) >= {*ALWAYS, *several, *WITH_THE_MODEL} - {"operating-points", "net-benefit"}
    assert len(found["discrimination"]["per_class"]) == len(subject.classes)
    assert ("quadratic_kappa" in found["discrimination"]) == (task == "ordinal")


def test_of_a_cross_validated_trial(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "folds", "trial.folds=3", "trial.epochs=1", "search.trials=1")
    tiny.run(tiny.open(folder))
    subject = subject_of_trial(folder, folder.config())
    data = tiny.data(folder.config())
    assert len(subject.images) == len(subject.labels) == len(data.train.labels) + len(data.val.labels)
    np.testing.assert_array_equal(subject.labels, np.concatenate([data.train.labels, data.val.labels]))
    assert "3 models" in subject.without and evaluate(subject, say)["robustness"] == {"undefined": subject.without}


class TestOfTheTest:
    @pytest.mark.parametrize("train_on", ["train", "train+val"])
    def test_it_uses_what_was_chosen_on_validation(
        self, train_on: str, finished: SweepFolder, retrain_best: Any
    ) -> None:
        finished.write_config(finished.config().model_copy(update={"retrain": _retrain(finished, train_on)}))
        config = finished.config()
        retrain_best(finished, 2, 1)
        with pytest.raises(FolderError, match="medtune test .* opens it, and comes first"):
            subject_of_test(finished, config, again=True)
        measured = unseal(finished, config)
        subject = subject_of_test(finished, config, again=True)
        found = evaluate(subject, say)
        assert subject.looks == measured["looks"] + 1 == 2 and found["split"] == "test"
        assert found["discrimination"]["auroc"] == measured["auroc"]
        description = json.loads((finished.retrained / "model" / "model.json").read_text())
        assert found["recalibration"]["decided"] == description["decided"]["calibrator"]
        assert "choice" not in found["recalibration"] and len(found["recalibration"]["after"]) == 1
        assert [one["threshold"] for one in found["operating_points"]] == [
            one["threshold"] for one in description["decided"]["thresholds"]
        ]
        assert found["operating_points"] == measured["operating_points"]
        assert found["uncertainty"]["ensemble of 2"]["members"] == 2
        (after,) = found["recalibration"]["after"].values()
        assert after["nll"]["value"] == pytest.approx(measured["calibrated"]["nll"]["value"])


def _retrain(folder: SweepFolder, train_on: str) -> Any:
    return folder.config().retrain.model_copy(update={"train_on": train_on})
