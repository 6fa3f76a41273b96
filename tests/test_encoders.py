"""Pretraining from its file to the sweeps that begin with its encoder, in this process: no Ray, no server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from medtune.config.problems import ConfigError
from medtune.config.trial import Labels
from medtune.data import DataError, splits
from medtune.data.labelled import labelled_subset
from medtune.data.splits import data_md5
from medtune.encoders import keep_encoder
from medtune.models.pretrained import described, encoder_in, read_encoder, write_encoder
from medtune.replay import compare, replay
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.prepare import prepare
from medtune.search.record import record_in_folder
from medtune.tracking.encoders import alias_of, track_encoder
from medtune.tracking.mirror import drain
from medtune.tracking.registry import fetch_model
from medtune.tracking.spool import SWEEP, Spool

METHODS = (
    "{name: simclr, temperature: {choice: [0.2, 0.5]}}",
    "{name: moco, queue: {choice: [0, 48]}}",
    "{name: vicreg, covariance: {choice: [1, 2]}}",
)
PRETRAIN = """\
sweep: encoder
data: {dataset: phantom-binary, difficulty: 0.3, train_fraction: 0.1, labels: null}
pretrain:
  epochs: 3
  batch_size: 24
  model: {name: smallcnn}
  method: METHOD
  projector: {hidden: 16, features: 8}
  precision: float32
search: {sampler: grid, trials: 2}
pruning: {name: none}
"""
SIMCLR = PRETRAIN.replace("METHOD", METHODS[0])
USE = """\
sweep: use
data: {dataset: phantom-binary, difficulty: 0.3, labels: {fraction: 0.1, seed: {choice: [0, 1]}}}
trial:
  epochs: 2
  model: {choice: [{name: smallcnn, finetune: probe, weights: ENCODER}, {name: smallcnn, finetune: probe}]}
  precision: float32
