"""A tracking server that is away, hangs, answers 500, is slow, or does what it is asked and loses the answer.

Whatever it does, it has everything in the end: each run once, each epoch of `epochs.jsonl` once and in order.
"""

import importlib.util
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from medtune.search.folder import SweepFolder
from medtune.tracking import mirror
from medtune.tracking.mirror import drain
from medtune.tracking.packaged import version_tags
from medtune.tracking.spool import Spool, TrialSpool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_spec = importlib.util.spec_from_file_location("faulty_server", Path(__file__).with_name("faulty_server.py"))
faulty_server = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = faulty_server
_spec.loader.exec_module(faulty_server)

TAGS = {"sweep": "tiny", "dataset": "phantom-binary", "size": 28, "git_commit": ""}
SHORT = ("trial.epochs=2", "search.trials=3", "pruning={name: none}")
FILES = {"config.yaml", "epochs.jsonl", "validation.npz", "reliability.png", "roc.png"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with faulty_server.mlflow_server(tmp_path_factory.mktemp("server") / "mlflow") as url:
        yield url


@pytest.fixture
def proxy(server: str) -> Iterator[Any]:
    proxy = faulty_server.Proxy(server)
    yield proxy
    proxy.end()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes and more are those of benchmarks/tracking_faults.py."""
    monkeypatch.setattr(mirror, "PAUSE", 0.02)
    monkeypatch.setattr(mirror, "LONGEST_PAUSE", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


@pytest.fixture
def folder(tiny: Any, proxy: Any, tmp_path: Path) -> SweepFolder:
    return tiny.create(tmp_path / "runs" / "tiny", *SHORT, f"tracking.uri={proxy.url}")


def run(tiny: Any, folder: SweepFolder) -> None:
    tiny.run(tiny.open(folder, TrialSpool(Spool(folder.tracking / "spool.jsonl"), TAGS)))


class Beside:
    """The mirror of a sweep, beside it as long as `with` goes on. `reached`: as drain says."""

    def __init__(self, folder: SweepFolder, patience: float = 60) -> None:
        self.more_to_come = threading.Event()
        self.more_to_come.set()
        self.reached: bool | None = None
        self.thread = threading.Thread(target=self._work, args=(folder, patience), daemon=True)

    def _work(self, folder: SweepFolder, patience: float) -> None:
        self.reached = drain(folder, self.more_to_come, patience)

    def __enter__(self) -> "Beside":
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.more_to_come.clear()
        self.thread.join(120)


def check(server: str, folder: SweepFolder, trials: int = 3) -> int:
    """Each run once, ended, with all that it is to have. How many points there are."""
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("medtune").experiment_id
    found = client.search_runs([experiment], f"tags.`medtune.sweep_id` = '{folder.sweep_id}'", max_results=1000)
    keys = sorted(run.data.tags["medtune.run"] for run in found)
    assert keys == ["sweep", *(f"trial-{number:04d}" for number in range(trials))]
    runs = {run.data.tags["medtune.run"]: run for run in found}
    assert {run.info.status for run in found} == {"FINISHED"}
    assert {file.path for file in client.list_artifacts(runs["sweep"].info.run_id)} == {"sweep.yaml"}
    counted = 0
    for number in range(trials):
        run, records = runs[f"trial-{number:04d}"], folder.epochs(number)
        assert run.data.tags["mlflow.parentRunId"] == runs["sweep"].info.run_id
        assert run.data.params and len(run.inputs.dataset_inputs) == 1
        assert {file.path for file in client.list_artifacts(run.info.run_id)} == FILES
        for name in records[0].keys() - {"epoch", "at"}:
            points = [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run.info.run_id, name)]
            assert points == [(record["epoch"], record[name], int(record["at"] * 1000)) for record in records]
            counted += len(points)
        assert len(client.get_metric_history(run.info.run_id, "best/epoch")) == 1
    return counted


@pytest.mark.parametrize("mode", ["closed", "hanging", "500", "cut"])
def test_away_for_the_whole_sweep_and_back_again(
    mode: str, server: str, proxy: Any, folder: SweepFolder, tiny: Any, record_property: Any
) -> None:
    proxy.mode = "good" if mode == "closed" else mode
    if mode == "closed":
        proxy.close()
    with Beside(folder) as beside:
        run(tiny, folder)
        if mode == "closed":
            proxy.pause(1)
            proxy.open()
        while mode != "closed" and proxy.seen.get(mode, 0) < 2:
            proxy.pause(0.05)
        assert beside.thread.is_alive()
        proxy.mode = "good"
    assert beside.reached
    points = check(server, folder)
    record_property("injected", f"{mode} for a whole sweep of 3 trials")
    record_property("held", f"{points} points once and in order")


def test_slow(server: str, proxy: Any, folder: SweepFolder, tiny: Any, record_property: Any) -> None:
    proxy.mode = 0.3
    with Beside(folder) as beside:
        run(tiny, folder)
    assert beside.reached
    record_property("injected", f"{proxy.seen['0.3']} requests slow by 0.3 s")
    record_property("held", f"{check(server, folder)} points once and in order")


def test_requests_that_go_wrong_at_random(
    server: str, proxy: Any, folder: SweepFolder, tiny: Any, record_property: Any
) -> None:
    """A quarter: answers that are cut although all was done, 500s, and some that never come."""
    proxy.mode = faulty_server.at_random(1, 0.25, ("cut", "cut", "cut", "500", "500", "hanging"))
    with Beside(folder) as beside:
        run(tiny, folder)
    assert beside.reached and proxy.seen["cut"] > 3
    points = check(server, folder)
    record_property("injected", ", ".join(f"{count} {mode}" for mode, count in sorted(proxy.seen.items())))
    record_property("held", f"{points} points once and in order")


def test_a_run_that_a_slow_server_makes_after_all(server: str, proxy: Any, folder: SweepFolder, tiny: Any) -> None:
    """The mirror waits 2 s, asks for the run, finds none and makes another; then the first one appears."""
    late: list[str] = []

    def mode(method: str, path: str) -> Any:
        if path.endswith("runs/create") and len(late) < 2:
            late.append(path)
            return 2.5
        return "good"

    proxy.mode = mode
    with Beside(folder) as beside:
        run(tiny, folder)
        while len(late) < 2:
            proxy.pause(0.05)
        proxy.pause(3)
    assert beside.reached
    check(server, folder)


def test_a_version_whose_making_nobody_heard_of(
    server: str, proxy: Any, finished: SweepFolder, retrain_best: Any, record_property: Any
) -> None:
    cut: set[str] = set()

    def mode(method: str, path: str) -> str:
        asked = path.partition("?")[0]
        first = (method in ("POST", "PUT") and "registered-models" in asked) or "model-versions/" in asked
        if first and asked not in cut:
            cut.add(asked)
            return "cut"
        return "good"

    config = finished.config()
    uri = config.tracking.model_copy(update={"uri": proxy.url})
    finished.write_config(config.model_copy(update={"tracking": uri}))
    (path,) = retrain_best(finished, 1, 1)
    spool, tags = Spool(finished.tracking / "spool.jsonl"), version_tags(path, finished.sweep_id)
    spool.start("sweep", TAGS)
    spool.start("retrain-0", TAGS, parent="sweep")
    name, where = f"model-{finished.sweep_id[:8]}", str(path.relative_to(finished.path))
    spool.register("retrain-0", where, name, tags)
    auroc = {"value": 0.8, "low": 0.7, "high": 0.9}
    spool.promote("retrain-0", where, name, tags, {"auroc": auroc, "looks": 1}, False)
    proxy.mode = mode
    assert drain(finished)
    client = mlflow.MlflowClient(server)
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert client.get_model_version_by_alias(name, "champion").version == version.version
    assert version.tags["medtune.test_auroc"] == "0.800000"
    assert {asked.rpartition("/")[2] for asked in cut} >= {"create", "alias", "set-tag"}
    record_property("injected", f"the answers of {len(cut)} kinds of requests to the registry cut")
    record_property("held", "one version, one champion")


def test_a_real_sweep_without_its_server_and_a_sync_by_hand(
    server: str, proxy: Any, shell: Any, tiny: Any, tmp_path: Path, record_property: Any
) -> None:
    proxy.close()
    sets = [word for override in (*SHORT, f"tracking.uri={proxy.url}") for word in ("--set", override)]
    process = shell.start("sweep", tiny.file, *sets)
    shell.wait_for(lambda: f"waiting until {proxy.url} has everything" in (tmp_path / "err").read_text(), process)
    process.send_signal(signal.SIGINT)  # the sweep has ended: only the waiting does
    code, out, err = shell.finish(process)
    assert code == 0 and "3 complete" in out and "medtune tracking sync runs/tiny" in out
    assert "Traceback" not in err
    code, _, err = shell.finish(shell.start("tracking", "sync", "runs/tiny"))
    assert code == 1 and f"{proxy.url} cannot be reached" in err and "Traceback" not in err
    proxy.open()
    code, out, err = shell.finish(shell.start("tracking", "sync", "runs/tiny"))
    assert code == 0 and out == f"{proxy.url} has everything\n", err
    points = check(server, SweepFolder.open(tmp_path / "runs" / "tiny"))
    record_property("injected", "server down for a whole `medtune sweep`")
    record_property("held", f"3 of 3 trials; {points} points once and in order after `medtune tracking sync`")


def test_ctrl_c_without_an_answer_of_the_server(proxy: Any, shell: Any, tiny: Any, tmp_path: Path) -> None:
    """It must not wait as long as a sweep that has ended does."""
    proxy.mode = "hanging"
    longer = ("trial.epochs=200", "search.trials=3", "pruning={name: none}", f"tracking.uri={proxy.url}")
    process = shell.start("sweep", tiny.file, *[word for override in longer for word in ("--set", override)])
    shell.wait_for(lambda: list((tmp_path / "runs").glob("tiny/trials/*/epochs.jsonl")), process)
    process.send_signal(signal.SIGINT)
    code, out, err = shell.finish(process)
    assert code == 130 and "medtune tracking sync runs/tiny" in out and "waiting until" not in err
