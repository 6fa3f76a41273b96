"""A ledger whose last line was cut short: by a kill, by a full disk, at any byte."""

import itertools
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medtune.cli import main
from medtune.search.failures import NoRoom
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger


def to_write(folder: SweepFolder) -> Ledger:
    return Ledger(folder, folder.config(), write=True)


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> SweepFolder:
    return tiny.create(tmp_path / "runs" / "tiny")


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)


def test_cut_at_every_byte_of_its_last_lines_it_opens_and_goes_on(
    folder: SweepFolder, unflushed: None, record_property: Any
) -> None:
    config = folder.config()
    ledger = Ledger(folder, config, write=True)
    number, point = ledger.ask()
    for epoch in range(1, 4):
        ledger.report(number, epoch, epoch / 10)
    data = folder.ledger.read_bytes()
    first = len(data) - sum(map(len, data.splitlines(keepends=True)[-2:]))
    for cut in range(first, len(data)):
        folder.ledger.write_bytes(data[:cut])
        assert len(Ledger(folder, config).entries()) == 1  # before it is mended too
        assert folder.ledger.read_bytes() == data[:cut]
        again = Ledger(folder, config, write=True)
        assert folder.ledger.read_bytes() == data[: data.rfind(b"\n", 0, cut) + 1]  # the torn line alone is lost
        assert again.reopen(number) == point
        (entry,) = again.entries()
        again.report(number, len(entry.values) + 1, 0.5)
        assert Ledger(folder, config).entries()[0].values == {**entry.values, len(entry.values) + 1: 0.5}
    record_property("injected", f"the ledger cut at each of the last {len(data) - first} bytes")
    record_property("held", "opens each time, loses the torn line alone, takes the next one")


# imports once, and forks a driver for each line that it is told: so many bytes more it can write, or -1
FORKS = """
import itertools, os, resource, signal, sys
from pathlib import Path
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger

folder = SweepFolder(Path(sys.argv[1]))
config = folder.config()
for line in sys.stdin:
    room = int(line)
    driver = os.fork()
    if not driver:
        ledger = Ledger(folder, config, write=True)
        if room >= 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            limit = folder.ledger.stat().st_size + room
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        number, _ = ledger.ask()
        for epoch in itertools.count(1):
            ledger.report(number, epoch, epoch / 1000)
            os.write(1, f"{number} {epoch}\\n".encode())
    os.write(1, f"pid {driver}\\n".encode())
    os.waitpid(driver, 0)
    os.write(1, b"dead\\n")
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_while_it_appends_loses_one_line_at_most(
    folder: SweepFolder, count: Any, record_property: Any
) -> None:
    """Every second one at a random moment, the others by the kernel in the middle of a write, at a random byte."""
    generator, torn, told = random.Random(0), 0, 0
    command = [sys.executable, "-c", FORKS, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forks:
        assert forks.stdin is not None and forks.stdout is not None
        for kill in range(count(50)):
            at_a_byte = kill % 2 == 0
            print(generator.randrange(1, 4000) if at_a_byte else -1, file=forks.stdin, flush=True)
            said: dict[int, int] = {}
            while (line := forks.stdout.readline()) != "dead\n":
                assert line
                one, other = line.split()
                if one == "pid":
                    driver = int(other)
                else:
                    said[int(one)] = int(other)
                if not at_a_byte and len(said) and said[int(one)] == 3:
                    time.sleep(generator.uniform(0, 0.02))
                    os.kill(driver, signal.SIGKILL)
            torn += not folder.ledger.read_bytes().endswith(b"\n")
            entries = to_write(folder).entries()
            assert len(entries) >= kill
            for number, epoch in said.items():
                assert list(entries[number].values)[:epoch] == list(range(1, epoch + 1))
                assert len(entries[number].values) <= epoch + 1
                told += epoch
        forks.stdin.close()
    assert torn
    record_property("injected", f"{kill + 1} drivers killed while they append, {torn} of them within a line")
    record_property("held", f"the ledger opens each time; {told} of {told} epochs that were told to have been written")


def fill(ledger: Ledger) -> int:
    """Epochs, until there is no room; how many there are."""
    number, _ = ledger.ask()
    words = r"ledger\.log: \w+"
    for epoch in itertools.count(1):
        try:
            ledger.report(number, epoch, 0.5)
        except NoRoom as error:
            assert re.search(words, str(error))
            return epoch - 1
    raise AssertionError


def check_after(folder: SweepFolder, epochs: int) -> None:
    assert folder.ledger.read_bytes().endswith(b"\n")
    again = to_write(folder)
    (entry,) = again.entries()
    assert len(entry.values) == epochs
    again.reopen(0)
    again.report(0, epochs + 1, 0.6)
    again.tell(0, "complete", 0.6)
    assert to_write(folder).entries()[0].state == "complete"


def test_a_write_that_fails_in_its_middle_leaves_no_torn_line(
    folder: SweepFolder, unflushed: None, record_property: Any
) -> None:
    ledger = to_write(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        epochs = fill(ledger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 19_000 < folder.ledger.stat().st_size < 20_000
    check_after(folder, epochs)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """64 KiB, which fill up."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(where)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk(tiny: Any, small_disk: Path, unflushed: None, record_property: Any) -> None:
    folder = tiny.create(small_disk / "tiny")
    (small_disk / "other").write_bytes(b"0" * 4096 * 4)
    epochs = fill(to_write(folder))
    assert epochs > 10
    (small_disk / "other").unlink()
    check_after(folder, epochs)
    record_property("injected", "a disk that is full in the middle of the ledger")
    record_property("held", f"one line says so; {epochs} of {epochs} epochs are there, and it goes on")


