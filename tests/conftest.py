"""Sweeps small enough for a test, run in this process: no Ray, no MLflow, some 0.1 s a trial."""

import json
import pickle
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from medtune.config.read import read_sweep
from medtune.config.sweep import SweepConfig
from medtune.data import Split
from medtune.data.batches import DeviceSplit, to_device
from medtune.evaluation.metrics import probabilities
from medtune.retraining.plan import plan_retrain
from medtune.retraining.train import OnEpoch, retrain
from medtune.search.entries import Entry, best_entry
from medtune.search.events import Watcher
from medtune.search.folder import SweepFolder
from medtune.search.launch import in_this_process
from medtune.search.ledger import Ledger
from medtune.search.loading import load_search_data
from medtune.search.pruning import Pruner, build_pruner
from medtune.search.resources import Share
from medtune.search.run import SweepRun
from medtune.search.sweep import JobMaker, longest
from medtune.search.worker import Job, Message, SearchData, run_job
from medtune.select import one_trial
from medtune.task import Task

TINY = """\
sweep: tiny
data: {dataset: phantom-binary, difficulty: 0.3, train_fraction: 0.1}
trial:
  epochs: 3
  batch_size: {choice: [16, 32]}
  model: {name: smallcnn, dropout: {uniform: [0, 0.5]}}
  optimizer:
    choice:
      - {name: adam, lr: {log_uniform: [1.0e-4, 1.0e-2]}}
      - {name: sgd, lr: {log_uniform: [1.0e-3, 0.1]}, momentum: {uniform: [0.5, 0.99]}}
  precision: float32
search: {sampler: random, trials: 5}
pruning: {name: asha, grace_epochs: 1, reduction_factor: 3}
keep: {weights: 2}
"""


class Killed(Exception):
    """The end of a driver that nobody was told of."""


class _Stopped(BaseException):
    """The end of a trial in its worker, as an engine brings it about."""


class TinySweeps:
    """Makes tiny sweeps and runs them."""

    text = TINY

    def __init__(self, where: Path) -> None:
        self.file = where / "tiny.yaml"
        self.file.write_text(TINY)
        self._data: dict[str, SearchData] = {}

    def config(self, *overrides: str, text: str = TINY) -> SweepConfig:
        """The configuration of a text, the tiny sweep unless another is given, with `key=value` overrides."""
        path = self.file.with_name("some.yaml")
        path.write_text(text)
        return read_sweep(path, overrides)

    def create(self, path: Path, *overrides: str) -> SweepFolder:
        folder = SweepFolder.create(path, self.config(*overrides))
        folder.unlock()
        return folder

    def open(self, folder: SweepFolder, *watchers: Watcher, pruner: Pruner | None = None) -> SweepRun:
        """The driver of a folder, as after each start of a sweep."""
        config = folder.config()
        return SweepRun(
            folder,
            config,
            Ledger(folder, config, write=True),
            pruner or build_pruner(config.pruning, config.direction, longest(config.trial)),
            JobMaker(config, Share("cpu", 1, 0.0, 1)),
            watchers,
        )

    def data(self, config: SweepConfig) -> SearchData:
        """What `load_search_data` gives, made once for each kind."""
        key = f"{config.data.model_dump_json()} {config.seed}"
        if key not in self._data:
            self._data[key] = load_search_data(config)
        return self._data[key]

    def run(self, run: SweepRun, messages: int = 10**9) -> None:
        """Runs the jobs one by one; after so many messages the driver is killed, before it has seen the next one."""
        data, left = self.data(run.config), messages

        def report(message: Message) -> None:
            nonlocal left
            if not left:
                raise _Stopped
            left -= 1
            # what goes through an engine is text
            if not run.message(job.trial, json.loads(json.dumps(message))) or run.stopping:
                raise _Stopped

        while (job := run.next_job()) is not None:
            with suppress(_Stopped):
                run_job(Job(**json.loads(json.dumps(asdict(job)))), data, report)
            if not left:
                raise Killed
        run.close()

    def run_killed(self, folder: SweepFolder, messages: int, *watchers: Watcher) -> SweepRun:
        run = self.open(folder, *watchers)
        with pytest.raises(Killed):
            self.run(run, messages)
        return run

    def entries(self, folder: SweepFolder) -> list[Entry]:
        return Ledger(folder, folder.config()).entries()


LEARNT: dict[Task, int] = {"binary": 2, "multiclass": 3, "multilabel": 4, "ordinal": 3}  # classes


