import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data

from medtune.cli.verbs import _event_files
from medtune.models import build
from medtune.search.events import Watcher
from medtune.search.folder import SweepFolder
from medtune.tracking.tensorboard import EPOCHS, GRAPH, EventFiles


def watched(tiny: Any, path: Path, *overrides: str) -> SweepFolder:
    return tiny.create(path / "tiny", "search.trials=2", "pruning={name: none}", *overrides)


def files_of(folder: SweepFolder) -> EventFiles:
    return EventFiles(folder, folder.config())


def of_trial(folder: SweepFolder, number: int) -> Path:
    return folder.path / "tensorboard" / f"trial-{number:04d}"


def read(path: Path) -> EventAccumulator:
    return EventAccumulator(str(path)).Reload()


def points(folder: SweepFolder, number: int) -> dict[str, list[tuple[int, float, float]]]:
    """Step, time and value of every point, by tag."""
    events = read(of_trial(folder, number))
    return {tag: [(e.step, e.wall_time, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def in_the_folder(folder: SweepFolder, number: int) -> dict[str, list[tuple[int, float, Any]]]:
    """The same, from epochs.jsonl."""
    found: dict[str, list[tuple[int, float, Any]]] = {}
    for record in folder.epochs(number):
        for name in record.keys() - {"epoch", "at"}:
            value = pytest.approx(record[name], rel=1e-6, nan_ok=True)  # events hold float32
            found.setdefault(name, []).append((record["epoch"], record["at"], value))
    return found


def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventFiles, "closed", lambda self, interrupted: None)


def test_every_number_of_every_epoch_the_swept_values_and_the_graph(tiny: Any, tmp_path: Path) -> None:
    folder = watched(tiny, tmp_path)
    tiny.run(tiny.open(folder, files_of(folder)))
    assert len(points(folder, 0)["val/auroc"]) == 3 and {"train/loss", "lr", "val/ece"} <= points(folder, 0).keys()
    for number in (0, 1):
        assert points(folder, number) == in_the_folder(folder, number)
        metadata = read(of_trial(folder, number)).SummaryMetadata(SESSION_START_INFO_TAG)
        told = parse_session_start_info_plugin_data(metadata.plugin_data.content).hparams
        assert {"batch_size", "model.dropout", "optimizer.name", "optimizer.lr"} <= told.keys()
        assert told["batch_size"].number_value in (16, 32) and told["optimizer.name"].string_value in ("adam", "sgd")
    assert any(
        "conv2d" in node.op.lower() or "convolution" in node.op for node in read(of_trial(folder, 0)).Graph().node
    )
    assert not (of_trial(folder, 1) / GRAPH).exists()  # one model, one graph


@pytest.mark.parametrize("messages", [1, 2, 4])
def test_after_a_kill_no_point_is_there_twice(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: int
) -> None:
    no_graphs(monkeypatch)
    folder = watched(tiny, tmp_path)
    tiny.run_killed(folder, messages, files_of(folder))
    tiny.run(tiny.open(folder, files_of(folder)))
    for number in (0, 1):
        assert points(folder, number) == in_the_folder(folder, number)
        assert [step for step, _, _ in points(folder, number)["val/auroc"]] == [1, 2, 3]


@pytest.mark.parametrize("name", ["append_epoch", "mend_epochs", "write_predictions"])
def test_nor_after_one_between_the_event_and_the_folder(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: Any, name: str
) -> None:
    no_graphs(monkeypatch)
    folder = watched(tiny, tmp_path)
    with killed_in(SweepFolder, name, call=2):
        tiny.run(tiny.open(folder, files_of(folder)))
    tiny.run(tiny.open(folder, files_of(folder)))
    for number in (0, 1):
        assert points(folder, number) == in_the_folder(folder, number)


def test_an_event_that_a_kill_cut_short_or_swallowed_is_there_again(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_graphs(monkeypatch)
    folder = watched(tiny, tmp_path)
    tiny.run_killed(folder, 2, files_of(folder))
    path = of_trial(folder, 0) / EPOCHS
    path.write_bytes(path.read_bytes()[:-7])
    tiny.run(tiny.open(folder, files_of(folder)))
    assert points(folder, 0) == in_the_folder(folder, 0)


def test_a_resumed_sweep_draws_no_graph_again(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = watched(tiny, tmp_path)
    tiny.run(tiny.open(folder, files_of(folder)))
    monkeypatch.setattr(build, "build_model", lambda *_: pytest.fail("drawn again"))
    before = (of_trial(folder, 0) / GRAPH).read_bytes()
    files_of(folder).closed(interrupted=False)
    assert (of_trial(folder, 0) / GRAPH).read_bytes() == before


def test_a_graph_for_each_model_with_the_channels_and_the_side_of_its_images(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, tuple[int, ...]]] = []
    real = torch.jit.trace
    monkeypatch.setattr(
        torch.jit, "trace", lambda model, images, **o: seen.append(tuple(images.shape)) or real(model, images, **o)
    )
    folder = watched(tiny, tmp_path, "data.as_rgb=true", "data.resize=32", "data.size=28")
    for number, name in enumerate(["smallcnn", "resnet18", "smallcnn"]):
        folder.start_trial(number, {"model": {"name": name}})
    files_of(folder).closed(interrupted=False)
    assert seen == [(1, 3, 32, 32)] * 2
    assert [(of_trial(folder, number) / GRAPH).exists() for number in range(3)] == [True, True, False]


def test_a_graph_that_cannot_be_drawn_is_a_line_and_nothing_worse(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        print("noise")
        raise RuntimeError("no such thing\nat all")

    monkeypatch.setattr(torch.jit, "trace", lambda *_, **__: fail())
    folder = watched(tiny, tmp_path, "search.trials=1")
    tiny.run(tiny.open(folder, files_of(folder)))
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1] == "no graph of smallcnn for TensorBoard: RuntimeError: no such thing"
    assert points(folder, 0) == in_the_folder(folder, 0) and not (of_trial(folder, 0) / GRAPH).exists()


def test_nothing_is_written_when_it_is_off(tiny: Any, tmp_path: Path) -> None:
    folder = watched(tiny, tmp_path, "search.trials=1")
    assert _event_files(folder, folder.config()) == []
    config = folder.config()
    on = config.model_copy(update={"tracking": config.tracking.model_copy(update={"tensorboard": True})})
    (files,) = _event_files(folder, on)
    assert isinstance(files, Watcher) and not (folder.path / "tensorboard").exists()


def test_it_keeps_torch_out_of_the_driver_while_trials_run() -> None:
    import subprocess

    code = "import sys, medtune.tracking.tensorboard; sys.exit('torch' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
