"""Models in MLflow's registry: a version for each retrained model, and the alias `champion`.

Both may be done again after a kill: a version is found by its sweep and its model's digest, which are among its tags.
"""

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from medtune.config.write import without_password
from medtune.data import DataError
from medtune.files import write_whole
from medtune.search.folder import SweepFolder

CHAMPION = "champion"
TOLD = "registry.json"  # in the tracking folder: what became of the model that was registered or tested last
ADDRESS = re.compile(r"models:/+([^/@]+)(?:/(\d+)|@([\w-]+))")
FOR_NOW = (401, 408, 429)  # of the answers that say no, those that may be yes later
NEVER = 501

Tags = Mapping[str, str]


def register(client: Any, folder: SweepFolder, run_id: str, event: Mapping[str, Any]) -> None:
    """A version for the model of an event of the spool, with the run as its source, unless there is one already."""
    name, tags, path = event["name"], event["tags"], folder.path / event["folder"]
    with _left_out(f"registering {name}"):
        found = _version(client, name, tags)
        if found is None:
            found = _make_version(client, path, run_id, name, tags)
        if alias := event.get("alias"):
            client.set_registered_model_alias(name, alias, found.version)
        _tell(folder, tags["model"], name, found.version, None, "registered")


def promote(client: Any, folder: SweepFolder, event: Mapping[str, Any]) -> None:
    """Writes what the test says onto the version of a model, and moves the alias `champion` to it or says why not."""
    name, tags = event["name"], event["tags"]
    with _left_out(f"promoting {name}"):
        found = _version(client, name, tags)
        if found is None:
            raise LeftOut("it is not registered")
        _renew_card(client, folder.path / event["folder"], found.run_id, tags["model"])
        tested = _tested(event)
        for key, value in tested.items():
            client.set_model_version_tag(name, found.version, key, value)
        champion, why = _champion(client, name, found.version, {**found.tags, **tested}, event["force"])
        if champion:
            client.set_registered_model_alias(name, CHAMPION, found.version)
        client.set_model_version_tag(name, found.version, "medtune.verdict", why)
        _tell(folder, tags["model"], name, found.version, champion, why)


def may_be_champion(new: Tags, old: Tags, named: str) -> tuple[bool, str]:
    """Whether a tested version may take the place of another, and why. It may unless its interval on the test lies
    wholly below the other's value; after a later look, on other data, or where a number is missing, nothing says so.

    new, old: the tags of the versions. named: the other one, in words.
    """
    if int(new.get("medtune.looks", 1)) > 1:
        return False, "its test had been opened before, so that it could be chosen by it: --promote moves it"
    if "medtune.test_auroc" not in old:
        return False, f"{named} was not tested: --promote moves it"
    if old.get("medtune.data_md5") != new.get("medtune.data_md5"):
        return False, f"{named} was tested on other data: --promote moves it"
    value, high = old["medtune.test_auroc"], new.get("medtune.test_auroc_high", "")
    if not value or not high:
        return False, f"the AUROC of this one or of {named} is undefined: --promote moves it"
    if float(high) < float(value):
        return False, f"its interval ends at {float(high):.3f}, below the {float(value):.3f} of {named}"
    return True, f"its interval reaches to {float(high):.3f}, and {named} has {float(value):.3f}"


def told_of(folder: SweepFolder, reached: bool) -> dict[str, Any]:
    """What became of the model that was registered or tested last: `name`, `version`, `champion` and `why`; where
    nothing came of it, `why` alone. reached: whether the server has everything."""
    path = folder.tracking / TOLD
    if path.exists():
        told: dict[str, Any] = json.loads(path.read_text())
        return told
    log = folder.tracking / "mirror.log"
    if reached:
        return {"why": f"it is not in the registry: {log} says why"}
    return {"why": f"the server was not reached, see {log}; `medtune tracking sync {folder.path}` does it later"}


def in_words(told: Mapping[str, Any]) -> str:
    """A line of `told_of`."""
    if "version" not in told:
        return f"registry: {told['why']}"
    place = {None: "registered", True: f"the {CHAMPION}", False: f"not the {CHAMPION}"}[told["champion"]]
    why = "" if told["champion"] is None else f": {told['why']}"
    return f"registry: models:/{told['name']}/{told['version']} is {place}{why}"


def forget_told(folder: SweepFolder) -> None:
    """Before something new is registered or tested."""
    (folder.tracking / TOLD).unlink(missing_ok=True)


