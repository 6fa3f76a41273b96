"""The settings of a server: `.env` in its folder, and the environment that its processes get.

Where PostgreSQL is, and its password, is said by the variables that all its programs read (PGHOST, PGPORT, PGUSER,
PGPASSWORD, PGDATABASE): the address that MLflow gets is empty, and nothing secret is in an argument or a log.
"""

import argparse
import os
import secrets
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATABASE = "postgresql://"
ARTIFACTS = "MLFLOW_ARTIFACTS_DESTINATION"
ADMIN, WRITER, READER = "admin", "sweeps", "reader"
PASSWORDS = {ADMIN: "MLFLOW_AUTH_ADMIN_PASSWORD", WRITER: "SWEEPS_PASSWORD", READER: "READER_PASSWORD"}
SECRETS = ("PGPASSWORD", *PASSWORDS.values(), "MLFLOW_FLASK_SERVER_SECRET_KEY")
EVERYWHERE = ("0.0.0.0", "::")  # to listen at
SHORTEST = 12  # characters, which is what MLflow takes
DEFAULTS = {"PGCONNECT_TIMEOUT": "10", "PYTHONWARNINGS": "ignore"}  # of libraries that MLflow uses
ALWAYS = {
    "MLFLOW_BACKEND_STORE_URI": DATABASE,
    "MLFLOW_AUTH_CONFIG_PATH": str(HERE / "basic_auth.ini"),
    "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
    "MLFLOW_ENABLE_WORKSPACES": "true",  # without them every user may make experiments, a reader too
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # jobs serve language models
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}

HEAD = """\
# Made by mlflow_server/init, for this server alone. Keep it secret. What is changed here holds from the next start on.
PGUSER=mlflow
PGDATABASE=mlflow
"""
TAIL = """
# A PostgreSQL that is there: its machine, and the name and password that it knows above.
# PGHOST=db.example.org
# PGPORT=5432
# Names by which the server may be called, by comma; the proxy with TLS answers to them.
# ALLOWED_HOSTS=mlflow.example.org
# Files in a storage, not in a folder or volume.
# MLFLOW_ARTIFACTS_DESTINATION=s3://bucket/mlflow
# AWS_ACCESS_KEY_ID=
# AWS_SECRET_ACCESS_KEY=
# MLFLOW_S3_ENDPOINT_URL=
"""


class ServerError(Exception):
    """What a person can put right, in one line."""


def env_file(folder: Path) -> Path:
    return folder / ".env"


def write_env(folder: Path) -> bool:
    """Makes the folder and its `.env` with random passwords, for the eyes of its owner. False where there is one: it is
    never overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(env_file(folder), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise ServerError(f"{env_file(folder)}: {error.strerror}") from None
    with os.fdopen(file, "w") as out:
        out.write(HEAD + "".join(f"{name}={secrets.token_urlsafe(24)}\n" for name in SECRETS) + TAIL)
    return True


def read_env(folder: Path) -> dict[str, str]:
    """What `.env` says; nothing where there is none. Raises ServerError where a line says nothing, or where others may
    read the file."""
    path = env_file(folder)
    if not path.exists():
        return {}
    if path.stat().st_mode & 0o077:
        raise ServerError(f"{path}: others may read these passwords: chmod 600 {path}")
    lines = [(number, line.strip()) for number, line in enumerate(path.read_text().splitlines(), 1)]
    values: dict[str, str] = {}
    for number, line in lines:
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals or not name.isidentifier():
                raise ServerError(f"{path}:{number}: write NAME=value, or # before a remark")
            values[name] = value.strip("'\"")
    return values


def take_settings(folder: Path) -> None:
    """Puts what `.env` says, and what is always so, into the environment of this process, from which all that it
    starts has it. Raises ServerError where a secret is missing or too short."""
    found = {**os.environ, **read_env(folder)}
    missing = [name for name in SECRETS if not found.get(name)]
    if missing:
        raise ServerError(
            f"{env_file(folder)}: {missing[0]} is missing; mlflow_server/init {folder} makes a file with it"
        )
    short = [name for name in PASSWORDS.values() if len(found[name]) < SHORTEST]
    if short:
        raise ServerError(f"{env_file(folder)}: {short[0]} has fewer than {SHORTEST} characters")
    for name in [name for name, value in found.items() if not value]:
        found.pop(name)  # said to be nothing
        os.environ.pop(name, None)
    os.environ.update(DEFAULTS | {ARTIFACTS: str(folder.absolute() / "artifacts")} | found | ALWAYS)


def take_names(host: str, port: int, given: str) -> None:
    """Says to MLflow by which names it may be called: this machine's loopback, the address that it listens at unless
    that is all of them, those of ALLOWED_HOSTS and those that are given, by comma; each with and without its port. A
    page of such a name, by TLS, may write. Raises ServerError where one is a pattern, which would let in too many."""
    asked = f"{os.environ.get('ALLOWED_HOSTS', '')},{given}".split(",")
    names = [name.strip() for name in asked if name.strip()]
    wrong = [name for name in names if "*" in name or "/" in name]
    if wrong:
        raise ServerError(f"ALLOWED_HOSTS: {wrong[0]} is no name of a machine: write mlflow.example.org, by comma")
    here = ["localhost", "127.0.0.1", *([] if host in EVERYWHERE else [host])]
    all_names = dict.fromkeys(one for name in [*here, *names] for one in (name, f"{name}:{port}"))
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(all_names)
    os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(f"https://{name}" for name in names)


def main() -> int:
    """`init`: makes `.env`, which is never overwritten."""
    parser = argparse.ArgumentParser(
        prog="mlflow_server/init", description="Makes the passwords of a server, in `.env`."
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=HERE, help="where it goes (default: beside compose.yaml)"
    )
    folder = parser.parse_args().folder
    if not write_env(folder):
        read_env(folder)
        print(f"{env_file(folder)} is there, and stays as it is")
        return 0
    print(f"{env_file(folder)} has the passwords of {', '.join(PASSWORDS)} and of the database; keep it")
    return 0