@pytest.mark.timeout(25)
def test_a_lock_that_an_earlier_version_left_costs_nothing(folder: SweepFolder) -> None:
    to_write(folder).ask()
    lock = folder.ledger.with_name("ledger.log.lock")
    lock.symlink_to(folder.ledger)
    again = to_write(folder)
    again.ask()
    assert len(again.entries()) == 2 and not lock.is_symlink()


def call(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["medtune", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


class TestWhoOnlyReads:
    def test_status_changes_no_byte_also_while_a_sweep_runs(
        self, tiny: Any, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        tiny.run_killed(folder, 4)
        for state, tail in (("stopped", b""), ("running", b'{"op_code":7,"worker')):  # a line that is being written
            with folder.ledger.open("ab") as file:
                file.write(tail)
            before = folder.ledger.read_bytes()
            if state == "running":
                folder.lock()
            assert call(monkeypatch, "status", folder.path) == 0
            assert re.search(f"^state    {state}", capfd.readouterr().out, flags=re.MULTILINE)
            assert folder.ledger.read_bytes() == before
        folder.unlock()
        assert {path.name for path in folder.path.glob("ledger*")} == {"ledger.log"}

    @pytest.mark.slow
    def test_report_changes_no_byte(self, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        before = finished.ledger.read_bytes()
        assert call(monkeypatch, "report", finished.path) == 0
        assert finished.ledger.read_bytes() == before

    def test_a_sweep_without_a_ledger_has_no_trials_and_gets_none(self, folder: SweepFolder) -> None:
        ledger = Ledger(folder, folder.config())
        assert ledger.entries() == [] and ledger.looks == 0 and not folder.ledger.exists()

    def test_writing_without_having_said_so_is_refused(self, finished: SweepFolder) -> None:
        with pytest.raises(AssertionError, match="opened to be read"):
            Ledger(finished, finished.config()).look()

    def test_and_opening_it_to_write_appends_nothing(self, finished: SweepFolder) -> None:
        before = finished.ledger.read_bytes()
        to_write(finished)
        assert finished.ledger.read_bytes() == before
