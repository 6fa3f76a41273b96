import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from medtune.cli import doctor
from medtune.search.folder import SweepFolder

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


class TestAFolder:
    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The folders of other sweeps that were killed on this machine are none of ours."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def test_in_order(self, medtune: Call, finished: SweepFolder) -> None:
        code, out, _ = medtune("doctor", finished.path)
        assert (code, out) == (0, f"ok  folder             {finished.path}: nothing is left over\n")

    def test_what_is_found_is_only_said_and_then_mended(self, medtune: Call, finished: SweepFolder) -> None:
        temporary = finished.path / ".sweep.yaml.tmp"
        temporary.write_text("half")
        code, out, _ = medtune("doctor", finished.path)
        told = f"BAD left over          {temporary}: was never finished; --fix removes it\n"
        assert (code, out) == (1, told) and temporary.exists()
        code, out, _ = medtune("doctor", finished.path, "--fix", "--json")
        said = f"{temporary}: was never finished; done: removes it"
        finding = {"what": "mended", "right": True, "found": said}
        assert code == 0 and json.loads(out) == {"folder": str(finished.path), "findings": [finding]}
        assert medtune("doctor", finished.path, "--fix")[0] == 0 and not finished.running

    def test_what_takes_a_person_is_not_fixed(self, medtune: Call, finished: SweepFolder) -> None:
        with finished.ledger.open("a") as file:
            file.write("garbage\nmore garbage\n")
        code, out, _ = medtune("doctor", finished.path, "--fix")
        assert code == 1 and out.count("\n") == 1 and "cannot be read" in out and "; bring back a copy of it" in out

    def test_what_cannot_be_mended_is_said(
        self, medtune: Call, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (finished.path / ".sweep.yaml.tmp").write_text("half")

        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "unlink", refuse)
        code, out, _ = medtune("doctor", finished.path, "--fix")
        assert code == 1 and out.startswith("BAD left over") and "PermissionError" in out

    @pytest.mark.parametrize("options", [(), ("--fix",)])
    def test_one_that_is_in_use_is_left_alone(
        self, medtune: Call, finished: SweepFolder, options: tuple[str, ...]
    ) -> None:
        (finished.path / ".sweep.yaml.tmp").write_text("half")
        with FileLock(finished.path / "sweep.lock"):
            code, out, _ = medtune("doctor", finished.path, *options)
        assert code == 1 and "a process is at work in it" in out and out.count("\n") == 1
        assert (finished.path / ".sweep.yaml.tmp").exists()

    def test_wrong_words(self, medtune: Call, finished: SweepFolder, tiny: Any, tmp_path: Path) -> None:
        assert medtune("doctor", tmp_path)[::2] == (
            2,
            f"{tmp_path} holds no sweep: give the folder that `medtune sweep` named\n",
        )
        for words in (("--fix",), (tiny.file, "--fix"), (finished.path, "--set", "seed=1")):
            assert medtune("doctor", *words)[0] == 2


def test_a_sync_beside_a_mirror_says_so_and_does_nothing(medtune: Call, finished: SweepFolder) -> None:
    finished.tracking.mkdir()
    with FileLock(finished.tracking / "mirror.lock"):
        code, out, err = medtune("tracking", "sync", finished.path)
    told = f"the mirror of {finished.path} is at work, as it is while a sweep runs: nothing to do\n"
    assert (code, out, err) == (1, "", told)