search: {sampler: grid, trials: 4}
pruning: {name: none}
"""


def pretrained(tiny: Any, path: Path, text: str = SIMCLR, *overrides: str) -> SweepFolder:
    folder = SweepFolder.create(path, tiny.config(*overrides, text=text))
    folder.unlock()
    tiny.run(tiny.open(folder))
    keep_encoder(folder, folder.config())
    return folder


def kept(folder: SweepFolder, trial: int) -> dict[str, Any]:
    """What a trial has left, but for times."""
    records = [{k: v for k, v in one.items() if k not in ("at", "epoch_seconds")} for one in folder.epochs(trial)]
    weights = load_file(folder.trial(trial) / "best" / "model.safetensors")
    return {"epochs": records, "weights": {name: array.tobytes() for name, array in weights.items()}}


@pytest.fixture
def encoder(tiny: Any, tmp_path: Path) -> SweepFolder:
    return pretrained(tiny, tmp_path / "encoder")


@pytest.mark.parametrize("method", METHODS, ids=["simclr", "moco", "vicreg"])
def test_one_that_was_killed_ends_as_if_nothing_had_been(tiny: Any, tmp_path: Path, method: str) -> None:
    text = PRETRAIN.replace("METHOD", method)
    whole = pretrained(tiny, tmp_path / "whole", text)
    cut = SweepFolder.create(tmp_path / "cut", tiny.config(text=text))
    cut.unlock()
    for messages in (1, 2):
        tiny.run_killed(cut, messages)
    tiny.run(tiny.open(cut))
    assert [kept(cut, trial) for trial in range(2)] == [kept(whole, trial) for trial in range(2)]
    assert kept(whole, 0) != kept(whole, 1)


def test_curves_are_those_of_the_loss_of_the_views_and_of_the_knn_probe(encoder: SweepFolder) -> None:
    (first, *_) = encoder.epochs(0)
    expected = {"train/loss", "train/alignment", "train/uniformity", "lr", "epoch_seconds", "epoch", "at"}
    assert set(first) == expected | {f"val/{name}" for name in ("auroc", "accuracy", "loss", "ece", "brier")}
    assert first["train/alignment"] > 0 > first["train/uniformity"]


def test_the_probe_knows_the_labels_that_are_known_and_the_training_none(tiny: Any, tmp_path: Path) -> None:
    all_ = pretrained(tiny, tmp_path / "all", SIMCLR)
    text = SIMCLR.replace("train_fraction: 0.1, labels: null", "labels: {fraction: 0.1}")
    few = pretrained(tiny, tmp_path / "few", text, "pretrain.epochs=1", "search.trials=1")
    told = few.epochs(0)[0]
    assert few.used(0)["labels"] == {"fraction": 0.1, "seed": 0}
    assert len(all_.epochs(0)) == 3 and told["val/auroc"] != all_.epochs(0)[0]["val/auroc"]


def test_a_replay_is_the_same_to_the_last_bit(encoder: SweepFolder) -> None:
    record = record_in_folder(encoder.path, 1)
    assert compare(record, replay(record, lambda epoch, values: None)).identical


def test_the_best_ones_encoder_says_what_it_is_of(tiny: Any, encoder: SweepFolder) -> None:
    told, config = read_encoder(encoder.path / "encoder"), encoder.config()
    best = max(tiny.entries(encoder), key=lambda entry: entry.value)
    assert (told["trial"], told["epoch"], told["data_md5"]) == (best.number, best.best_epoch, data_md5(config.data))
    assert (told["images"], told["probe"]["val/auroc"]) == ("train", best.value)
    weights = load_file(encoder_in(encoder.path))
    assert {name.partition(".")[0] for name in weights} == {"backbone", "mean", "std"}


def test_what_a_kill_parted_is_not_read_as_whole(encoder: SweepFolder) -> None:
    folder = encoder.path / "encoder"
    path = encoder_in(folder)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(DataError, match=r"is not what encoder.json tells of"):
        read_encoder(folder)
    for damaged in ("", "[]", '{"format": 1}', '{"format": 2, "weights": "", "sha256": ""}'):
        (folder / "encoder.json").write_text(damaged)
        with pytest.raises(DataError, match=r"encoder.json is (damaged|of format 2)"):
            read_encoder(folder)


def test_a_better_one_leaves_the_earlier_as_it_was(tiny: Any, tmp_path: Path, encoder: SweepFolder) -> None:
    earlier = encoder_in(encoder.path)
    before = earlier.read_bytes(), described(earlier)
    config = prepare(tiny.config(text=USE.replace("ENCODER", str(encoder.path))), tmp_path)
    write_encoder(encoder.path / "encoder", b"better", {"trial": 7})
    assert encoder_in(encoder.path) != earlier and read_encoder(encoder.path / "encoder")["trial"] == 7
    assert (earlier.read_bytes(), described(earlier)) == before
    assert config.trial["model"].options[0]["weights"] == str(earlier)


def test_without_the_weights_of_the_best_there_is_none(tiny: Any, tmp_path: Path) -> None:
    folder = pretrained(tiny, tmp_path / "none", SIMCLR, "keep.weights=0")
    assert keep_encoder(folder, folder.config()) is None and not (folder.path / "encoder").exists()


@pytest.mark.parametrize("below", ["", "encoder", "file"])
def test_a_sweep_begins_with_it(tiny: Any, tmp_path: Path, encoder: SweepFolder, below: str) -> None:
    where = encoder_in(encoder.path) if below == "file" else encoder.path / below
    config = prepare(tiny.config(text=USE.replace("ENCODER", str(where))), tmp_path)
    folder = SweepFolder.create(tmp_path / "use", config)
    folder.unlock()
    tiny.run(tiny.open(folder))
    given, found = load_file(encoder_in(encoder.path)), {}
    for trial in range(4):
        used = folder.used(trial)
        weights = load_file(folder.trial(trial) / "best" / "model.safetensors")
        found[used["model"]["weights"] is not None, used["labels"]["seed"]] = weights
        assert len(folder.epochs(trial)) == 1  # the probe is solved, and not trained by epochs
    for seed in (0, 1):
        assert all(np.array_equal(given[name], found[True, seed][name]) for name in given)
        assert not np.array_equal(given["backbone.0.conv.weight"], found[False, seed]["backbone.0.conv.weight"])


def test_another_network_is_refused_before_anything_runs(tiny: Any, tmp_path: Path, encoder: SweepFolder) -> None:
    text = USE.replace("ENCODER", str(encoder.path))
    for wrong in ("{name: resnet18,", "{name: smallcnn, skip: false,"):
        with pytest.raises(ConfigError, match=r"trial\.model\.weights: .* is of \{name: smallcnn, skip: true\}; write"):
            prepare(tiny.config(text=text.replace("{name: smallcnn,", wrong, 1)), tmp_path)
    with pytest.raises(DataError, match="is in a registry"):
        prepare(tiny.config(text=USE.replace("ENCODER", "models:/medtune-encoder-x@md5-1")), tmp_path)
    with pytest.raises(DataError, match="or a folder that `medtune pretrain` made"):
        prepare(tiny.config(text=USE.replace("ENCODER", str(tmp_path))), tmp_path)


def test_validation_is_seen_only_when_it_is_asked_for_and_then_it_is_said(
    tiny: Any, tmp_path: Path, encoder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tiny.config(text=USE.replace("ENCODER", str(encoder.path))), tmp_path)
    assert "validation" not in capsys.readouterr().err
    seen = pretrained(tiny, tmp_path / "seen", SIMCLR, "pretrain.images=train+val")
    assert read_encoder(seen.path / "encoder")["images"] == "train+val"
    assert kept(seen, 0)["weights"] != kept(encoder, 0)["weights"]
    prepare(tiny.config(text=USE.replace("ENCODER", str(seen.path))), tmp_path)
    assert "was pretrained on the validation images too" in capsys.readouterr().err
    text = SIMCLR.replace("{name: smallcnn}", f"{{name: smallcnn, weights: {encoder_in(seen.path)}}}")
    gone_on = pretrained(tiny, tmp_path / "on", text, "search.trials=1", "pretrain.epochs=1")
    assert read_encoder(gone_on.path / "encoder")["images"] == "train+val"


def test_the_test_images_take_no_part(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], splits.make_phantom

    def noted(*arguments: Any) -> Any:
        made.extend(argument for argument in arguments if argument in ("train", "val", "test"))
        return real(*arguments)

    monkeypatch.setattr(splits, "make_phantom", noted)
    text = SIMCLR.replace("difficulty: 0.3", "difficulty: 0.37")
    pretrained(tiny, tmp_path / "sealed", text, "pretrain.images=train+val")
    assert set(made) == {"train", "val"}


def test_it_is_registered_by_the_md5_of_the_data(
    tiny: Any, tmp_path: Path, encoder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_: tmp_path / "cache")
    spool, folder = Spool(encoder.tracking / "spool.jsonl"), encoder.path / "encoder"
    spool.start(SWEEP, {"sweep": "encoder"})

    class OfTest:
        pass

    tracker: Any = OfTest()
    tracker.spool = spool
    for _ in range(2):  # as after a kill
        track_encoder(tracker, encoder, folder)
        assert drain(encoder)
    address = f"models:/medtune-encoder-phantom-binary@{alias_of(data_md5(encoder.config().data))}"
    fetched = fetch_model(address, str(tmp_path))
    assert read_encoder(fetched) == read_encoder(folder)
    told = json.loads((encoder.tracking / "registry.json").read_text())
    assert (told["name"], told["version"]) == ("medtune-encoder-phantom-binary", 1)
    config = prepare(tiny.config(text=USE.replace("ENCODER", address)), tmp_path, fetch_model=lambda given: fetched)
    assert str(config.trial["model"].options[0]["weights"]).startswith(str(tmp_path / "cache"))


def test_verbs_of_trials_are_refused(encoder: SweepFolder) -> None:
    said = _medtune(encoder.path.parent, "select", str(encoder.path))
    assert said.returncode == 2 and "holds a pretraining: its encoder classifies nothing by itself" in said.stderr
    with pytest.raises(FolderError, match=r"begin a sweep with it, by trial\.model\.weights"):
        encoder.config_of_trials()


def test_each_kind_of_file_has_its_verb(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    for verb, other, text in (
        ("sweep", "pretrain", SIMCLR),
        ("pretrain", "sweep", "sweep: a\n"),
    ):
        file.write_text(text)
        said = _medtune(tmp_path, verb, str(file))
        assert said.returncode == 2 and f"this is a file for `medtune {other}`" in said.stderr
    assert not (tmp_path / "runs").exists()


def _medtune(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medtune", *arguments]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def test_few_labels_are_those_of_the_draw(tiny: Any) -> None:
    config = tiny.config(text=USE)
    splits_ = tiny.data(config).on_device("cpu")
    for seed in (0, 1):
        known = labelled_subset(splits_.train.labels.numpy(), 0.1, seed)
        part = splits_.fitted("train", Labels(fraction=0.1, seed=seed))
        both = splits_.fitted("train+val", Labels(fraction=0.1, seed=seed))
        assert part.cases is not None and part.cases.tolist() == known.tolist()
        assert len(both) == len(known) + len(splits_.val)
