"""What few labels are worth, counted by hand on a tiny sweep over labels."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from medtune import label_efficiency as module
from medtune.config.trial import EncoderConfig, ModelConfig
from medtune.data.splits import load_search_splits
from medtune.evaluation.calibrators import Temperature
from medtune.evaluation.metrics import accuracy, auroc, ece, probabilities
from medtune.evaluation.over_seeds import difference_over_seeds, measured_auroc
from medtune.evaluation.recalibration import cross_fitted
from medtune.label_efficiency import arm_names, label_efficiency, write_found
from medtune.models.build import build_encoder
from medtune.models.pretrained import encoder_in, write_encoder
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.reading import read_ledger
from medtune.training.checkpoint import encode_weights

TEXT = """\
sweep: few
data: {dataset: phantom-binary, difficulty: 0.3, labels: {fraction: {choice: [0.05, 0.2]}, seed: {choice: [3, 1]}}}
trial:
  epochs: 2
  batch_size: 16
  model:
    choice:
      - {name: smallcnn}
      - {name: smallcnn, finetune: probe, weights: WEIGHTS}
      - {name: smallcnn, finetune: probe}
  precision: float32
search: {sampler: grid, trials: 12}
pruning: {name: none}
keep: {weights: 12, last: true}
"""
PROBE, UNTRAINED, SUPERVISED = "linear probe", "probe of an untrained encoder", "supervised"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration errors from fewer draws."""
    real = module.calibration_estimate
    monkeypatch.setattr(module, "calibration_estimate", lambda *given, draws: real(*given, draws=20))


