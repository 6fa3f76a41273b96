"""A ledger in PostgreSQL: several drivers, kills, and a server that goes away."""

import gc
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from medtune.cli import main
from medtune.config.read import ConfigError
from medtune.frames import load_sweep
from medtune.search import database
from medtune.search.events import EpochEnded, Watcher
from medtune.search.failures import NoRoom
from medtune.search.folder import FolderError, SweepFolder
from medtune.search.ledger import Ledger
from medtune.search.reading import read_ledger
from medtune.search.sweep import create_sweep

PASSWORD = "s3cret"
FOUND = [shutil.which("postgres"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), reverse=True)]
BIN = next((Path(path).parent for path in FOUND if path), Path())

pytestmark = pytest.mark.skipif(Path() == BIN, reason="there is no postgres on this machine")


class Server:
    """PostgreSQL on a free port of this machine, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user: dict[str, Any] = {}
        if os.getuid() == 0:  # whom it refuses
            nobody = pwd.getpwnam("nobody")
            self.user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        self._call("initdb", "-D", "data", "-U", "medtune", "-A", "scram-sha-256", "--pwfile=password", "--no-sync")
        self.process: subprocess.Popen[bytes] | None = None

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run([str(BIN / program), *arguments], cwd=self.folder, check=True, capture_output=True, **self.user)

    def start(self) -> None:
        command = [BIN / "postgres", "-D", "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder, "-F"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self.user)
        while True:
            try:
                return psycopg.connect(self.address("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self.process.poll() is None

    def stop(self) -> None:
        """As its service does: those who are connected are thrown out."""
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait(30)
            self.process = None

    def address(self, name: str, password: str = PASSWORD) -> str:
        return f"postgresql://medtune:{password}@127.0.0.1:{self.port}/{name}"

    def new(self, name: str) -> str:
        """The address of an empty database."""
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.address(name)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="mt-pg-"))
    folder.chmod(0o755)
    server = Server(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def address(server: Server, request: pytest.FixtureRequest) -> str:
    return server.new(re.sub(r"\W+", "_", request.node.name.lower())[:60])


@pytest.fixture
def folder(tiny: Any, address: str, tmp_path: Path) -> SweepFolder:
    return tiny.create(tmp_path / "runs" / "tiny", f"cluster.ledger={address}")


def records(tiny: Any, folder: SweepFolder) -> list[Any]:
    """All that the ledger knows, and the epochs without their times."""
    entries, points, looks = read_ledger(folder, folder.config())
    epochs = [[record["val/auroc"] for record in folder.epochs(entry.number)] for entry in entries]
    return [entries, points, looks, epochs]


DRIVER = """
import sys
from pathlib import Path
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger

driver, folder = int(sys.argv[1]), SweepFolder(Path(sys.argv[2]))
config = folder.config()
print("ready", flush=True)
sys.stdin.readline()
ledger = Ledger(folder, config, write=True)
for trial in range(20):
    preset = {"batch_size": driver % 2, "model.dropout": driver / 100, "optimizer": 0, "optimizer[0].lr": 0.001}
    number, point = ledger.ask(None if trial else preset)
    ledger.report(number, 1, point["model.dropout"])
    ledger.tell(number, "complete", point["model.dropout"])
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_eight_drivers_of_twenty_trials(
    tiny: Any, folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    """They make the tables, the study and the trials at once. Each begins with a point of its own."""
    record_property("injected", "8 drivers of 20 trials at once, on an empty database")
    command = [sys.executable, "-c", DRIVER]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    drivers = [subprocess.Popen([*command, str(one), str(folder.path)], **streams) for one in range(8)]
    try:
        assert [driver.stdout.readline() for driver in drivers] == ["ready\n"] * 8
        for driver in drivers:
            driver.stdin.write("\n")
            driver.stdin.flush()
        assert [driver.communicate(timeout=200)[1] for driver in drivers] == [""] * 8
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()
    entries, points, _ = read_ledger(folder, folder.config())
    assert [entry.number for entry in entries] == list(range(160))
    assert {entry.state for entry in entries} == {"complete"}
    preset = [
        point["model.dropout"]
        for point in points.values()
        if point["optimizer"] == 0 and point["model.dropout"] in [driver / 100 for driver in range(8)]
    ]
    assert sorted(preset) == [driver / 100 for driver in range(8)]
    monkeypatch.setattr(os, "fsync", lambda file: None)
    alone = Ledger(tiny.create(tmp_path / "alone"), tiny.config(), write=True)
    drawn = dict(alone.ask() for _ in range(160))
    same = [number for number in range(160) if points[number] == drawn[number]]
    assert len(same) == 160 - 8  # a trial's draws come from its number, whoever asked for it
    record_property(
        "held", f"{len(entries)} trials, numbered 0 to {entries[-1].number}; 8 of 8 first points, once each"
    )


def test_a_sweep_is_the_one_that_it_is_with_a_journal(
    tiny: Any, folder: SweepFolder, finished_once: SweepFolder, tmp_path: Path
) -> None:
    tiny.run(tiny.open(folder))
    assert repr(records(tiny, folder)) == repr(records(tiny, finished_once))
    assert not folder.ledger.exists()
    seen = [path for path in folder.path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert seen == [folder.config_file]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_between_any_two_messages_it_comes_to_the_same_end(
    tiny: Any, address: str, finished_once: SweepFolder, tmp_path: Path, count: Any, record_property: Any
) -> None:
    expected = records(tiny, finished_once)
    messages = sum(map(len, expected[3]))
    kills = range(1, messages, messages // count(messages))
    for kill in kills:
        folder = tiny.create(tmp_path / str(kill), f"cluster.ledger={address}")  # other sweeps in one database
        tiny.run_killed(folder, kill)
        tiny.run(tiny.open(folder))
        assert repr(records(tiny, folder)) == repr(expected), kill
    record_property("injected", f"a driver killed after {len(kills)} of {messages} messages, its ledger in PostgreSQL")
    record_property("held", "the same points, values and states as with a journal, without a break")


@pytest.mark.slow
def test_the_server_starts_again_in_the_middle(
    tiny: Any, server: Server, folder: SweepFolder, finished_once: SweepFolder, capfd: Any, record_property: Any
) -> None:
    class Restarts(Watcher):
        left = 3

        def epoch_ended(self, event: EpochEnded) -> None:
            if self.left:
                self.left -= 1
                server.stop()
                later = threading.Timer(1.5, server.start)
                later.start()
                timers.append(later)

    timers: list[threading.Timer] = []
    tiny.run(tiny.open(folder, Restarts()))
    for timer in timers:
        timer.join()
    assert repr(records(tiny, folder)) == repr(records(tiny, finished_once))
    err = capfd.readouterr().err
    assert "is away: waiting for it" in err and PASSWORD not in err
    record_property("injected", "the database server stopped 3 times in a sweep, for 1.5 s each")
    record_property("held", "the sweep waited and went on; the same points, values and states")


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_sweep_which_goes_on_later(
    tiny: Any, server: Server, folder: SweepFolder, finished_once: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 1.0)
    tiny.run_killed(folder, 3)
    run = tiny.open(folder)
    server.stop()
    try:
        with pytest.raises(NoRoom, match=r"the ledger postgresql://medtune:\*\*\*@127.* is away: "):
            tiny.run(run)
        with pytest.raises(FolderError, match="cannot be opened: connection"):
            tiny.open(folder)
    finally:
        server.start()
    tiny.run(tiny.open(folder))
    assert repr(records(tiny, folder)) == repr(records(tiny, finished_once))


@pytest.mark.slow
def test_a_connection_that_breaks_in_the_middle_of_a_word_ends_the_sweep_with_a_line(
    server: Server, folder: SweepFolder
) -> None:
    ledger = Ledger(folder, folder.config(), write=True)
    number, _ = ledger.ask()
    with psycopg.connect(server.address("postgres"), autocommit=True) as connection:
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"

        def cut(session: Any, *rest: Any) -> None:
            connection.execute(kill.replace("current_database()", f"'{address_of(folder)}'"))

        event.listen(ledger.study._storage._backend.scoped_session.session_factory, "before_commit", cut)
        with pytest.raises(NoRoom, match="is away: "):
            ledger.report(number, 1, 0.5)
    again = Ledger(folder, folder.config(), write=True)
    again.reopen(number)
    again.report(number, 1, 0.5)
    assert again.entries()[0].values == {1: 0.5}


def address_of(folder: SweepFolder) -> str:
    return str(folder.config().cluster.ledger).rpartition("/")[2]


@pytest.mark.slow
def test_status_and_selection_work_and_the_password_is_in_nothing_that_they_say(
    tiny: Any, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny.run(tiny.open(folder))
    for verb in ("status", "select"):
        monkeypatch.setattr(sys, "argv", ["medtune", verb, str(folder.path)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capfd.readouterr()
        gc.collect()  # a process that has ended holds no lock
    assert len(load_sweep(folder.path).trials) == 5  # by which the report is made
    told = capfd.readouterr()
    assert "5 trials" in told.out and PASSWORD not in told.out + told.err
    seen = [path for path in folder.path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert seen == [folder.config_file]


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            (
                lambda server: server.address("postgres", "no" + PASSWORD),
                'password authentication failed for user "medtune"',
            ),
            (lambda server: server.address("nothing"), 'database "nothing" does not exist'),
            (lambda server: f"postgresql://medtune:{PASSWORD}@127.0.0.1:1/medtune", "onnection refused"),
        ],
    )
    def test_is_one_line_without_the_password_and_leaves_no_folder(
        self, wrong: Any, why: str, server: Server, tiny: Any, tmp_path: Path
    ) -> None:
        config = tiny.config(f"cluster.ledger={wrong(server)}")
        with pytest.raises(FolderError) as refused:
            create_sweep(config, SweepFolder.claim(tmp_path / "sweep"))
        text = str(refused.value)
        assert why in text and "\n" not in text and PASSWORD not in text and "postgresql://medtune:***@" in text
        assert not (tmp_path / "sweep").exists()

    def test_without_psycopg_the_line_says_what_to_install(
        self, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(FolderError, match=r'needs psycopg: pip install "medtune\[postgresql\]"'):
            database.open_database("postgresql://medtune@127.0.0.1:1/medtune")

    @pytest.mark.parametrize(
        "address",
        [
            "sqlite:///a.db",
            "mysql://a@b/c",
            "postgresql://a:b/c@d/e",
            "postgresql://a@d/e?password=b",
            "postgresql://a:b@d",
        ],
    )
    def test_is_refused_in_the_file(self, address: str, tiny: Any) -> None:
        with pytest.raises(
            ConfigError, match=r"cluster.ledger: write postgresql://USER@HOST/DATABASE, with the password"
        ):
            tiny.config(text=f"sweep: a\ncluster: {{ledger: '{address}'}}\n")
