"""What TensorBoard shows of a sweep: a run for each trial, with its epochs, its hyperparameters and its model's graph.

Written by TensorBoard's own package, because tensorboardX imports torch, for which the driver has no time.
"""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Value
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, create_summary_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from medtune.config.sweep import SweepConfig
from medtune.config.trial import ModelConfig
from medtune.config.yaml_text import load_yaml
from medtune.data.catalogue import describe
from medtune.search.events import EpochEnded, TrialEnded, TrialStarted, Watcher
from medtune.search.folder import SweepFolder

# in the order in which TensorBoard reads them: it leaves a file behind when there is a next one
HPARAMS, EPOCHS, GRAPH = (f"events.out.tfevents.{name}" for name in ("0-hparams", "1-epochs", "2-graph"))
RETRAINED = f"tensorboard/retrain/{EPOCHS}"  # in the folder of a sweep


class EventFiles(Watcher):
    """Writes the events of a sweep into `tensorboard/` of its folder.

    `epochs.jsonl` is the truth: when a trial starts and when it ends, its file is written anew from there, so that no
    kill leaves a point out or twice. The bytes are the same each time, and a TensorBoard that looks on reads on.
    """

    def __init__(self, folder: SweepFolder, config: SweepConfig) -> None:
        self.folder, self.config = folder, config

    def trial_started(self, event: TrialStarted) -> None:
        write_events(self._of(event.number) / HPARAMS, [_hparams(event.swept)])
        self._write_epochs(event.number)

    def epoch_ended(self, event: EpochEnded) -> None:
        append_events(self._of(event.number) / EPOCHS, [scalars(event.epoch, event.at, event.values)])

    def trial_ended(self, event: TrialEnded) -> None:
        self._write_epochs(event.number)

    def closed(self, interrupted: bool) -> None:
        """The graph of each model goes to the first trial that has it; torch, which it takes, is imported only now."""
        for number, model in self._models().items():
            path = self._of(number) / GRAPH
            if not path.exists():
                _try_to_draw(path, model, self.config)

    def _of(self, number: int) -> Path:
        return self.folder.path / "tensorboard" / f"trial-{number:04d}"

    def _write_epochs(self, number: int) -> None:
        known = self.folder.epochs(number)
        values = [{name: record[name] for name in record if name not in ("epoch", "at")} for record in known]
        pairs = zip(known, values, strict=True)
        write_events(self._of(number) / EPOCHS, [scalars(r["epoch"], r["at"], v) for r, v in pairs])

    def _models(self) -> dict[int, ModelConfig]:
        """The first trial of each model, by name: the shape of its input is the same in the whole sweep."""
        first: dict[str, tuple[int, ModelConfig]] = {}
        for number in sorted(int(path.parent.name) for path in self.folder.path.glob("trials/*/config.yaml")):
            written = load_yaml((self.folder.trial(number) / "config.yaml").read_text())
            model = ModelConfig.model_validate(written["model"])
            first.setdefault(model.name, (number, model))
        return dict(first.values())


def scalars(step: int, at: float, values: Mapping[str, float]) -> Event:
    """The numbers of a step. `at`: seconds since 1970."""
    points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return Event(wall_time=at, step=step, summary=Summary(value=points))


def write_events(path: Path, events: Iterable[Event]) -> None:
    """A file of these events alone; where one was, it is overwritten in its place, for whoever reads it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open("r+b") as file:
        writer = RecordWriter(file)
        for event in (Event(file_version="brain.Event:2"), *events):
            writer.write(event.SerializeToString(deterministic=True))
        file.truncate()


def append_events(path: Path, events: Iterable[Event]) -> None:
    """Adds to a file of `write_events`."""
    with path.open("ab") as file:
        for event in events:
            RecordWriter(file).write(event.SerializeToString(deterministic=True))


def _hparams(swept: Mapping[str, Any]) -> Event:
    """What the HPARAMS page lists a trial by; what it was worth, the page takes from its scalars."""
    now = time.time()
    start = SessionStartInfo(start_time_secs=now)
    for name, value in swept.items():
        start.hparams[name].CopyFrom(_value(value))
    metadata = create_summary_metadata(HParamsPluginData(session_start_info=start))
    return Event(wall_time=now, summary=Summary(value=[Summary.Value(tag=SESSION_START_INFO_TAG, metadata=metadata)]))


def _value(value: Any) -> Value:
    if isinstance(value, bool):
        return Value(bool_value=value)
    return Value(number_value=value) if isinstance(value, int | float) else Value(string_value=str(value))


def _try_to_draw(path: Path, model: ModelConfig, config: SweepConfig) -> None:
    try:
        write_events(path, [_graph(model, config)])
    except Exception as error:  # a sweep without this picture is still a sweep
        first_line = (str(error).splitlines() or [""])[0]
        print(f"no graph of {model.name} for TensorBoard: {type(error).__name__}: {first_line}", file=sys.stderr)


def _graph(config: ModelConfig, sweep: SweepConfig) -> Event:
    """The graph of a model with fresh weights, traced on one image."""
    import torch
    from torch.utils.tensorboard._pytorch_graph import graph

    from medtune.models.build import build_model

    info, side = describe(sweep.data), sweep.data.side
    channels = 3 if sweep.data.as_rgb else info.channels
    fresh = config.model_copy(update={"weights": None})
    model = build_model(fresh, channels, len(info.classes), side, torch.Generator().manual_seed(0)).eval()
    # with gradients, torch would find the attention of a transformer changed when it checks what it has traced
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # tracing warns of all that could depend on the values of an image
        traced, _ = graph(model, torch.zeros(1, channels, side, side))
    return Event(wall_time=time.time(), graph_def=traced.SerializeToString())