def _make_split(
    task: Task = "binary", cases: int = 40, size: int = 16, channels: int = 1, seed: int = 0
) -> DeviceSplit:
    """Noise that is brighter the higher the label, or the more labels, so that there is something to learn."""
    generator = np.random.default_rng(seed)
    if task == "multilabel":
        labels = generator.integers(0, 2, (cases, LEARNT[task]))
    else:
        labels = np.arange(cases) % LEARNT[task]
    brightness = 20 * labels.reshape(cases, -1).sum(axis=1)
    images = generator.integers(0, 170, (cases, size, size, channels)) + brightness[:, None, None, None]
    return to_device(Split(images.astype(np.uint8), labels), "cpu")


@pytest.fixture
def make_split() -> Callable[..., DeviceSplit]:
    """`make_split(task, cases, size, channels, seed)`, all with defaults."""
    return _make_split


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More of them are slower for networks and images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def global_randomness() -> Callable[[], bytes]:
    """`global_randomness()`: the state of torch's, numpy's and python's global generators."""
    return lambda: pickle.dumps((torch.get_rng_state().tolist(), np.random.get_state(), random.getstate()))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinySweeps:
    return TinySweeps(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def finished_once(tiny: TinySweeps, tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """A finished sweep, to be looked at and not touched: five trials, some of them pruned."""
    folder = tiny.create(tmp_path_factory.mktemp("finished") / "runs" / "tiny")
    tiny.run(tiny.open(folder))
    return folder


@pytest.fixture
def finished(finished_once: SweepFolder, tmp_path: Path) -> SweepFolder:
    """A copy of it, to do with as a test likes."""
    shutil.copytree(finished_once.path, tmp_path / "runs" / "tiny")
    return SweepFolder(tmp_path / "runs" / "tiny")


def _best_retrained(
    folder: SweepFolder,
    seeds: int | None = None,
    epochs: int | None = None,
    on_epoch: OnEpoch = lambda piece, record: None,
    with_default: bool = False,
    **changes: Any,
) -> list[Path]:
    config = folder.config()
    best = best_entry(Ledger(folder, config).entries(), config.direction)
    assert best is not None
    chosen = one_trial(folder, config, best.number)
    plan = replace(plan_retrain(folder, config, chosen, seeds, epochs, with_default=with_default), **changes)
    return retrain(folder, config, plan, on_epoch, in_this_process)


@pytest.fixture(scope="session")
def retrain_best() -> Callable[..., list[Path]]:
    """`retrain_best(folder, seeds=None, epochs=None, ...)`: the best complete trial, in this process and, unless asked
    for, without the default beside it; with changes of the plan by name. The folders of the models."""
    return _best_retrained


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray and killed processes keep what they must: short, because of Ray's sockets, and removed."""
    path = Path(tempfile.mkdtemp(prefix="mt-"))
    monkeypatch.setenv("RAY_TMPDIR", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, for this test alone."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "medtune"


@pytest.fixture
def make_pictures(tmp_path: Path) -> Callable[..., Path]:
    """`make_pictures({"a": 4, "b": 5})`: a folder with so many grey PNGs of noise a class, named 0.png and so on."""

    def make(classes: dict[str, int], name: str = "pictures", shape: tuple[int, ...] = (10, 12)) -> Path:
        generator = np.random.default_rng(len(name))
        for label, count in classes.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
        return tmp_path / name

    return make


@pytest.fixture
def killed_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """`with killed_in(owner, name, call=1):` what is in there dies in that call of the function, instead of it."""

    @contextmanager
    def killed(owner: object, name: str, call: int = 1) -> Iterator[None]:
        real, calls = getattr(owner, name), 0

        def cut(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, cut)
            with pytest.raises(KeyboardInterrupt):
                yield

    return killed


CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 7, "multilabel": 5, "ordinal": 4}


def _draw(
    task: Task, cases: int, seed: int, scale: float = 2.0, decimals: int = 6
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits and labels of a calibrated model, with every class there; few decimals make ties."""
    generator = np.random.default_rng(seed)
    classes = CLASSES[task]
    logits = generator.normal(0, scale, (cases, classes)).round(decimals).astype(np.float32)
    true = probabilities(logits, task)
    if task == "multilabel":
        labels = (generator.random(logits.shape) < true).astype(np.int64)
        labels[:2] = [[0] * classes, [1] * classes]
        return logits, labels
    labels = (generator.random((cases, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    labels[:classes] = np.arange(classes)
    return logits, labels


@pytest.fixture
def draw() -> Callable[..., tuple[NDArray[Any], NDArray[Any]]]:
    """`draw(task, cases, seed, scale=2.0, decimals=6)`: logits and labels of a calibrated model."""
    return _draw
