"""A disk that is full, for real: a small file system of its own, filled to the last bytes."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medtune.files import whole_lines, write_whole
from medtune.search.failures import kind_of
from medtune.search.folder import SweepFolder
from medtune.tracking.spool import Spool, TrialSpool

PAGE = 4096


class SmallDisk:
    """`free(n)`: from now on so many pages are free. What fills the disk is a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def free(self, pages: int) -> None:
        with (self.path / "ballast").open("wb") as file:
            there = os.statvfs(self.path)
            file.write(b"0" * max(there.f_bfree * there.f_bsize - pages * PAGE, 0))

    def make_room(self) -> None:
        (self.path / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """16 MB; only root may make one."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def spooled(folder: SweepFolder) -> TrialSpool:
    return TrialSpool(Spool(folder.tracking / "spool.jsonl"), {"sweep": "tiny"})


def points(folder: SweepFolder) -> list[tuple[str, int]]:
    """The epochs in the spool, as often as they stand there."""
    lines = whole_lines((folder.tracking / "spool.jsonl").read_text())
    return sorted((line["run"], int(line["step"])) for line in lines if line["do"] == "metrics" and "val/auroc" in line)


def records(folder: SweepFolder) -> dict[int, list[dict[str, Any]]]:
    return {n: [{k: r[k] for k in r if k not in ("at", "epoch_seconds")} for r in folder.epochs(n)] for n in range(5)}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_on_a_disk_that_fills_up_goes_on_when_there_is_room(
    tiny: Any,
    disk: SmallDisk,
    finished_once: SweepFolder,
    count: Any,
    record_property: Callable[[str, Any], None],
) -> None:
    full = 0
    for pages in range(0, 60, 60 // count(30)):
        folder = tiny.create(disk.path / "runs" / "tiny")
        while True:
            disk.free(pages)
            try:
                tiny.run(tiny.open(folder, spooled(folder)))
                break
            except Exception as error:
                assert kind_of(error) == "storage", error
                full += 1
                torn = [path for path in folder.path.rglob("*") if path.name.endswith(".tmp")]
                assert torn == []
            finally:
                disk.make_room()
            pages += 25  # what is on the way takes some
        assert tiny.entries(folder) == tiny.entries(finished_once)
        assert records(folder) == records(finished_once)
        assert sorted(folder.with_weights()) == sorted(finished_once.with_weights())
        assert len(points(folder)) == len(set(points(folder))) == sum(map(len, records(folder).values()))
        shutil.rmtree(folder.path)
    record_property("injected", f"a disk of 16 MB was full {full} times, in checkpoints, ledger, spool and folder")
    record_property("held", "no torn file; resumed with room: every number as without the fault")
    assert full >= count(30)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_whose_disk_is_full_stop_the_sweep_and_it_goes_on(shell: Any, tiny: Any, disk: SmallDisk) -> None:
    folder = disk.path / "runs" / "tiny"
    sets = ["--set", "trial.epochs=10", "--set", "data.train_fraction=1.0", "--set", "pruning={name: none}"]
    process = shell.start("sweep", tiny.file, *sets, "--folder", folder)
    shell.wait_for(lambda: list(folder.glob("trials/*/attempt-*/epoch-*")), process)
    disk.free(0)
    code, _, err = shell.finish(process)
    assert code == 1 and "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("stopped: ") and "No space left on device" in last
    assert err.splitlines()[-2] == "go on    medtune resume disk/runs/tiny"
    disk.make_room()
    code, _, err = shell.finish(shell.start("resume", folder))
    assert code == 0, err
    assert [entry.state for entry in tiny.entries(SweepFolder(folder))] == ["complete"] * 5


def test_a_file_that_did_not_fit_leaves_the_old_one(disk: SmallDisk) -> None:
    path = disk.path / "file"
    write_whole(path, b"old")
    disk.free(1)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new" * PAGE)
    assert path.read_bytes() == b"old" and sorted(disk.path.iterdir()) == [disk.path / "ballast", path]
