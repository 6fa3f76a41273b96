"""A real server with users on a real PostgreSQL: a sweep into it, who may not, an outage, and a backup."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import requests
from mlflow.entities import Metric, Param, RunTag

from medtune.retraining.plan import plan_retrain
from medtune.search.events import EpochEnded, Watcher
from medtune.search.folder import SweepFolder
from medtune.search.launch import in_this_process
from medtune.select import one_trial
from medtune.tracking import mirror, retrained
from medtune.tracking.mirror import drain
from medtune.tracking.refusals import Refused
from medtune.tracking.spool import Spool, TrialSpool
from medtune.tracking.tracker import Tracker
from mlflow_server.settings import SECRETS, read_env

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.usefixtures("postgres_is_here")]

FILES = {"config.yaml", "epochs.jsonl", "validation.npz", "reliability.png", "roc.png"}
SHORT = ("trial.epochs=2", "search.trials=3", "pruning={name: none}")
ALL_OF_THEM = bool(os.environ.get("MEDTUNE_ALL_FAULTS"))
AWAY = 120 if ALL_OF_THEM else 1  # seconds that the server is away, beside those that it takes to start

FOUR_AT_ONCE = """
import functools, os
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
import ray
ray.init = functools.partial(ray.init, num_cpus=4)
from medtune.cli import main
main()
"""


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "PAUSE", 0.05)
    monkeypatch.setattr(mirror, "LONGEST_PAUSE", 1.0)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture
def make(tiny: Any, server: Any, tmp_path: Path) -> Callable[..., SweepFolder]:
    return lambda *overrides: tiny.create(tmp_path / "runs" / "tiny", f"tracking.uri={server.url}", *overrides)


@pytest.fixture
def spooled(tiny: Any, make: Callable[..., SweepFolder]) -> SweepFolder:
    """A short sweep that waits in its spool."""
    folder = make("trial.epochs=1", "search.trials=1")
    tiny.run(tiny.open(folder, TrialSpool(Spool(folder.tracking / "spool.jsonl"), {})))
    return folder


def runs(client: mlflow.MlflowClient, folder: SweepFolder) -> dict[str, Any]:
    """All runs of a sweep by our keys, each once."""
    experiment = client.get_experiment_by_name("medtune")
    only = f"tags.`medtune.sweep_id` = '{folder.sweep_id}'"
    found = client.search_runs([experiment.experiment_id], only, max_results=1000) if experiment else []
    keyed = {run.data.tags["medtune.run"]: run for run in found}
    assert len(keyed) == len(found)
    return keyed


def run_id(client: mlflow.MlflowClient, folder: SweepFolder, key: str) -> str:
    return str(runs(client, folder)[key].info.run_id)


def check(client: mlflow.MlflowClient, folder: SweepFolder, trials: int) -> None:
    """Each run once, ended, with every point of `epochs.jsonl` in order and all files."""
    found = runs(client, folder)
    assert {"sweep", *(f"trial-{number:04d}" for number in range(trials))} <= found.keys()
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for number in range(trials):
        run, records = found[f"trial-{number:04d}"].info.run_id, folder.epochs(number)
        assert {file.path for file in client.list_artifacts(run)} == FILES
        for name in records[0].keys() - {"epoch", "at"}:
            points = [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run, name)]
            assert points == [(record["epoch"], record[name], int(record["at"] * 1000)) for record in records]


def test_a_sweep_with_four_trials_at_once_and_a_model(
    server: Any, make: Any, tiny: Any, ray_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server.be("sweeps", monkeypatch)
    sets = ["trial.epochs=12", "search.trials=4", "pruning={name: none}", f"tracking.uri={server.url}"]
    command = [sys.executable, "-c", FOUR_AT_ONCE, "sweep", str(tiny.file), "--folder", str(tmp_path / "four")]
    done = subprocess.run(
        [*command, *(word for one in sets for word in ("--set", one))],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "UV"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "4 complete" in done.stdout and "was not reached" not in done.stdout, done.stderr
    folder = SweepFolder.open(tmp_path / "four")
    spool = (folder.tracking / "spool.jsonl").read_text().splitlines()
    first_end = next(number for number, line in enumerate(spool) if '"do": "end"' in line)
    assert sum('"do": "start"' in line and "trial-" in line for line in spool[:first_end]) == 4
    check(client, folder, 4)
    retrain_and_register(folder, monkeypatch)
    assert runs(client, folder)["retrain-0"].info.status == "FINISHED"
    (version,) = client.search_model_versions(f"run_id = '{runs(client, folder)['retrain-0'].info.run_id}'")
    assert client.get_model_version_by_alias(version.name, "champion").version == version.version


def retrain_and_register(folder: SweepFolder, patch: pytest.MonkeyPatch) -> None:
    class InThisProcess(Tracker):
        def __enter__(self) -> "InThisProcess":
            return self

        def __exit__(self, *_: Any) -> None:
            assert drain(self.folder)

    patch.setattr(retrained, "Tracker", InThisProcess)
    config = folder.config()
    plan = plan_retrain(folder, config, one_trial(folder, config, 0), 1, 1)
    retrained.retrain_tracked(folder, config, plan, lambda line: None, in_this_process)
    retrained.test_tracked(folder, config, again=False)


class TestWhoMayNot:
    """The mirror ends with one line, and what it has not carried over it carries over later."""

    @pytest.mark.parametrize(
        ("user", "password", "told"),
        [
            ("sweeps", "no such password", "does not know the user sweeps with this password: check MLFLOW_TRACKING_"),
            ("nobody", "no such password", "does not know the user nobody with this password"),
            ("reader", None, "lets the user reader write nothing: be one who may, in MLFLOW_TRACKING_USERNAME"),
        ],
    )
    def test_is_told(
        self, user: str, password: str | None, told: str, server: Any, spooled: SweepFolder, monkeypatch: Any
    ) -> None:
        client = server.be("sweeps", monkeypatch)
        server.be(user, monkeypatch, password)
        with pytest.raises(Refused, match=f"^{server.url} {told}"):
            drain(spooled)
        server.be("sweeps", monkeypatch)
        assert runs(client, spooled) == {}
        assert drain(spooled)
        check(client, spooled, 1)

    def test_without_a_user(self, server: Any, spooled: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(Refused, match="wants a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
            drain(spooled)

    def test_a_name_that_is_not_the_servers(self, server: Any, spooled: SweepFolder, monkeypatch: Any) -> None:
        server.be("sweeps", monkeypatch)
        config = spooled.config()
        other = config.tracking.model_copy(update={"uri": f"http://127.1:{server.port}"})  # the same address
        spooled.write_config(config.model_copy(update={"tracking": other}))
        with pytest.raises(Refused, match="does not answer to this name: write another in tracking.uri"):
            drain(spooled)

    @pytest.mark.parametrize("page", ["/", "/api/2.0/mlflow/experiments/search?max_results=1", "/ajax-api/2.0/mlflow"])
    def test_a_forged_host(self, page: str, server: Any) -> None:
        request = urllib.request.Request(server.url + page, headers={"Host": "evil.example.org"})
        with pytest.raises(urllib.error.HTTPError) as answered:
            urllib.request.urlopen(request, timeout=20)
        assert answered.value.code == 403 and b"Invalid Host" in answered.value.read()

    def test_a_reader_reads_and_does_nothing_else(
        self, server: Any, spooled: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = server.be("sweeps", monkeypatch)
        assert drain(spooled)
        run = runs(writer, spooled)["trial-0000"]
        id_, experiment = run.info.run_id, run.info.experiment_id
        writer.create_registered_model(f"model-{id_[:8]}")
        file = tmp_path / "file"
        file.write_text("text")
        reader = server.be("reader", monkeypatch)
        check(reader, spooled, 1)
        assert reader.get_registered_model(f"model-{id_[:8]}") and reader.download_artifacts(id_, "config.yaml")
        writes: list[Callable[[], Any]] = [
            lambda: reader.create_experiment("another"),
            lambda: reader.set_experiment_tag(experiment, "a", "b"),
            lambda: reader.rename_experiment(experiment, "another"),
            lambda: reader.delete_experiment(experiment),
            lambda: reader.create_run(experiment),
            lambda: reader.log_batch(id_, [Metric("a", 1.0, 1, 1)], [Param("a", "b")], [RunTag("a", "b")]),
            lambda: reader.set_terminated(id_),
            lambda: reader.delete_run(id_),
            lambda: reader.log_artifact(id_, str(file)),
            lambda: reader.create_registered_model("another"),
            lambda: reader.set_registered_model_tag(f"model-{id_[:8]}", "a", "b"),
            lambda: reader.create_model_version(f"model-{id_[:8]}", f"runs:/{id_}/a", id_),
            lambda: reader.delete_registered_model(f"model-{id_[:8]}"),
        ]
        for number, write in enumerate(writes):
            with pytest.raises(Exception, match=r"403|PERMISSION_DENIED"):
                print(number, write())
        assert runs(server.be("sweeps", monkeypatch), spooled).keys() == {"sweep", "trial-0000"}

    def test_who_writes_deletes_no_experiment(self, server: Any, spooled: SweepFolder, monkeypatch: Any) -> None:
        writer = server.be("sweeps", monkeypatch)
        assert drain(spooled)
        other = server.be("admin", monkeypatch).create_experiment("of the admin")
        server.be("sweeps", monkeypatch)
        writer.set_terminated(writer.create_run(other).info.run_id)
        with pytest.raises(mlflow.MlflowException, match="Permission denied"):
            writer.delete_experiment(other)


def test_what_the_database_cannot_hold_holds_nothing_up(
    server: Any, spooled: SweepFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = server.be("sweeps", monkeypatch)
    spool = Spool(spooled.tracking / "spool.jsonl")
    spool.tags("trial-0000", {"note": "a zero byte: \0"})
    spool.metrics("trial-0000", 7, 5.0, {"no?name": 1.0})
    spool.metrics("trial-0000", 7, 5.0, {"late": 0.5})
    assert drain(spooled)
    run = runs(client, spooled)["trial-0000"]
    assert run.data.metrics["late"] == 0.5 and "no?name" not in run.data.metrics
    err = capsys.readouterr().err
    assert "refuses tags of trial-0000: left out" in err and "refuses metrics of trial-0000: left out" in err


def test_stopped_in_the_middle_of_a_sweep_and_started_again(
    server: Any, make: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    """It is away for a third of the epochs."""
    folder, seen = make("trial.epochs=4", "search.trials=3", "pruning={name: none}"), []
    client = server.be("sweeps", monkeypatch)
    more_to_come, reached = threading.Event(), []
    more_to_come.set()

    class Stops(Watcher):
        def epoch_ended(self, event: EpochEnded) -> None:
            seen.append(event)
            if len(seen) == 4:
                while not (folder.tracking / "parent_run_id").exists():
                    threading.Event().wait(0.05)
                assert server.stop() == 130
            if len(seen) == 8:
                threading.Event().wait(AWAY)
                server.start("--no-migrate")

    carrying = threading.Thread(target=lambda: reached.append(drain(folder, more_to_come, 60)), daemon=True)
    carrying.start()
    tiny.run(tiny.open(folder, TrialSpool(Spool(folder.tracking / "spool.jsonl"), {}), Stops()))
    more_to_come.clear()
    carrying.join(120)
    assert reached == [True] and len(seen) == 12
    check(client, folder, 3)
    record_property("injected", f"the server stopped for {AWAY} s and more, in the middle of a sweep")
    record_property("held", "3 of 3 trials; every point once and in order")


def everything(server: Any, client: mlflow.MlflowClient, into: Path) -> dict[str, Any]:
    """All that a server has, with the bytes of every file."""
    told: dict[str, Any] = {}
    for experiment in client.search_experiments():
        found = client.search_runs([experiment.experiment_id], max_results=1000)
        for run in found:
            folder = into / run.info.run_id
            folder.mkdir(parents=True)
            client.download_artifacts(run.info.run_id, "", str(folder))
            files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            told[run.info.run_id] = (experiment.name, dict(run.info), run.data.params, run.data.tags, files)
        for name in sorted({name for run in found for name in run.data.metrics}):
            told[f"{experiment.name} {name}"] = history(server, [run.info.run_id for run in found], name)
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{model.name}'")
        about = {one.version: (one.run_id, one.source, one.tags) for one in versions}
        told[model.name] = (about, client.get_registered_model(model.name).aliases)
    return told


def history(server: Any, run_ids: list[str], name: str) -> Any:
    """Every point of a metric in all runs, as the UI asks for them."""
    page = f"{server.url}/ajax-api/2.0/mlflow/metrics/get-history-bulk"
    who = ("sweeps", server.password("sweeps"))
    answer = requests.get(page, {"run_id": run_ids, "metric_key": name, "max_results": 25000}, auth=who, timeout=60)
    answer.raise_for_status()
    return answer.json()["metrics"]


def test_backed_up_wiped_and_restored(
    server: Any, spooled: SweepFolder, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server.be("sweeps", monkeypatch)
    assert drain(spooled)
    retrain_and_register(spooled, monkeypatch)
    before, backup = everything(server, client, tmp_path / "before"), tmp_path / "backups" / "one"
    assert len(before[run_id(client, spooled, "trial-0000")][-1]) == len(FILES) and len(before["medtune val/auroc"]) > 1
    assert run("backup", server.folder, backup).returncode == 0  # while it runs
    again = run("backup", server.folder, backup)
    assert again.returncode == 1 and again.stderr == f"{backup}: is there already: give a new name\n"
    assert backup.stat().st_mode & 0o777 == 0o700 and not list(backup.parent.glob("*.partial"))

    refused = run("restore", server.folder, backup)
    assert refused.returncode == 1 and "already: with --replace they are gone" in refused.stderr
    refused = run("restore", server.folder, backup, "--replace")
    assert refused.returncode == 1 and "stop the server first" in refused.stderr
    client.log_batch(run_id(client, spooled, "trial-0000"), tags=[RunTag("later", "than the backup")])
    server.stop()

    shutil.rmtree(server.folder / "postgresql")
    shutil.rmtree(server.folder / "artifacts")
    done = run("restore", server.folder, backup)
    assert done.returncode == 0 and " runs, " in done.stdout, done.stderr
    server.start()
    assert everything(server, client, tmp_path / "after") == before
    assert drain(spooled)


def test_nothing_tells_a_secret_and_ctrl_c_ends_all_of_it(server: Any) -> None:
    """Last, for all that the others have done."""
    values = [read_env(server.folder)[name] for name in SECRETS]
    for process in psutil.process_iter(["cmdline"]):
        said = " ".join(process.info["cmdline"] or ())
        assert not any(value in said for value in values)
    for log in (server.log, server.folder / "postgresql.log"):
        assert not any(value in log.read_text() for value in values)
    assert (server.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert server.stop(signal.SIGINT) == 130
