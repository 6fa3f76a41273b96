import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """`empty_database(runs)`: `mlflow.db` in a folder, as MLflow makes it, which takes seconds only once."""
    made = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)

    def copy(runs: Path) -> None:
        runs.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, runs / "mlflow.db")

    return copy
