import json
from pathlib import Path
from typing import Any

import pytest

from medtune.cli.text import summary_lines
from medtune.evaluation.metrics import evaluate
from medtune.search.folder import SweepFolder
from medtune.search.summary import Summary


def test_of_a_finished_sweep(tiny: Any, finished_once: SweepFolder) -> None:
    summary = Summary(finished_once, finished_once.config())
    assert sum(summary.counts.values()) == 5 and summary.counts["pruned"] and not summary.counts["unfinished"]
    complete = [entry for entry in summary.entries if entry.state == "complete"]
    assert summary.best is max(complete, key=lambda entry: entry.value)
    told = json.loads(json.dumps(summary.as_json()))
    assert told["sweep"] == "tiny" and told["folder"] == str(finished_once.path)
    assert told["trials"] == summary.counts
    assert told["best"]["trial"] == summary.best.number and told["best"]["val/auroc"] == summary.best.value
    assert told["default"]["trial"] == 0 and {"val/ece", "val/loss", "val/accuracy", "epoch"} <= told["best"].keys()
    assert told["best"]["val/auroc/low"] < told["best"]["val/auroc"] < told["best"]["val/auroc/high"]


def test_its_numbers_are_those_of_the_kept_predictions(finished_once: SweepFolder) -> None:
    summary = Summary(finished_once, finished_once.config())
    for entry in summary.entries:
        numbers, predictions = summary.numbers(entry), finished_once.predictions(entry.number)
        logits = predictions["logits"][predictions["epochs"].tolist().index(entry.best_epoch)]
        for name, value in evaluate(logits, predictions["labels"], "binary").items():
            assert numbers[f"val/{name}"] == pytest.approx(value)
        assert summary.auroc(entry).value == pytest.approx(entry.value)


def test_before_anything_has_run(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "tiny")
    summary = Summary(folder, folder.config())
    assert summary.as_json()["best"] is None and summary.as_json()["default"] is None
    assert summary.counts == {"complete": 0, "pruned": 0, "failed": 0, "unfinished": 0}
    assert summary.auroc(None) is None


def test_while_the_first_trial_runs(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "tiny")
    tiny.run_killed(folder, 1)
    summary = Summary(folder, folder.config())
    assert summary.counts["unfinished"] == 1 and summary.best.number == 0
    assert summary.as_json()["best"]["epoch"] == 1 and summary.auroc(summary.best) is None


def test_a_best_trial_that_breaks_a_constraint_is_said_to(tiny: Any, finished: SweepFolder) -> None:
    def summary(limits: str) -> Summary:
        return Summary(finished, tiny.config(f"search.constraints={limits}"))

    numbers = summary("{}").numbers(summary("{}").best)
    free, kept, broken = (
        summary(limits) for limits in ("{}", "{val/ece: {max: 1}}", "{val/ece: {max: 0}, val/brier: {max: 0}}")
    )
    assert "feasible" not in free.as_json()["best"] and free.broken(free.best) == []
    assert kept.as_json()["best"]["feasible"] is True and kept.broken(kept.best) == []
    assert broken.as_json()["best"]["feasible"] is False
    expected = [f"{name} {numbers[name]:.3g} is not at most 0" for name in ("val/ece", "val/brier")]
    assert broken.broken(broken.best) == expected
    assert any("breaks a constraint" in line and expected[0] in line for line in summary_lines(broken))
    assert not any("breaks" in line for line in summary_lines(kept))
    assert broken.broken(None) == []
