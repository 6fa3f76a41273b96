import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtune.search.folder import SweepFolder
from medtune.search.record import record_in_folder

Call = Callable[..., tuple[int, str, str]]


def change_a_number(folder: SweepFolder) -> None:
    """Of trial 0: its AUROC after epoch 2."""
    path = folder.trial(0) / "epochs.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[1]["val/auroc"] = 0.123456789
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_trial_is_trained_again(medtune: Call, finished_once: SweepFolder) -> None:
    code, out, err = medtune("replay", finished_once.path, 0)
    assert code == 0 and "epoch 3 of 3: train/loss " in err and ", on cpu with 1 thread" in err
    header, epochs, best, auroc, *_ = (line.split() for line in out.splitlines())
    assert header == ["recorded", "replayed"] and epochs == ["epochs", "3", "3"]
    assert best[-1] == best[-2] and auroc[0] == "val/auroc" and auroc[1] == auroc[2] != "none"
    assert "identical" not in out


def test_and_the_same_to_the_last_bit(medtune: Call, finished_once: SweepFolder) -> None:
    code, out, _ = medtune("replay", finished_once.path, 0, "--verify", "--json")
    told = json.loads(out)
    assert code == 0 and (told["trial"], told["epochs"], told["identical"], told["differences"]) == (0, 3, True, [])
    best = next(line for line in finished_once.epochs(0) if line["epoch"] == told["best"]["epoch"])
    assert told["best"]["val/auroc"] == best["val/auroc"] == max(e["val/auroc"] for e in finished_once.epochs(0))
    assert "train/loss" not in told["best"]
    _, out, _ = medtune("replay", finished_once.path, 0, "--verify")
    assert out.splitlines()[-1] == "identical to the last bit: 3 epochs, 21 numbers, logits of 3 epochs"


def test_what_differs_is_said_and_why_it_may(medtune: Call, finished: SweepFolder) -> None:
    change_a_number(finished)
    path = finished.trial(0) / "config.yaml"
    torch = record_in_folder(finished.path, 0).used.versions["torch"]
    path.write_text(path.read_text().replace(f"torch: {torch}", "torch: 1.0.0"))
    code, out, _ = medtune("replay", finished.path, 0, "--verify")
    first, in_all, because = out.splitlines()[-3:]
    assert code == 1
    assert first.startswith("differs first in epoch 2, val/auroc: 0.123456789 recorded, 0.")
    assert in_all.startswith("in all   1 of 21 numbers, most in epoch 2: val/auroc: 0.123456789 recorded, ")
    assert because == f"because  torch: 1.0.0 -> {torch}"
    code, out, _ = medtune("replay", finished.path, 0, "--verify", "--json")
    told = json.loads(out)
    assert code == 1 and told["identical"] is False and told["reasons"] == [f"torch: 1.0.0 -> {torch}"]
    (one,) = told["differences"]
    assert one.pop("replayed") < 1 and one == {"epoch": 2, "metric": "val/auroc", "recorded": 0.123456789}


def test_without_verify_nothing_is_compared(medtune: Call, finished: SweepFolder) -> None:
    change_a_number(finished)
    code, out, _ = medtune("replay", finished.path, 0, "--json")
    assert code == 0 and json.loads(out)["identical"] is None


def test_another_device_is_said(medtune: Call, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = finished.trial(0) / "config.yaml"
    path.write_text(path.read_text().replace("device: cpu", "device: cuda"))
    monkeypatch.setattr("medtune.replay.detect_device", lambda: "cpu")
    code, out, err = medtune("replay", finished.path, 0, "--verify")
    assert code == 0 and "it was trained on cuda, which is not here" in err
    assert out.splitlines()[-1].startswith("identical to the last bit: ")


def test_a_training_that_fails(medtune: Call, finished: SweepFolder) -> None:
    path = finished.trial(0) / "config.yaml"
    lr = record_in_folder(finished.path, 0).used.optimizer.lr
    path.write_text(path.read_text().replace(f"lr: {lr}\n", "lr: 1000000000.0\n"))
    code, out, err = medtune("replay", finished.path, 0)
    assert (code, out) == (1, "") and "diverged in epoch 1" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["FOLDER", 9], "has no trial 9: they are numbered 0 to 4"),
        (["FOLDER"], "so this is no trial; give a trial's number"),
        (["nowhere", 0], "nowhere holds no sweep"),
        (["runs:/0123"], "there is no runs/mlflow.db here: say with --tracking"),
        (["runs:/0123", 3], "a run is of one trial"),
    ],
)
def test_what_is_not_there_is_one_line(
    medtune: Call, finished_once: SweepFolder, tmp_path: Path, monkeypatch: Any, arguments: list[Any], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, out, err = medtune("replay", *(finished_once.path if a == "FOLDER" else a for a in arguments))
    assert (code, out) == (2, "") and why in err.replace("\n", " ")
