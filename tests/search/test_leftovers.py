import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from medtune.search.attempts import Attempts
from medtune.search.folder import SweepFolder
from medtune.search.leftovers import find_leftovers


def found(folder: SweepFolder) -> list[str]:
    return [f"{one.what}; {one.remedy}" for one in find_leftovers(folder, folder.config(), list)]


def mend(folder: SweepFolder) -> None:
    for one in find_leftovers(folder, folder.config(), list):
        assert one.mend is not None
        one.mend()


def contents(folder: SweepFolder) -> dict[str, bytes]:
    paths = (path for path in folder.path.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in paths}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_a_finished_sweep_has_none(finished: SweepFolder) -> None:
    before = contents(finished)
    assert found(finished) == [] and contents(finished) == before


def test_what_was_never_finished(finished: SweepFolder) -> None:
    before = contents(finished)
    (finished.path / "notes.tmp").write_text("of a person")
    for name in (".sweep.yaml.tmp", "trials/0000/validation.tmp.npz", "trials/0002/.model.safetensors.tmp"):
        (finished.path / name).write_bytes(b"half")
    assert len(found(finished)) == 3 and all(
        line.endswith(": was never finished; removes it") for line in found(finished)
    )
    mend(finished)
    assert found(finished) == [] and contents(finished) == {**before, "notes.tmp": b"of a person"}


def test_lines_that_were_cut_short_and_the_lock_of_an_earlier_version(finished: SweepFolder) -> None:
    before = contents(finished)
    for path in (finished.ledger, finished.trial(0) / "epochs.jsonl"):
        with path.open("a") as file:
            file.write('{"op_code": 4, "wor')
    lock = finished.path / "ledger.log.lock"
    lock.symlink_to(finished.ledger)
    assert [line.partition(": ")[2] for line in found(finished)] == [
        "a dead process held this lock; removes it",
        "its last line was cut short; takes that line away",
        "a line was cut short; takes that line away",
    ]
    mend(finished)
    assert found(finished) == [] and contents(finished) == before and not lock.is_symlink()


def test_a_ledger_that_cannot_be_read_needs_a_person(finished: SweepFolder) -> None:
    with finished.ledger.open("a") as file:
        file.write("garbage\nmore garbage\n")
    (said,) = found(finished)
    assert said.startswith(f"{finished.ledger} cannot be read: ") and said.endswith("; bring back a copy of it")


@pytest.mark.parametrize("call", [1, 2])
def test_checkpoints_of_a_trial_that_has_ended_and_not_of_one_that_goes_on(
    call: int, tiny: Any, tmp_path: Path, killed_in: Any
) -> None:
    """A kill before the checkpoints of a trial went: the file that is still to be written from them is."""
    short = ("trial.epochs=2", "search.trials=3", "pruning={name: none}")
    folder, twin = (tiny.create(tmp_path / name / "tiny", *short) for name in ("killed", "twin"))
    tiny.run(tiny.open(twin))
    with killed_in(*((Attempts, "clear") if call == 1 else (SweepFolder, "write_predictions"))):
        tiny.run(tiny.open(folder))
    (said,) = found(folder)
    assert said.startswith(f"{folder.path}/trials: ended, with checkpoints that nobody needs once all is written: 0;")
    mend(folder)
    assert found(folder) == [] and not list(folder.path.glob("trials/0000/attempt-*"))
    assert (folder.trial(0) / "validation.npz").exists()
    tiny.run_killed(folder, 1)
    kept = {path: path.stat().st_mtime_ns for path in folder.path.glob("trials/0001/attempt-*/*.safetensors")}
    assert kept and found(folder) == []
    mend(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.path.glob("trials/0001/attempt-*/*.safetensors")} == kept
    tiny.run(tiny.open(folder))
    assert [one.values for one in tiny.entries(folder)] == [one.values for one in tiny.entries(twin)]
    assert folder.with_weights() == twin.with_weights()


def test_in_a_shared_storage_only_what_is_of_this_sweep(tiny: Any, tmp_path: Path) -> None:
    override = f"cluster.storage={tmp_path}/shared"
    folder, other = (tiny.create(tmp_path / "runs" / name, override) for name in ("tiny", "other"))
    torn = [Path(one.storage(f"{tmp_path}/shared", "trials/0000/attempt-1")) for one in (folder, other)]
    for path in torn:
        path.mkdir(parents=True)
        (path / ".epoch-0001.safetensors.tmp").write_bytes(b"half")
    assert len(found(folder)) == 1
    mend(folder)
    assert not list(torn[0].iterdir()) and list(torn[1].iterdir())


def test_rays_folders_only_where_they_say_that_they_are_ours(finished: SweepFolder, temporary: Path) -> None:
    for name, where in (("a", finished.path), ("b", f"{finished.path}-2"), ("c", f"/data{finished.path}")):
        path = temporary / f"medtune-{name}" / "sweep"
        path.mkdir(parents=True)
        text = (
            f'{{"trial_data": ["{{\\"job\\": \\"{{\\\\\\"storage\\\\\\": \\\\\\"{where}/trials/0001\\\\\\"}}\\"}}"]}}'
        )
        (path / "experiment_state-2026-11-21_20-14-23.json").write_text(text)
    (temporary / "medtune-d").mkdir()
    assert found(finished) == [f"{temporary}/medtune-a: of a driver that was killed; removes it"]
    mend(finished)
    assert sorted(path.name for path in temporary.iterdir()) == ["medtune-b", "medtune-c", "medtune-d"]
    shutil.rmtree(temporary)
    assert found(finished) == []
