"""`.env`, and names of hosts."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from mlflow_server import settings
from mlflow_server.settings import SECRETS, ServerError, env_file, read_env, take_names, take_settings, write_env


@pytest.fixture(autouse=True)
def an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "MLFLOW_", "AWS_"))}
    monkeypatch.setattr(os, "environ", kept)


def test_init_makes_random_passwords_that_its_owner_alone_reads(run: Any, tmp_path: Path) -> None:
    done = [run("init", tmp_path / name) for name in ("a", "b")]
    assert [one.returncode for one in done] == [0, 0]
    first, second = read_env(tmp_path / "a"), read_env(tmp_path / "b")
    assert all(len(first[name]) >= 24 and first[name] != second[name] for name in SECRETS)
    assert len({first[name] for name in SECRETS}) == len(SECRETS)
    assert env_file(tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert not any(first[name] in done[0].stdout + done[0].stderr for name in SECRETS)


def test_init_overwrites_nothing(run: Any, tmp_path: Path) -> None:
    assert write_env(tmp_path)
    before = env_file(tmp_path).read_bytes()
    assert not write_env(tmp_path)
    done = run("init", tmp_path)
    assert done.returncode == 0 and "stays as it is" in done.stdout and env_file(tmp_path).read_bytes() == before


def test_what_the_file_says_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(tmp_path)
    monkeypatch.setitem(os.environ, "READER_PASSWORD", "of another server")
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "")
    take_settings(tmp_path)
    assert os.environ["READER_PASSWORD"] == read_env(tmp_path)["READER_PASSWORD"]
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ
    assert os.environ["MLFLOW_ARTIFACTS_DESTINATION"] == str(tmp_path / "artifacts")
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == "postgresql://"


class TestWhatCannotBe:
    def test_a_file_that_others_read(self, tmp_path: Path) -> None:
        write_env(tmp_path)
        env_file(tmp_path).chmod(0o640)
        with pytest.raises(ServerError, match="others may read these passwords: chmod 600 "):
            take_settings(tmp_path)

    @pytest.mark.parametrize("line", ["PGHOST", "export PGHOST=a", "= b"])
    def test_a_line_that_says_nothing(self, line: str, tmp_path: Path) -> None:
        write_env(tmp_path)
        lines = env_file(tmp_path).read_text().count("\n")
        with env_file(tmp_path).open("a") as file:
            file.write(line + "\n")
        with pytest.raises(ServerError, match=rf"\.env:{lines + 1}: write NAME=value"):
            take_settings(tmp_path)

    @pytest.mark.parametrize("name", SECRETS)
    def test_a_secret_that_is_missing(self, name: str, tmp_path: Path) -> None:
        write_env(tmp_path)
        env_file(tmp_path).write_text(re.sub(f"{name}=.*", f"{name}=", env_file(tmp_path).read_text()))
        with pytest.raises(ServerError, match=f"{name} is missing; mlflow_server/init "):
            take_settings(tmp_path)

    def test_a_short_password(self, tmp_path: Path) -> None:
        write_env(tmp_path)
        env_file(tmp_path).write_text(
            re.sub("READER_PASSWORD=.*", "READER_PASSWORD=reader", env_file(tmp_path).read_text())
        )
        with pytest.raises(ServerError, match="READER_PASSWORD has fewer than 12 characters"):
            take_settings(tmp_path)

    @pytest.mark.parametrize("name", ["*", "*.example.org", "https://mlflow.example.org"])
    def test_a_pattern_of_hosts(self, name: str) -> None:
        with pytest.raises(ServerError, match="is no name of a machine"):
            take_names("127.0.0.1", 5000, name)

    def test_no_database(self, run: Any, tmp_path: Path) -> None:
        write_env(tmp_path)
        done = run("serve", "--folder", tmp_path)
        assert done.returncode == 1 and "with --local one is started" in done.stderr and done.stderr.count("\n") == 1

    def test_two_databases(self, run: Any, tmp_path: Path) -> None:
        write_env(tmp_path)
        with env_file(tmp_path).open("a") as file:
            file.write("PGHOST=elsewhere\n")
        done = run("serve", "--local", tmp_path)
        assert done.returncode == 1 and "leave --local out" in done.stderr and done.stderr.count("\n") == 1

    def test_a_database_that_is_away(self, run: Any, tmp_path: Path) -> None:
        write_env(tmp_path)
        for script in (("migrate", tmp_path), ("backup", tmp_path, tmp_path / "new")):
            done = run(*script, PGHOST="127.0.0.1", PGPORT="9")
            assert done.returncode == 1 and done.stderr.count("\n") == 1
            assert "PostgreSQL cannot be used as PGHOST, PGPORT, PGUSER and PGDATABASE say: " in done.stderr
        assert not (tmp_path / "new").exists() and not (tmp_path / "new.partial").exists()


def test_names_are_this_machine_and_those_that_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "ALLOWED_HOSTS", "mlflow.example.org, other")
    take_names("0.0.0.0", 80, "third")
    hosts = os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    names = ["localhost", "127.0.0.1", "mlflow.example.org", "other", "third"]
    assert hosts == [one for name in names for one in (name, f"{name}:80")]
    origins = "https://mlflow.example.org,https://other,https://third"
    assert os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == origins
    take_names("10.0.0.7", 80, "")
    assert "10.0.0.7:80" in os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"]


def test_nothing_that_is_in_the_checkout_is_a_secret() -> None:
    assert (settings.HERE / ".gitignore").read_text().startswith(".env\n")
    assert (settings.HERE / ".dockerignore").read_text().startswith(".env\n")
