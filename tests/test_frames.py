import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import medtune
from medtune.config.default import swept_values, trial_config
from medtune.evaluation.intervals import auroc_interval
from medtune.evaluation.metrics import evaluate
from medtune.frames import HIGH, LOW, Sweep, load_sweep
from medtune.search.events import TrialStarted, Watcher
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.summary import Summary


@pytest.fixture(scope="module")
def sweep(finished_once: SweepFolder) -> Sweep:
    return load_sweep(finished_once.path)


def bytes_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


class TestImporting:
    def python(self, code: str, *words: str) -> str:
        return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout

    def test_the_package_alone_imports_no_library(self) -> None:
        told = self.python("import sys; before = set(sys.modules); import medtune; print(set(sys.modules) - before)")
        assert not any(name in told for name in ("numpy", "pandas", "torch", "optuna", "medtune."))

    def test_loading_needs_neither_torch_nor_ray_nor_mlflow(self, finished_once: SweepFolder) -> None:
        code = "import sys, medtune; medtune.load_sweep(sys.argv[1]).trials; print(*sorted(sys.modules))"
        modules = self.python(code, str(finished_once.path)).split()
        assert "pandas" in modules and not {"torch", "ray", "mlflow", "medtune.unseal"} & set(modules)

    def test_what_it_offers(self) -> None:
        assert medtune.load_sweep is load_sweep and medtune.Sweep is Sweep
        with pytest.raises(AttributeError, match="has no attribute 'load_swep'"):
            _ = medtune.load_swep  # type: ignore[attr-defined]


