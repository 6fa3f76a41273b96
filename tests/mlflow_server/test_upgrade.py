"""The tables of the previous minor version of MLflow, with runs in them, brought to this one, and backups of them."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest

from mlflow_server.postgresql import LocalPostgres
from mlflow_server.settings import read_env, write_env

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("postgres_is_here")]

MAJOR, MINOR = importlib.metadata.version("mlflow").split(".")[:2]
PREVIOUS = f"{MAJOR}.{int(MINOR) - 1}"
# what the previous version writes: tables of runs and users, an experiment with a run, a model of it
WRITE = """
import mlflow, mlflow.db, sys
from mlflow.entities import Metric
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

assert mlflow.__version__.startswith(sys.argv[1]), mlflow.__version__
mlflow.db.upgrade.callback("postgresql://")
store = SqlAlchemyStore()
store.init_db("postgresql://")
store.create_user("ada", "a long password")
client = mlflow.MlflowClient("postgresql://", "postgresql://")
run = client.create_run(client.create_experiment("old", "file:///nowhere"), 1).info.run_id
client.log_batch(run, [Metric("val/auroc", step / 10, step, step) for step in range(1, 6)])
client.log_param(run, "lr", "0.1")
client.create_registered_model("model")
client.create_model_version("model", "file:///nowhere/model", run)
client.set_registered_model_alias("model", "champion", "1")
print(run)
"""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous minor version, in a folder that goes before what is installed."""
    installers = [["uv", "pip", "install", "--python", sys.executable], [sys.executable, "-m", "pip", "install"]]
    folder, wanted = tmp_path_factory.mktemp("previous"), f"~={PREVIOUS}.0"
    packages = [f"{name}{wanted}" for name in ("mlflow", "mlflow-skinny", "mlflow-tracing")]
    for installer in installers:
        if shutil.which(installer[0]):
            command = [*installer, "--quiet", "--no-deps", "--target", str(folder), *packages]
            if not subprocess.run(command, capture_output=True, timeout=120).returncode:
                return folder
    pytest.skip(f"MLflow {PREVIOUS} cannot be had from the registry")


@pytest.fixture(scope="module")
def external(open_folder: Path) -> Iterator[dict[str, str]]:
    """A PostgreSQL that is there, as the environment says it; ours is left as it was."""
    write_env(open_folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in read_env(open_folder).items():
            patch.setenv(name, value)
        patch.delenv("PGPORT", raising=False)
        with LocalPostgres(open_folder).running():
            yield {name: os.environ[name] for name in ("PGHOST", "PGPORT")}


def psql(open_folder: Path, external: dict[str, str], statement: str) -> list[Any]:
    said = read_env(open_folder)
    who = {"user": said["PGUSER"], "password": said["PGPASSWORD"], "dbname": said["PGDATABASE"]}
    where = {"host": external["PGHOST"], "port": external["PGPORT"]}
    with psycopg.connect(**who, **where, autocommit=True) as connection:
        found = connection.execute(statement)  # type: ignore[call-overload]
        return found.fetchall() if found.description else []


def test_from_the_previous_minor_version(
    previous: Path, external: dict[str, str], open_folder: Path, run: Any, tmp_path: Path, record_property: Any
) -> None:
    settings = {**read_env(open_folder), **external}
    old = {**os.environ, **settings, "PYTHONPATH": str(previous), "MLFLOW_DISABLE_TELEMETRY": "true"}
    wrote = subprocess.run(
        [sys.executable, "-c", WRITE, PREVIOUS], env=old, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert wrote.returncode == 0, wrote.stderr
    id_ = wrote.stdout.split()[-1]
    tables = "SELECT version_num FROM alembic_version UNION ALL SELECT version_num FROM alembic_version_auth"
    before = psql(open_folder, external, tables)

    assert run("backup", open_folder, tmp_path / "old", **external).returncode == 0
    for _ in range(2):
        migrated = run("migrate", open_folder, **external)
        assert migrated.returncode == 0, migrated.stderr
    after = psql(open_folder, external, tables)
    record_property("held", f"tables of MLflow {PREVIOUS}: {before} -> {after}")
    assert_all_there(id_)
    users = {name for (name,) in psql(open_folder, external, "SELECT username FROM users")}
    assert users == {"ada", "admin", "sweeps", "reader"}

    # a backup of the previous version comes back as it was, and is brought to this one again
    refused = run("restore", open_folder, tmp_path / "old", **external)
    assert refused.returncode == 1 and "already: with --replace they are gone" in refused.stderr
    done = run("restore", open_folder, tmp_path / "old", "--replace", **external)
    assert done.returncode == 0, done.stderr
    assert psql(open_folder, external, tables) == before
    assert run("migrate", open_folder, **external).returncode == 0
    assert psql(open_folder, external, tables) == after
    assert_all_there(id_)


def assert_all_there(run_id: str) -> None:
    client = mlflow.MlflowClient("postgresql://", "postgresql://")
    run = client.get_run(run_id)
    assert run.data.params == {"lr": "0.1"} and client.get_experiment_by_name("old") is not None
    points = [(one.step, one.value) for one in client.get_metric_history(run_id, "val/auroc")]
    assert points == [(step, step / 10) for step in range(1, 6)]
    assert client.get_model_version_by_alias("model", "champion").run_id == run_id
    for engine in (client._tracking_client.store.engine, client._get_registry_client().store.engine):
        engine.dispose()  # `restore` takes the connections of nobody else


def test_a_backup_that_is_none(external: dict[str, str], open_folder: Path, run: Any, tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text("{}")
    done = run("restore", open_folder, tmp_path, **external)
    assert done.returncode == 1 and done.stderr == f"{tmp_path}: is no backup of mlflow_server/backup\n"


def test_a_disk_that_is_full_leaves_nothing_that_looks_like_a_backup(
    external: dict[str, str], open_folder: Path, run: Any
) -> None:
    done = run("backup", open_folder, "/dev/full/backup", **external)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
