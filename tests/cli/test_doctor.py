import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtune.cli import doctor

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray is started by the tests of the engine."""
    monkeypatch.setattr(doctor, "_ray", lambda cluster: "starts; 2 CPUs, 0 GPUs")
    monkeypatch.chdir(tmp_path)


def test_a_healthy_machine(medtune: Call, tiny: Any, tmp_path: Path) -> None:
    code, out, _ = medtune("doctor", tiny.file)
    assert code == 0 and all(line.startswith("ok ") for line in out.splitlines())
    for word in ("torch", "ray", "optuna", "mlflow", "devices", "threads", "Ray", "tracking server"):
        assert f"ok  {word} " in out
    assert "precision auto is " in out and "600 train, 120 validation cases, whole" in out
    assert "mlflow.db, made by the first sweep" in out
    assert list(tmp_path.iterdir()) == []  # looking makes nothing


def test_without_a_file_there_is_no_data_to_look_at(medtune: Call) -> None:
    code, out, _ = medtune("doctor", "--json")
    told = json.loads(out.splitlines()[-1])
    assert code == 0 and "data" not in told and told["numpy"]["right"] is True


def test_what_is_bad_is_found_and_said(medtune: Call, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, out, _ = medtune("doctor", tiny.file, "--set", "tracking.uri=http://me:secret@127.0.0.1:9")
    bad = [line for line in out.splitlines() if line.startswith("BAD")]
    assert code == 1 and len(bad) == 1 and bad[0].startswith("BAD tracking server ")
    assert "secret" not in out
    assert "ok  data " in out  # the others are looked at nonetheless