class TestTrials:
    def test_a_row_a_trial_with_what_the_ledger_and_the_folder_know(
        self, sweep: Sweep, finished_once: SweepFolder
    ) -> None:
        summary = Summary(finished_once, finished_once.config())
        assert sweep.trials.index.tolist() == sweep.trials["number"].tolist() == [0, 1, 2, 3, 4]
        for entry in summary.entries:
            row, records = sweep.trials.loc[entry.number], finished_once.epochs(entry.number)
            assert (row["state"], row["value"], row["best_epoch"]) == (entry.state, entry.value, entry.best_epoch)
            assert row["epochs"] == len(records) == len(entry.values)
            assert row["seconds"] == pytest.approx(sum(record["epoch_seconds"] for record in records))
            numbers = summary.numbers(entry)
            assert {key: row[key] for key in numbers if key.startswith("val/")} == {
                key: value for key, value in numbers.items() if key.startswith("val/")
            }
            interval = summary.auroc(entry)
            assert interval is not None and (row[LOW], row[HIGH]) == (interval.low, interval.high)

    def test_the_swept_values_are_those_that_the_tracker_saw(self, tiny: Any, tmp_path: Path) -> None:
        seen: dict[int, dict[str, Any]] = {}

        class Seeing(Watcher):
            def trial_started(self, event: TrialStarted) -> None:
                seen[event.number] = event.swept

        folder = tiny.create(tmp_path / "seen", "trial.epochs=1")
        tiny.run(tiny.open(folder, Seeing()))
        sweep = load_sweep(folder.path)
        names = "batch_size model.dropout optimizer.name optimizer.lr optimizer.momentum".split()
        assert sorted(sweep.swept) == sorted(names) and set(seen) == set(sweep.trials.index)
        for number, swept in seen.items():
            row = sweep.trials.loc[number, names]
            assert row.dropna().to_dict() == swept
        scales = {"batch_size": "choice", "model.dropout": "linear", "optimizer.name": "choice"}
        assert sweep.scales == scales | {"optimizer.lr": "log", "optimizer.momentum": "linear"}

    def test_swept_epochs_do_not_hide_how_many_were_trained(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(
            tmp_path / "some", "trial.epochs={choice: [1, 2]}", "search.trials=3", "pruning={name: none}"
        )
        tiny.run(tiny.open(folder))
        sweep = load_sweep(folder.path)
        assert "trial.epochs" in sweep.swept and sweep.scales["trial.epochs"] == "choice"
        assert sweep.trials["trial.epochs"].tolist() == sweep.trials["epochs"].tolist()

    def test_a_cross_validated_trial_has_no_interval(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "folds", "trial.folds=2", "trial.epochs=1", "search.trials=1")
        tiny.run(tiny.open(folder))
        (row,) = load_sweep(folder.path).trials.to_dict("records")
        assert row["val/auroc_std"] >= 0 and np.isnan(row[LOW]) and np.isnan(row[HIGH])


def test_a_row_an_epoch(sweep: Sweep, finished_once: SweepFolder) -> None:
    assert len(sweep.epochs) == sweep.trials["epochs"].sum()
    for number, rows in sweep.epochs.groupby("trial"):
        records = finished_once.epochs(int(number))  # type: ignore[call-overload]
        assert rows["epoch"].tolist() == [record["epoch"] for record in records]
        assert rows["train/loss"].tolist() == [record["train/loss"] for record in records]
        assert rows["at"].iloc[0].timestamp() == pytest.approx(records[0]["at"], abs=1e-3)


class TestPredictions:
    def test_of_the_best_epoch_and_of_another(self, tiny: Any, tmp_path: Path) -> None:
        folder = tiny.create(tmp_path / "learns", "data.train_fraction=1", "search.trials=3", "pruning={name: none}")
        tiny.run(tiny.open(folder))
        sweep = load_sweep(folder.path)
        assert (sweep.trials["best_epoch"] > 1).any()
        for number, row in sweep.trials.iterrows():
            logits, labels = sweep.predictions(int(number))  # type: ignore[call-overload]
            assert logits.shape == (len(labels), 2) and logits.dtype == np.float32
            assert evaluate(logits, labels, sweep.task)["auroc"] == pytest.approx(row["val/auroc"])
            first, _ = sweep.predictions(int(number), 1)  # type: ignore[call-overload]
            value = sweep.epochs.query("trial == @number and epoch == 1")["val/auroc"].item()
            assert evaluate(first, labels, sweep.task)["auroc"] == pytest.approx(value)

    def test_as_probabilities(self, sweep: Sweep) -> None:
        shown, labels = sweep.probabilities(0)
        assert shown.sum(axis=1) == pytest.approx(1) and (labels == sweep.predictions(0)[1]).all()
        assert auroc_interval(shown, labels, sweep.task).low == sweep.trials.loc[0, LOW]

    def test_that_are_not_there(self, sweep: Sweep) -> None:
        with pytest.raises(FolderError, match="trial 77 of .* has left no predictions"):
            sweep.predictions(77)
        with pytest.raises(FolderError, match=r"has kept the predictions of epochs? \[1.*\], not of 9"):
            sweep.predictions(0, 9)


def test_the_best_is_that_of_the_summary(sweep: Sweep, finished_once: SweepFolder) -> None:
    summary = Summary(finished_once, finished_once.config())
    assert summary.best is not None and sweep.best is not None
    assert sweep.best["number"] == summary.best.number and sweep.best_so_far.iloc[-1] == summary.best.value
    assert f"5 trials, best val/auroc {summary.best.value:.3f}" in repr(sweep)
    so_far = [sweep.trials.query("state == 'complete'")["value"].loc[:number].max() for number in range(5)]
    assert sweep.best_so_far.tolist() == so_far  # trial 0 is complete, so that no pruned one is ever the best


def test_the_test_is_none_while_it_is_sealed(finished: SweepFolder) -> None:
    assert load_sweep(finished.path).test is None
    (finished.path / "test.json").write_text(json.dumps({"auroc": {"value": 0.9}}))
    assert load_sweep(finished.path).test == {"auroc": {"value": 0.9}}


def test_importance_is_a_frame_with_reasons(sweep: Sweep) -> None:
    frame = sweep.importance()
    assert set(frame["name"]) == {"batch_size", "model.dropout", "optimizer", "optimizer.lr", "optimizer.momentum"}
    assert frame["importance"].isna().all() and frame["why"].str.contains("at least 10 are needed").all()
    assert (frame["up_to_epoch"] == 1).all()


class TestTheFolder:
    def test_nothing_in_it_changes_and_it_may_be_read_only(self, finished: SweepFolder) -> None:
        before = bytes_of(finished.path)
        for path in (*finished.path.rglob("*"), finished.path):
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
        try:
            sweep = load_sweep(str(finished.path))
            assert len(sweep.trials) == 5 and len(sweep.epochs) and sweep.test is None
            assert bytes_of(finished.path) == before
        finally:
            for path in (finished.path, *finished.path.rglob("*")):
                os.chmod(path, 0o755)

    def test_no_sweep(self, tmp_path: Path) -> None:
        with pytest.raises(FolderError, match="holds no sweep"):
            load_sweep(tmp_path)

    def test_before_anything_has_run(self, tiny: Any, tmp_path: Path) -> None:
        sweep = load_sweep(tiny.create(tmp_path / "tiny").path)
        assert len(sweep.trials) == len(sweep.epochs) == len(sweep.best_so_far) == 0 and sweep.best is None
        assert {"number", "value", "val/auroc", LOW} <= set(sweep.trials) and {"trial", "epoch"} <= set(sweep.epochs)
        assert "0 trials" in repr(sweep) and sweep.importance()["importance"].isna().all()

    @pytest.mark.parametrize("messages", [0, 1, 5])
    def test_of_a_killed_sweep(self, tiny: Any, tmp_path: Path, messages: int) -> None:
        folder = tiny.create(tmp_path / "tiny")
        tiny.run_killed(folder, messages)
        with folder.ledger.open("a") as ledger:
            ledger.write('{"op_code": 4, "wor')  # as far as the driver had come
        sweep = load_sweep(folder.path)
        last = sweep.trials.iloc[-1]
        assert sweep.epochs["epoch"].count() == messages and last["state"] == "unfinished"
        assert pd.isna(last[LOW]) and not pd.isna(last["batch_size"])
        with pytest.raises(FolderError, match="has left no predictions"):
            sweep.predictions(int(last["number"]))

    def test_of_one_killed_while_it_asked_for_a_point(self, tiny: Any, tmp_path: Path, killed_in: Any) -> None:
        from medtune.search import sampler

        folder = tiny.create(tmp_path / "tiny")
        run = tiny.open(folder)
        with killed_in(sampler, "_suggest", call=2):
            run.next_job()
        sweep = load_sweep(folder.path)
        (row,) = sweep.trials.to_dict("records")
        assert row["state"] == "unfinished" and sweep.points == {}

    def test_the_pictures_of_a_folder_of_pictures_need_not_be_there(
        self, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dataclasses import replace

        sweep = load_sweep(finished.path)
        data = sweep.config.data.model_copy(update={"folder": "/not/here"})
        moved = replace(sweep, config=sweep.config.model_copy(update={"data": data}))
        assert moved.task == "binary" and moved.trials[LOW].tolist() == sweep.trials[LOW].tolist()


def test_a_column_is_the_same_as_what_the_point_says(sweep: Sweep) -> None:
    for number, point in sweep.points.items():
        space = sweep.config.trial
        for name, value in swept_values(space, point, trial_config(space, point)).items():
            assert sweep.trials.loc[number, name] == value
