"""What must hold of compose.yaml; nothing is started."""

import importlib.metadata
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mlflow_server.settings import HERE, SECRETS, write_env

FILE = HERE / "compose.yaml"
ONCE = {"migrate", "tools"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    yaml = YAML(typ="safe")
    return dict(yaml.load(FILE.read_text())["services"])


def test_every_version_is_pinned(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values()]
    assert all(re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", image) for image in images), images
    assert re.search(r"^FROM python:\d+\.\d+\.\d+-slim-\w+$", (HERE / "Dockerfile").read_text(), flags=re.MULTILINE)
    wanted = (HERE / "requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[a-z0-9]+(\[\w+\])?==[\d.]+", line) for line in wanted) and len(wanted) == 3


def test_it_is_the_mlflow_that_the_tests_run(services: dict[str, Any]) -> None:
    version = importlib.metadata.version("mlflow")
    assert services["server"]["image"].endswith(f":{version}")
    assert f"mlflow[auth]=={version}" in (HERE / "requirements.txt").read_text()


def test_pg_dump_is_as_new_as_the_server(services: dict[str, Any]) -> None:
    (major,) = re.findall(r"^postgres:(\d+)", services["db"]["image"])
    assert f"postgresql-client-{major}" in (HERE / "Dockerfile").read_text()


def test_there_is_no_default_password(services: dict[str, Any]) -> None:
    text = FILE.read_text()
    assert services["db"]["environment"]["POSTGRES_PASSWORD"].startswith("${PGPASSWORD:?")
    for name in SECRETS:
        assert not re.search(rf"{name}:?-", text) and not re.search(
            rf"{name}[=:] *[^?\s]", text.replace(f"{name}:?", "")
        )
    for service in services.values():
        assert service.get("env_file", ".env") == ".env"
        assert not any("PASSWORD" in str(word) for word in service.get("command", []))


def test_what_stays_up_has_a_health_check_and_starts_again(services: dict[str, Any]) -> None:
    for name in services.keys() - ONCE:
        assert services[name]["healthcheck"]["test"] and services[name]["restart"] == "unless-stopped"


def test_the_tables_are_made_before_the_server_starts(services: dict[str, Any]) -> None:
    conditions = {name: one["condition"] for name, one in services["server"]["depends_on"].items()}
    assert conditions == {"db": "service_healthy", "migrate": "service_completed_successfully"}
    assert "--no-migrate" in services["server"]["command"] and services["migrate"]["command"] == ["migrate"]


def test_the_proxy_alone_is_seen_from_elsewhere(services: dict[str, Any]) -> None:
    assert "ports" not in services["db"] and services["proxy"]["profiles"] == ["tls"]
    assert all(port.startswith("127.0.0.1:") for port in services["server"]["ports"])
    assert "reverse_proxy server:5000" in (HERE / "Caddyfile").read_text()


def test_nobody_is_root_but_who_copies_files(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if service.get("user") == "root"] == ["tools"]
    lines = (HERE / "Dockerfile").read_text().splitlines()
    assert lines.index("USER mlflow") < len(lines)


def test_its_scripts_are_there_and_can_be_run() -> None:
    for name in ("init", "migrate", "serve", "backup", "restore"):
        assert (HERE / name).stat().st_mode & 0o111 == 0o111


def test_compose_takes_it(tmp_path: Path) -> None:
    """By whichever of its versions is there."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            break
    else:
        pytest.skip("there is no docker compose on this machine")
    copy = tmp_path / "mlflow_server"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns(".env", "__pycache__"))
    without = subprocess.run([*command, "config", "--quiet"], cwd=copy, capture_output=True, text=True)
    assert without.returncode != 0 and "init" in without.stderr + (copy / "compose.yaml").read_text()
    write_env(copy)
    done = subprocess.run([*command, "config", "--quiet"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
