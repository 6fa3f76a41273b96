"""Files of a backup: from a folder, and from a storage that speaks S3."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mlflow_server import archive
from mlflow_server.settings import ARTIFACTS, ServerError

FILES = {"1/run/artifacts/config.yaml": b"a: 1\n", "1/run/artifacts/figures/roc.png": bytes(range(256)), "2/x": b""}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ARTIFACTS, str(tmp_path / "artifacts"))
    for name, content in FILES.items():
        (tmp_path / "artifacts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "artifacts" / name).write_bytes(content)
    return tmp_path / "artifacts"


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv(ARTIFACTS, "s3://bucket/mlflow")
        client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        client.create_bucket(Bucket="bucket")
        yield client
    server.stop()


def in_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_as_it_was(folder: Path, tmp_path: Path) -> None:
    assert archive._save_artifacts(tmp_path / "files.tar") == len(FILES)
    (folder / "1" / "run" / "artifacts" / "config.yaml").write_text("changed")
    (folder / "3").mkdir()
    (folder / "3" / "later").write_text("x")
    archive._load_artifacts(tmp_path / "files.tar")
    assert in_folder(folder) == FILES and archive._artifacts_there() == 2


def test_killed_before_all_files_are_there_nothing_has_changed(folder: Path, tmp_path: Path) -> None:
    archive._save_artifacts(tmp_path / "files.tar")
    whole = (tmp_path / "files.tar").read_bytes()
    (tmp_path / "files.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(tarfile.TarError):
        archive._load_artifacts(tmp_path / "files.tar")
    assert {name: content for name, content in in_folder(folder).items() if archive.RESTORED not in name} == FILES
    (tmp_path / "files.tar").write_bytes(whole)
    archive._load_artifacts(tmp_path / "files.tar")
    assert in_folder(folder) == FILES


def test_a_storage_is_as_it_was(storage: Any, tmp_path: Path) -> None:
    assert archive._artifacts_there() == 0 and archive._save_artifacts(tmp_path / "none.tar") == 0
    for name, content in FILES.items():
        storage.put_object(Bucket="bucket", Key=f"mlflow/{name}", Body=content)
    storage.put_object(Bucket="bucket", Key="of others", Body=b"x")
    assert archive._artifacts_there() == 2
    assert archive._save_artifacts(tmp_path / "files.tar") == len(FILES)
    for name in FILES:
        storage.delete_object(Bucket="bucket", Key=f"mlflow/{name}")
    archive._load_artifacts(tmp_path / "files.tar")
    keys = [one["Key"] for one in storage.list_objects_v2(Bucket="bucket")["Contents"]]
    found = {key: storage.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}
    assert found == {**{f"mlflow/{name}": content for name, content in FILES.items()}, "of others": b"x"}


def test_a_storage_that_is_not_there_is_one_line(storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ARTIFACTS, "s3://no-such-bucket/mlflow")
    with pytest.raises(ServerError, match=r"^s3://no-such-bucket/mlflow: .*bucket does not exist") as refused:
        archive._save_artifacts(tmp_path / "files.tar")
    assert "\n" not in str(refused.value)
