from pathlib import Path

from medtune.config.sweep import Tracking
from medtune.tracking.server import default_artifacts, tracking_uri


def test_the_default_is_a_database_beside_the_sweep_folders() -> None:
    folder = Path("/data/runs/breast")
    assert tracking_uri(Tracking(), folder) == "sqlite:////data/runs/mlflow.db"
    assert default_artifacts(Tracking(), folder) == "file:///data/runs/mlartifacts"


def test_another_address_is_taken_as_it_is() -> None:
    folder, server = Path("/data/runs/breast"), Tracking(uri="http://localhost:5000")
    assert tracking_uri(server, folder) == "http://localhost:5000" and default_artifacts(server, folder) is None
    database = Tracking(uri="sqlite:////elsewhere/tracking.db")
    assert default_artifacts(database, folder) == "file:///elsewhere/mlartifacts"