def fetch_model(address: str, uri: str | None = None) -> Path:
    """The folder of a registered model, which `TrainedModel.load` reads, or encoder, which `read_encoder` does; it is
    kept in the user's cache.

    address: `models:/NAME@champion` or `models:/NAME/3`. uri: the server's address, or a folder with `mlflow.db`;
    unless given what MLFLOW_TRACKING_URI says, or the database of the sweeps that are here. Raises RecordError where
    there is no such server, and DataError where there is no such model, or where it is none of medtune.
    """
    parts = ADDRESS.fullmatch(address)
    if parts is None:
        raise DataError(f"{address}: write models:/NAME@{CHAMPION}, or models:/NAME/3 for the third version")
    from medtune.tracking.runs import known_server

    server = known_server(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client = mlflow.MlflowClient(server)
        by_alias = client.get_model_version_by_alias
        found = by_alias(parts[1], parts[3]) if parts[3] else client.get_model_version(parts[1], parts[2])
        return _fetched(client, found, address, server)
    except (MlflowException, OSError) as error:
        said = without_password((str(error).splitlines() or [""])[0])
        raise DataError(f"{address} cannot be had from {without_password(server)}: {said}") from error


def _fetched(client: Any, found: Any, address: str, server: str) -> Path:
    import mlflow

    from medtune.tracking.packaged import ARTIFACT

    digest = found.tags.get("medtune.model")
    if digest is None:
        raise DataError(f"{address} is none of medtune: what `medtune retrain` or `pretrain` has made can be read")
    path = platformdirs.user_cache_path("medtune") / "models" / digest
    if not _holds(path, digest):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            source = f"{client.get_model_version_download_uri(found.name, found.version)}/artifacts/{ARTIFACT}"
            got = Path(mlflow.artifacts.download_artifacts(source, dst_path=scratch, tracking_uri=server))
            if not _holds(got, digest):
                raise DataError(f"{address}: what the server has is not the model that was registered")
            shutil.rmtree(path, ignore_errors=True)
            got.rename(path)
    return path


def _holds(path: Path, digest: str) -> bool:
    from medtune.tracking.packaged import model_digest

    try:
        return model_digest(path) == digest
    except (DataError, OSError, ValueError):
        return False


class LeftOut(Exception):
    """Why something is not done in the registry, now or later."""


@contextlib.contextmanager
def _left_out(what: str) -> Iterator[None]:
    """A registry that says no, or that a server does not have, is a line and holds up nothing; one that is away is
    tried again."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except LeftOut as error:
        print(f"{what}: left out: {error}", file=sys.stderr, flush=True)
    except MlflowException as error:
        status = 404 if _has_no_registry(error) else error.get_http_status_code()
        if (not 400 <= status < 500 and status != NEVER) or status in FOR_NOW:
            raise
        first_line = (str(error).splitlines() or [""])[0]
        print(f"{what}: left out: {without_password(first_line)}", file=sys.stderr, flush=True)


def _has_no_registry(error: Exception) -> bool:
    return type(error).__name__ == "UnsupportedModelRegistryStoreURIException"


def _version(client: Any, name: str, tags: Mapping[str, Any]) -> Any:
    """The version of a model of a sweep; None where there is none."""
    wanted = f"name = '{name}' and tags.`medtune.model` = '{tags['model']}'"
    found = client.search_model_versions(f"{wanted} and tags.`medtune.sweep_id` = '{tags['sweep_id']}'")
    return min(found, key=lambda one: int(one.version), default=None)


def _make_version(client: Any, path: Path, run_id: str, name: str, tags: Mapping[str, Any]) -> Any:
    """Packs the model, adds it to the artifacts of its run, and makes a version of that."""
    from mlflow.exceptions import MlflowException

    from medtune.tracking.packaged import pack  # with torch

    if not _holds(path, tags["model"]):
        raise LeftOut(f"{path} no longer holds this model")
    into = _place(tags["model"])
    with tempfile.TemporaryDirectory(prefix="medtune-") as scratch:
        about = pack(path, Path(scratch))
        client.log_artifacts(run_id, scratch, into)
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{into}"
    texts = {f"medtune.{key}": str(value) for key, value in {**tags, "state": "registered"}.items()}
    return client.create_model_version(name, source, run_id, tags=texts)


def _place(model: str) -> str:
    """Among the artifacts of a run, which may train another model later. model: its digest."""
    return f"registered/{model[:12]}"


def _renew_card(client: Any, path: Path, run_id: str, model: str) -> None:
    """After a test the card has its numbers."""
    from medtune.tracking.packaged import ARTIFACT, CARD

    if (path / CARD).exists() and _holds(path, model):
        client.log_artifact(run_id, str(path / CARD), f"{_place(model)}/artifacts/{ARTIFACT}")


def _tested(event: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a test: its AUROC and the ends of the interval, empty where undefined."""
    auroc = event["auroc"]
    numbers = {"test_auroc": auroc["value"], "test_auroc_low": auroc["low"], "test_auroc_high": auroc["high"]}
    texts = {name: "" if value is None else f"{value:.6f}" for name, value in numbers.items()}
    tags = {**texts, "looks": str(event["looks"]), "state": "tested"}
    return {f"medtune.{name}": text for name, text in tags.items()}


def _champion(client: Any, name: str, version: Any, tags: Tags, force: bool) -> tuple[bool, str]:
    """Whether a version is to be the champion, and why."""
    aliases = client.get_registered_model(name).aliases
    if CHAMPION not in aliases:
        return True, "there was no champion before"
    if str(aliases[CHAMPION]) == str(version):
        return True, "it was the champion before"
    named = f"version {aliases[CHAMPION]}"
    if force:
        return True, f"--promote moved it from {named}"
    return may_be_champion(tags, client.get_model_version(name, str(aliases[CHAMPION])).tags, named)


def _tell(folder: SweepFolder, model: str, name: str, version: Any, champion: bool | None, why: str) -> None:
    told = {"model": model, "name": name, "version": int(version), "champion": champion, "why": why}
    write_whole(folder.tracking / TOLD, (json.dumps(told) + "\n").encode())
