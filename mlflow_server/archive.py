"""Backups: a folder with the database, the files and what they are of. One is whole or has another name.

The database goes first. What it knows of is among the files by then; those that come while they are read are too many,
never too few, unless somebody deletes runs for good at that time.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow_server.postgresql import LocalPostgres, connect, program
from mlflow_server.settings import ARTIFACTS, ServerError, take_settings

DATABASE_FILE, ARTIFACTS_FILE, ABOUT = "database.dump", "artifacts.tar", "backup.json"
COUNTED = ("experiments", "runs", "registered_models", "model_versions")
FORMAT = 1
RESTORED = ".restored"  # where files are until all are there


def backup(target: Path) -> dict[str, int]:
    """Writes a folder, for the eyes of its owner: there are hashes of passwords in it. How much there is of each.

    Raises ServerError.
    """
    if target.exists():
        raise ServerError(f"{target}: is there already: give a new name")
    new = target.with_name(f"{target.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(mode=0o700, parents=True)
        counts = _counts()
        _run([program("pg_dump"), "--format=custom", "--no-owner", f"--file={new / DATABASE_FILE}"])
        counts["files"] = _save_artifacts(new / ARTIFACTS_FILE)
        about = {"format": FORMAT, "at": time.strftime("%FT%TZ", time.gmtime()), **counts}
        (new / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
        new.rename(target)
    except OSError as error:
        raise ServerError(f"{error.filename or target}: {error.strerror}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return counts


def restore(source: Path, replace: bool) -> dict[str, int]:
    """Puts a backup in the place of what is there. What there is then.

    replace: although there are runs, models or files already, which are gone then. Raises ServerError, also while a
    server uses the database.
    """
    about = _about(source)
    there = {name: count for name, count in {**_counts(), "files": _artifacts_there()}.items() if count}
    there.pop("experiments", None)  # MLflow makes one
    if there and not replace:
        told = ", ".join(f"{count} {name}" for name, count in there.items())
        raise ServerError(
            f"there are {told.replace('_', ' ')} already: with --replace they are gone, {source} is in their place"
        )
    _refuse_a_running_server()
    try:
        _load_artifacts(source / ARTIFACTS_FILE)
        _load_database(source / DATABASE_FILE)
    except (OSError, tarfile.TarError) as error:
        raise ServerError(f"{source}: {error}") from None
    counts = _counts()
    wrong = [name for name in counts if counts[name] != about[name]]
    if wrong:
        raise ServerError(f"{source}: has {about[wrong[0]]} {wrong[0]}, and {counts[wrong[0]]} are there now")
    return {**counts, "files": about["files"]}


def _about(source: Path) -> dict[str, Any]:
    try:
        about = json.loads((source / ABOUT).read_text())
        if about["format"] == FORMAT and all((source / name).is_file() for name in (DATABASE_FILE, ARTIFACTS_FILE)):
            return dict(about)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ServerError(f"{source}: is no backup of mlflow_server/backup")


def _counts() -> dict[str, int]:
    """The rows of the tables that people care about; of one that is not there, none."""
    counts = {}
    with connect() as connection:
        for name in COUNTED:
            known = connection.execute("SELECT to_regclass(%s)", (name,)).fetchone()
            found = connection.execute(f"SELECT count(*) FROM {name}").fetchone() if known and known[0] else None
            counts[name] = int(found[0]) if found else 0
    return counts


def _refuse_a_running_server() -> None:
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with connect() as connection:
        found = connection.execute(others).fetchone()
    if found and found[0]:
        raise ServerError(f"{found[0]} connections to the database are open: stop the server first")


def _load_database(dump: Path) -> None:
    """All of it or nothing: one transaction takes away what is there and makes what was."""
    empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    with tempfile.TemporaryFile() as script:
        _run([program("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(dump)], stdout=script)
        script.seek(0)
        quiet = [program("psql"), "--quiet", "--no-psqlrc", "--single-transaction", "-v", "ON_ERROR_STOP=1"]
        _run(
            [*quiet, "-c", f"SET client_min_messages = warning; {empty}", "-f", "-"],
            stdin=script,
            stdout=subprocess.DEVNULL,
        )


def _run(command: list[str], **streams: Any) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, **streams)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[0]
        raise ServerError(f"{Path(command[0]).name}: {said.removeprefix(f'{Path(command[0]).name}: ')}")


def _local() -> Path | None:
    """The folder of the files; None where they are in a storage."""
    destination = os.environ[ARTIFACTS]
    return None if "://" in destination else Path(destination)


def _storage() -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(os.environ[ARTIFACTS])


def _artifacts_there() -> int:
    """How many files or folders are at the top."""
    folder = _local()
    if folder is not None:
        return len([path for path in folder.iterdir() if path.name != RESTORED]) if folder.exists() else 0
    with _asking():
        return len(_storage().list_artifacts())


def _save_artifacts(archive: Path) -> int:
    """How many files there are."""
    folder = _local()
    if folder is not None:
        return _pack(folder, archive)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch, _asking():
        if _storage().list_artifacts():
            _storage().download_artifacts("", scratch)
        return _pack(Path(scratch), archive)


def _pack(folder: Path, archive: Path) -> int:
    count = 0
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.rglob("*")) if folder.exists() else ():
            if path.is_file():
                tar.add(path, str(path.relative_to(folder)))
                count += 1
    return count


def _load_artifacts(archive: Path) -> None:
    """In a folder: beside it first, then in its place."""
    folder = _local()
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch, _asking():
            _unpack(archive, Path(scratch))
            _storage().log_artifacts(scratch)
        return
    new = folder / RESTORED
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    _unpack(archive, new)
    for old in set(folder.iterdir()) - {new}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    owner = folder.stat()
    for path in (*new.rglob("*"), *new.iterdir()):
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
    for path in new.iterdir():
        path.rename(folder / path.name)
    new.rmdir()


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Of a storage, whatever library it is behind."""
    try:
        yield
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ServerError(f"{os.environ[ARTIFACTS]}: {said}") from error


def backup_main() -> int:
    """`backup`."""
    parser = argparse.ArgumentParser(prog="mlflow_server/backup", description="Database and files into a new folder.")
    parser.add_argument("folder", type=Path, help="of the server: where `.env` is")
    parser.add_argument("target", type=Path, help="the folder that is made")
    options = parser.parse_args()
    with _reached(options.folder):
        print(f"{options.target}: {_in_words(backup(options.target))}")
    return 0


def restore_main() -> int:
    """`restore`."""
    parser = argparse.ArgumentParser(prog="mlflow_server/restore", description="Database and files from a backup.")
    parser.add_argument("folder", type=Path, help="of the server, which must not run: where `.env` is")
    parser.add_argument("source", type=Path, help="the folder that `backup` has made")
    parser.add_argument("--replace", action="store_true", help="although there are runs, models or files; they go")
    options = parser.parse_args()
    with _reached(options.folder):
        print(f"{options.folder}: {_in_words(restore(options.source, options.replace))}")
    return 0


@contextlib.contextmanager
def _reached(folder: Path) -> Iterator[None]:
    """With the database of a server's folder, which is started for the time being where it is a local one."""
    take_settings(folder)
    local = LocalPostgres(folder)
    with local.running() if local.data.exists() or "PGHOST" not in os.environ else contextlib.nullcontext():
        yield


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
