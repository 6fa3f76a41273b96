from pathlib import Path

import pytest

from medtune.config.sweep import Tracking
from medtune.tracking.server import default_artifacts, tracking_uri, without_password


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db:5432/mlflow", "postgresql://me:***@db:5432/mlflow"),
        ("https://me:secret@mlflow.example.org/path", "https://me:***@mlflow.example.org/path"),
        ("http://:secret@host", "http://:***@host"),
        ("at http://me:secret@host and http://you:word@there", "at http://me:***@host and http://you:***@there"),
        ("http://me@host:5000", "http://me@host:5000"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("sqlite:////home/me/runs/mlflow.db", "sqlite:////home/me/runs/mlflow.db"),
    ],
)
def test_no_password_is_shown(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_the_default_is_a_database_beside_the_sweep_folders() -> None:
    folder = Path("/data/runs/breast")
    assert tracking_uri(Tracking(), folder) == "sqlite:////data/runs/mlflow.db"
    assert default_artifacts(Tracking(), folder) == "file:///data/runs/mlartifacts"


def test_another_address_is_taken_as_it_is() -> None:
    folder, server = Path("/data/runs/breast"), Tracking(uri="http://localhost:5000")
    assert tracking_uri(server, folder) == "http://localhost:5000" and default_artifacts(server, folder) is None
    database = Tracking(uri="sqlite:////elsewhere/tracking.db")
    assert default_artifacts(database, folder) == "file:///elsewhere/mlartifacts"