@pytest.fixture(scope="module")
def swept_once(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """Two epochs of each on two parts of the labels, by two draws; the encoder is one of other random weights."""
    path = tmp_path_factory.mktemp("few")
    encoder = build_encoder(EncoderConfig(name="smallcnn"), 1, 28, torch.Generator().manual_seed(5))
    (path / "encoder.safetensors").write_bytes(encode_weights(encoder))
    config = tiny.config(text=TEXT.replace("WEIGHTS", str(path / "encoder.safetensors")))
    folder = SweepFolder.create(path / "few", config)
    folder.unlock()
    tiny.run(tiny.open(folder))
    return folder


@pytest.fixture
def swept(swept_once: SweepFolder, tmp_path: Path) -> SweepFolder:
    """A copy of it, to do with as a test likes."""
    shutil.copytree(swept_once.path, tmp_path / "few")
    return SweepFolder(tmp_path / "few")


def told(folder: SweepFolder, **options: Any) -> tuple[dict[str, Any], list[Any]]:
    return label_efficiency(folder, folder.config(), **options)


def cell_of(found: dict[str, Any], arm: str, fraction: float) -> dict[str, Any]:
    (cell,) = [one for one in found["cells"] if (one["arm"], one["fraction"]) == (arm, fraction)]
    return cell


def logits_of(folder: SweepFolder, trial: int) -> NDArray[Any]:
    kept = folder.predictions(trial)
    assert kept is not None
    return kept["logits"][-1]


@pytest.fixture(scope="module")
def val(swept_once: SweepFolder) -> NDArray[np.int64]:
    return load_search_splits(swept_once.config().data)[1].labels


def test_arms_by_what_they_begin_with_and_what_they_train() -> None:
    encoder = "runs/a/encoder/encoder.safetensors"
    given: dict[str, dict[str, Any]] = {
        PROBE: {"finetune": "probe", "weights": encoder},
        UNTRAINED: {"finetune": "probe"},
        "fine-tuned": {"weights": encoder},
        SUPERVISED: {},
    }
    models = [ModelConfig(name="smallcnn", **keys) for keys in given.values()]
    assert arm_names(models) == list(given)


def test_arms_name_what_there_are_several_of_and_nothing_else(tmp_path: Path) -> None:
    found = []
    for name in "ab":
        write_encoder(tmp_path / name, name.encode(), {"sweep": name})
        found.append(str(encoder_in(tmp_path / name)))
    digests = [Path(path).stem[:6] for path in found]
    models = [
        ModelConfig(name="smallcnn", finetune="probe", weights=found[0]),
        ModelConfig(name="smallcnn", finetune="probe", weights=found[1]),
        ModelConfig(name="resnet18", finetune="probe", weights="imagenet"),
        ModelConfig(name="resnet18", weights="imagenet"),
        ModelConfig(name="resnet18"),
        ModelConfig(name="smallcnn"),
        ModelConfig(name="smallcnn", weights="elsewhere/mine.safetensors"),
        ModelConfig(name="smallcnn", weights="elsewhere/mine.safetensors", finetune="head"),
        ModelConfig(name="smallcnn", weights="elsewhere/mine.safetensors", finetune={"from": "2"}),
    ]
    assert arm_names(models) == [
        f"linear probe, a {digests[0]}",
        f"linear probe, b {digests[1]}",
        "linear probe from ImageNet",
        "fine-tuned from ImageNet",
        "supervised, resnet18",
        "supervised, smallcnn",
        "fine-tuned",
        "fine-tuned, the head alone",
        "fine-tuned, in part",
    ]


def test_what_an_encoder_adds_is_told_of_the_same_network(
    swept_once: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {one["against"] for one in told(swept_once)[0]["differences"]} == {UNTRAINED}
    real = module._told

    def of_another_network(one: Any, shown: Any) -> Any:
        return replace(real(one, shown), network="resnet18") if one.settings.model.weights else real(one, shown)

    monkeypatch.setattr(module, "_told", of_another_network)
    assert told(swept_once)[0]["differences"] == []


def test_a_cell_is_the_mean_of_its_trainings(swept_once: SweepFolder, val: NDArray[np.int64]) -> None:
    found, _ = told(swept_once)
    assert found["arms"] == [PROBE, UNTRAINED, SUPERVISED] and found["fractions"] == [0.05, 0.2]
    assert found["labelled"] == {"0.05": 30, "0.2": 120} and (found["cases"], found["looks"]) == (120, 0)
    assert len(found["cells"]) == 6
    for cell in found["cells"]:
        used = [swept_once.used(trial) for trial in cell["trials"]]
        assert [(one["labels"]["fraction"], one["labels"]["seed"]) for one in used] == [
            (cell["fraction"], 1),
            (cell["fraction"], 3),
        ]
        shown = [probabilities(logits_of(swept_once, trial), "binary") for trial in cell["trials"]]
        for name, metric in (("auroc", auroc), ("accuracy", accuracy), ("ece", ece)):
            assert cell[name]["value"] == pytest.approx(np.mean([metric(one, val, "binary") for one in shown]))
            assert cell[name]["low"] < cell[name]["high"]


def test_the_last_epoch_counts_and_not_the_best(swept: SweepFolder, val: NDArray[np.int64]) -> None:
    trials = cell_of(told(swept)[0], SUPERVISED, 0.2)["trials"]
    perfect = np.stack([-val, val], axis=1).astype(np.float32) * 3
    noise = np.random.default_rng(0).normal(size=perfect.shape).astype(np.float32)
    for trial in trials:
        kept = swept.predictions(trial)
        assert kept is not None and kept["epochs"].tolist() == [1, 2]
        swept.write_predictions(trial, {**kept, "logits": np.stack([perfect, noise])})
    found = cell_of(told(swept)[0], SUPERVISED, 0.2)["auroc"]["value"]
    assert found == pytest.approx(auroc(probabilities(noise, "binary"), val, "binary")) and found < 0.7


def with_states(monkeypatch: pytest.MonkeyPatch, changed: dict[int, str]) -> None:
    """What the ledger says of some trials."""

    def read(*given: Any) -> Any:
        entries, points, looks = read_ledger(*given)
        states = {entry.number: changed.get(entry.number, entry.state) for entry in entries}
        return [replace(entry, state=states[entry.number]) for entry in entries], points, looks

    monkeypatch.setattr(module, "read_ledger", read)


@pytest.mark.parametrize("state", ["pruned", "failed", "unfinished"])
def test_what_has_not_ended_is_left_out(swept_once: SweepFolder, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    first, second = cell_of(told(swept_once)[0], PROBE, 0.05)["trials"]
    with_states(monkeypatch, {first: state})
    assert cell_of(told(swept_once)[0], PROBE, 0.05)["trials"] == [second]


def test_what_an_encoder_adds_is_paired_by_the_draw(
    swept_once: SweepFolder, val: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(trials: list[int]) -> list[Any]:
        return [measured_auroc(probabilities(logits_of(swept_once, one), "binary"), val, "binary") for one in trials]

    found, _ = told(swept_once)
    assert [(one["arm"], one["against"]) for one in found["differences"]] == [(PROBE, UNTRAINED)] * 2
    ours, theirs = (cell_of(found, arm, 0.2)["trials"] for arm in (PROBE, UNTRAINED))
    (difference,) = [one["auroc"] for one in found["differences"] if one["fraction"] == 0.2]
    assert difference == difference_over_seeds(measured(ours), measured(theirs)).as_json()
    assert difference != difference_over_seeds(measured(ours), measured(theirs[::-1])).as_json()
    with_states(monkeypatch, {theirs[0]: "failed"})
    (difference,) = [one["auroc"] for one in told(swept_once)[0]["differences"] if one["fraction"] == 0.2]
    assert difference == difference_over_seeds(measured(ours[1:]), measured(theirs[1:])).as_json()


def test_on_validation_the_temperature_of_a_case_was_fitted_without_it(
    swept_once: SweepFolder, val: NDArray[np.int64]
) -> None:
    found, pooled = told(swept_once)
    assert [one.arm for one in pooled] == found["arms"]
    one = pooled[found["arms"].index(PROBE)]
    cell = cell_of(found, PROBE, one.fraction)
    logits = [logits_of(swept_once, trial) for trial in cell["trials"]]
    apart = [cross_fitted("temperature", each, val, "binary", np.random.default_rng(0)) for each in logits]
    fitted = [Temperature.fit(each, val, "binary") for each in logits]
    np.testing.assert_array_equal(one.after, np.concatenate([each.probabilities for each in apart]))
    np.testing.assert_array_equal(one.before, np.concatenate([probabilities(each, "binary") for each in logits]))
    np.testing.assert_array_equal(one.labels, np.tile(val, 2))
    assert cell["temperatures"] == [each.temperature for each in fitted]
    assert cell["ece_after"]["value"] == pytest.approx(
        np.mean([ece(each.probabilities, val, "binary") for each in apart])
    )
    assert not np.allclose(apart[0].probabilities, fitted[0].apply(logits[0], "binary"))


def test_on_validation_nothing_in_the_folder_changes_until_it_is_written(swept_once: SweepFolder) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        paths = [path for path in swept_once.path.rglob("*") if path.is_file()]
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}

    before = files()
    found, _ = told(swept_once)
    assert files() == before and found["split"] == "val" and found["label"] == ""


def test_what_is_written_is_what_was_found(swept: SweepFolder) -> None:
    found, _ = told(swept)
    path = write_found(swept, found)
    assert path == swept.path / "label-efficiency.json" and json.loads(path.read_text()) == found


def test_a_sweep_with_all_labels_is_refused(finished: SweepFolder) -> None:
    with pytest.raises(FolderError, match=r"with all labels: write data\.labels"):
        told(finished)


def test_so_is_one_of_which_nothing_has_ended(tiny: Any, tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path / "new", tiny.config(text=TEXT.replace("WEIGHTS", "null")))
    folder.unlock()
    with pytest.raises(FolderError, match=r"no trial of .* has ended yet: `medtune resume"):
        told(folder)


def test_and_one_that_lost_its_predictions(swept: SweepFolder) -> None:
    (swept.trial(4) / "validation.npz").unlink()
    with pytest.raises(FolderError, match="no predictions of trial 4: `medtune resume"):
        told(swept)


def test_the_test_needs_the_weights_of_all_and_asks_for_them_before_it_looks(swept: SweepFolder) -> None:
    swept.drop_weights(7)
    with pytest.raises(FolderError, match="has not kept the weights of 1 trials, such as 7: .* last: true"):
        told(swept, test=True)
    assert Ledger(swept, swept.config()).looks == 0


def test_a_look_at_the_test_is_counted_and_a_second_one_asked_for(swept: SweepFolder, val: NDArray[np.int64]) -> None:
    found, pooled = told(swept, test=True)
    assert (found["split"], found["looks"], found["label"], found["cases"]) == ("test", 1, "first look", 240)
    one = pooled[found["arms"].index(PROBE)]
    temperatures = cell_of(found, PROBE, one.fraction)["temperatures"]
    trials = cell_of(found, PROBE, one.fraction)["trials"]
    assert temperatures == [Temperature.fit(logits_of(swept, trial), val, "binary").temperature for trial in trials]
    colder = [
        softmax(np.log(part) / by, axis=1) for part, by in zip(np.split(one.before, 2), temperatures, strict=True)
    ]
    np.testing.assert_allclose(one.after, np.concatenate(colder), atol=1e-6)
    with pytest.raises(FolderError, match="opened once already"):
        told(swept, test=True)
    assert told(swept, test=True, again=True)[0]["label"].startswith("look 2: ")
    assert Ledger(swept, swept.config()).looks == 2


def test_on_the_test_it_is_the_weights_of_the_last_epoch(swept: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    best = {entry.number: entry.best_epoch for entry in Ledger(swept, swept.config()).entries()}
    later = [trial for trial in best if best[trial] != len(swept.epochs(trial))]
    seen: list[Path] = []
    real = module.rebuilt

    def note(weights: Path, *given: Any) -> Any:
        seen.append(weights)
        return real(weights, *given)

    monkeypatch.setattr(module, "rebuilt", note)
    told(swept, test=True)
    last = [swept.trial(trial) / "last" / "model.safetensors" for trial in later]
    assert later and set(last) <= set(seen) and len(seen) == 12
    for path in last:
        path.unlink()  # as without keep.last
    with pytest.raises(FolderError, match=rf"the weights of {len(later)} trials, such as {later[0]}"):
        told(swept, test=True, again=True)
