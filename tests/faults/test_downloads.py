"""Downloads from a server on this machine that answers as told, and counts: whatever it does, and whoever is killed,
there is one whole file, or nothing."""

import hashlib
import multiprocessing
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import pytest

from medtune.config.sweep import Data
from medtune.data import DataError
from medtune.data.download import Patience, download
from medtune.data.fetch import fetch

BODY = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(BODY).hexdigest()
HASTY = Patience(connect=2, read=0.3, attempts=3, pause=0.01)
PROCESSES = 16
LIMIT = 60  # seconds for what takes one
IMPORTS = "import os; from pathlib import Path; from medtune.data.download import Patience, download"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    answers: tuple[str, ...] = ("whole",)  # one for each request; the last one stays
    requests = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/tiny.npz?download=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answer = self.server.answers[min(self.server.requests, len(self.server.answers) - 1)]
        self.server.requests += 1
        if answer == "silent":
            self.server.ended.wait()
        elif answer[:3].isdigit():
            self._refuse(int(answer[:3]), answer[4:])
        else:
            self._send(answer)

    def _refuse(self, status: int, retry_after: str) -> None:
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()

    def _send(self, kind: str) -> None:
        if kind == "slow":
            self.server.ended.wait(0.5)
        self.send_response(200)
        length = {"said to be short": 1000, "said to be long": 10**15, "endless": None}.get(kind, len(BODY))
        if length is not None:
            self.send_header("Content-Length", "12, or so" if kind == "said oddly" else str(length))
        self.end_headers()
        try:
            self._send_body(kind)
        except OSError:  # the other side has had enough
            self.close_connection = True

    def _send_body(self, kind: str) -> None:
        bodies = {"cut": BODY[:1000], "hangs": BODY[:500_000], "wrong": BODY[::-1], "more": BODY + b"!" * 1000}
        if kind == "trickles":
            while not self.server.ended.wait(0.02):
                self.wfile.write(b"!")
        while kind == "endless" and not self.server.ended.is_set():
            self.wfile.write(BODY)
        self.wfile.write(bodies.get(kind, BODY))
        if kind == "hangs":
            self.server.ended.wait()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "tiny.npz"


def left_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock"))


def test_download(server: Server, path: Path) -> None:
    told: list[tuple[int, int]] = []
    download(server.url, path, MD5, report=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == BODY and left_in(path.parent) == ["tiny.npz"]
    assert told[-1] == (len(BODY), len(BODY))
    assert path.stat().st_mode & 0o044 or not (path.parent.stat().st_mode & 0o044)  # as readable as other files


PASSING = {  # what a server does, and the cause that is told where it does nothing else
    "cut": "1000 bytes read",
    "wrong": f"instead of {MD5}",
    "silent": "timed out",
    "hangs": "timed out",
    "trickles": "it came at less than 1000 bytes a second",
    "said to be short": f"instead of {MD5}",
    "said to be long": "it is longer than the 2000000 bytes that it can have",
    "endless": "it is longer than the 2000000 bytes that it can have",
    "429": "429",
    "500": "500",
    "503": "503",
}


@pytest.mark.parametrize("answer", PASSING)
def test_what_may_pass_is_tried_again(server: Server, path: Path, answer: str, record_property: Any) -> None:
    record_property("injected", f"{answer}: twice, then the file")
    server.answers = (answer, answer, "whole")
    download(server.url, path, MD5, patience=HASTY, at_most=2_000_000)
    assert path.read_bytes() == BODY and left_in(path.parent) == ["tiny.npz"]
    assert server.requests == 3
    record_property("held", "the third request brought the whole file")


@pytest.mark.parametrize(
    ("answer", "cause", "requests"), [*((answer, PASSING[answer], 2) for answer in PASSING), ("404", "404", 1)]
)
def test_what_does_not_pass_leaves_nothing(
    server: Server, path: Path, answer: str, cause: str, requests: int, record_property: Any
) -> None:
    record_property("injected", f"{answer}: always")
    server.answers = (answer,)
    with pytest.raises(DataError, match=cause) as caught:
        download(server.url, path, MD5, patience=replace(HASTY, attempts=2), at_most=2_000_000)
    assert server.requests == requests
    assert left_in(path.parent) == []
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: ")
    assert f"its MD5 is {MD5}; put {server.url} there by hand" in message and "--set data.root=" in message
    record_property("held", f"{requests} requests, nothing left, one line")


@pytest.mark.parametrize("answer", ["more", "said oddly"])
def test_a_whole_file_is_taken_whatever_is_said_of_it(server: Server, path: Path, answer: str) -> None:
    server.answers = (answer,)
    download(server.url, path, MD5, patience=HASTY)
    assert path.read_bytes() == BODY and server.requests == 1


class TestPauses:
    @pytest.fixture
    def pauses(self) -> list[float]:
        return []

    @pytest.fixture
    def patient(self, pauses: list[float]) -> Patience:
        return Patience(connect=2, read=2, attempts=5, sleep=pauses.append)

    def test_they_grow(self, server: Server, path: Path, pauses: list[float], patient: Patience) -> None:
        server.answers = ("cut", "500", "wrong", "503", "whole")
        download(server.url, path, MD5, patience=patient)
        assert path.read_bytes() == BODY and pauses == [2, 4, 8, 16]

    def test_a_server_gets_the_peace_it_asks_for(
        self, server: Server, path: Path, pauses: list[float], patient: Patience
    ) -> None:
        server.answers = ("429 30", "503 1", "503 soon", "whole")
        download(server.url, path, MD5, patience=patient)
        assert path.read_bytes() == BODY and pauses == [30, 4, 8]

    def test_by_its_own_clock(self, server: Server, path: Path, pauses: list[float], patient: Patience) -> None:
        date = Handler.date_time_string
        monkeypatch = pytest.MonkeyPatch()
        with monkeypatch.context() as patch:  # a year behind ours
            patch.setattr(Handler, "date_time_string", lambda *_: date(None, 1_700_000_000))  # type: ignore[arg-type]
            server.answers = ("503 Tue, 14 Nov 2023 22:14:00 GMT", "whole")
            download(server.url, path, MD5, patience=patient)
        assert path.read_bytes() == BODY and pauses == [40]

    def test_but_nobody_waits_for_hours(
        self, server: Server, path: Path, pauses: list[float], patient: Patience
    ) -> None:
        server.answers = ("429 3600",)
        with pytest.raises(DataError, match=r"429 .*, and asks for 3600 s of peace\)"):
            download(server.url, path, MD5, patience=patient)
        assert pauses == [] and server.requests == 1


def test_a_hash_of_another_kind_by_its_beginning(server: Server, path: Path) -> None:
    sha256 = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(DataError, match=f"SHA256 {sha256} instead of 00000000.*, or take the stairs$"):
        download(server.url, path, "0" * 8, algorithm="sha256", otherwise="or take the stairs", patience=HASTY)
    assert left_in(path.parent) == []
    download(server.url, path, sha256[:8], algorithm="sha256")
    assert path.read_bytes() == BODY


def test_a_mirror_is_held_to_the_published_hash(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="instead of 750601b1f35ba3300ea97c75c52ff8f6"):
        fetch(Data(root=str(tmp_path)), url=server.url, patience=HASTY)
    assert left_in(tmp_path) == []


class TestWithoutANetwork:
    def test_nobody_answers(self, path: Path) -> None:
        with pytest.raises(DataError, match="refused"):
            download("http://127.0.0.1:1/tiny.npz", path, MD5, patience=HASTY)

    def test_a_name_that_nobody_knows_is_told_at_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "*")
        pauses: list[float] = []
        url = "http://nowhere.invalid/tiny.npz"
        with pytest.raises(DataError) as caught:
            download(url, path, MD5, patience=Patience(connect=2, sleep=pauses.append))
        assert str(caught.value) == (
            f"{path}: not there, and the download failed (nowhere.invalid cannot be reached: is there a network?); "
            f"its MD5 is {MD5}; put {url} there by hand, or give the folder that has it with --set data.root=DIR"
        )
        assert pauses == []

    def test_a_machine_that_has_none(self, path: Path, alone: Any, record_property: Any) -> None:
        record_property("injected", "a process without any network interface; a name, and a number as address")
        hosts = ("somewhere.org", "192.0.2.1")
        told = alone(
            "-n",
            IMPORTS,
            f"""
            for host in {hosts}:
                try:
                    download(f"http://{{host}}/tiny.npz", Path({str(path)!r}), {MD5!r}, patience=Patience(sleep=print))
                except DataError as error:
                    print(error)
            """,
        )
        assert told == [
            f"{path}: not there, and the download failed ({host} cannot be reached: is there a network?); its MD5 is "
            f"{MD5}; put http://{host}/tiny.npz there by hand, or give the folder that has it with --set data.root=DIR"
            for host in hosts
        ]
        record_property("held", "told at once, in one line, with file, MD5 and address")


# ---------------------------------------------------------------- disks


def test_a_disk_that_fills_up_and_is_given_room(
    server: Server, tmp_path: Path, alone: Any, record_property: Any
) -> None:
    record_property("injected", "a file system of 256 KiB for a file of 1 MiB, then one of 4 MiB")
    told = alone(
        "-m",
        IMPORTS,
        f"""
        folder = Path({str(tmp_path)!r})
        path, url, md5 = folder / "tiny.npz", {server.url!r}, {MD5!r}
        run("mount", "-t", "tmpfs", "-o", "size=256k", "small", str(folder))
        try:
            download(url, path, md5)
        except DataError as error:
            print(error)
        print(*os.listdir(folder))
        run("mount", "-o", "remount,size=4m", str(folder))
        download(url, path, md5)
        print(*sorted(os.listdir(folder)), path.stat().st_size)
        """,
    )
    assert told == [
        f"{tmp_path}/tiny.npz: not there, and the download failed (No space left on device); make room in {tmp_path}, "
        "or give the folder that has it with --set data.root=DIR",
        ".tiny.npz.lock",
        f".tiny.npz.lock tiny.npz {len(BODY)}",
    ]
    assert server.requests == 2
    record_property("held", "one attempt, nothing left, one line; then the whole file")


def test_a_folder_that_may_not_be_written(server: Server, tmp_path: Path, alone: Any, record_property: Any) -> None:
    record_property("injected", "a read-only file system")
    told = alone(
        "-m",
        IMPORTS,
        f"""
        folder = Path({str(tmp_path)!r})
        run("mount", "-t", "tmpfs", "-o", "ro", "sealed", str(folder))
        download({server.url!r}, folder / "tiny.npz", {MD5!r})
        """,
    )
    assert told == [
        f"{tmp_path}/tiny.npz: not there, and the folder cannot be written (Read-only file system); "
        "make it writable, or give the folder that has it with --set data.root=DIR"
    ]
    assert server.requests == 0
    record_property("held", "told before the server is asked")


# ---------------------------------------------------------------- processes


def _download(url: str, path: Path, told: "SimpleQueue[str]") -> None:
    download(url, path, MD5)
    told.put(hashlib.md5(path.read_bytes()).hexdigest())


def _download_little(url: str, path: Path, told: "SimpleQueue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        download(url, path, MD5)
    except DataError as error:
        told.put(str(error))


Start = Callable[..., list[ForkServerProcess]]


class Processes:
    """Processes that download at once; none outlives the test."""

    def __init__(self, server: Server, path: Path) -> None:
        self.context = multiprocessing.get_context("forkserver")  # a plain fork would copy the server's thread
        self.context.set_forkserver_preload(["medtune.data.fetch", __name__])
        self.told: SimpleQueue[str] = self.context.SimpleQueue()
        self.make = partial(self.context.Process, args=(server.url, path, self.told))
        self.started: list[ForkServerProcess] = []

    def start(self, count: int, what: Callable[..., None] = _download) -> list[ForkServerProcess]:
        new = [self.make(target=what) for _ in range(count)]
        self.started += new
        for process in new:
            process.start()
        return new

    def end(self, processes: list[ForkServerProcess]) -> list[str]:
        """What they told, once all of them have ended well."""
        for process in processes:
            process.join(LIMIT)
        assert [process.exitcode for process in processes] == [0] * len(processes)
        return [self.told.get() for _ in processes]


@pytest.fixture
def processes(server: Server, path: Path) -> Iterator[Processes]:
    made = Processes(server, path)
    yield made
    for process in made.started:
        process.kill()
        process.join()


def until(what: Callable[[], Any]) -> None:
    limit = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_sixteen_processes_make_one_request(
    server: Server, path: Path, processes: Processes, record_property: Any
) -> None:
    record_property("injected", f"{PROCESSES} processes at once")
    server.answers = ("slow",)
    assert processes.end(processes.start(PROCESSES)) == [MD5] * PROCESSES
    assert server.requests == 1 and left_in(path.parent) == ["tiny.npz"]
    record_property("held", f"1 request, {PROCESSES} whole files read")


def test_one_that_is_killed_in_the_middle_is_followed_by_the_next(
    server: Server, path: Path, processes: Processes, record_property: Any
) -> None:
    record_property("injected", f"SIGKILL in the middle of a download that {PROCESSES - 1} processes wait for")
    server.answers = ("hangs", "whole")
    first = processes.start(1)
    part = path.with_name(".tiny.npz.part")
    until(lambda: part.exists() and part.stat().st_size)
    others = processes.start(PROCESSES - 1)
    assert not path.exists()
    first[0].kill()
    assert processes.end(others) == [MD5] * (PROCESSES - 1)
    assert server.requests == 2 and left_in(path.parent) == ["tiny.npz"]
    record_property("held", f"2 requests, {PROCESSES - 1} whole files read")


def test_killed_in_the_middle_again_and_again(
    server: Server, path: Path, processes: Processes, count: Callable[[int], int], record_property: Any
) -> None:
    kills = count(20)
    record_property("injected", f"SIGKILL in the middle of a download, {kills} times")
    server.answers = ("hangs",) * kills + ("whole",)
    part = path.with_name(".tiny.npz.part")
    for _ in range(kills):
        (process,) = processes.start(1)
        until(lambda: part.exists() and part.stat().st_size)
        process.kill()
        process.join()
        assert left_in(path.parent) == [part.name]
        part.write_bytes(BODY + BODY)  # whatever it holds, it is not gone on with
        os.truncate(part, 0)
    assert processes.end(processes.start(1)) == [MD5]
    assert server.requests == kills + 1 and left_in(path.parent) == ["tiny.npz"]
    record_property("held", "never anything under the final name; then the whole file")


def test_a_process_that_may_write_no_more(
    server: Server, path: Path, processes: Processes, record_property: Any
) -> None:
    record_property("injected", "a limit of 100 kB on a file of 1 MiB")
    (told,) = processes.end(processes.start(1, _download_little))
    assert told.startswith(f"{path}: not there, and the download failed (File too large); make room in {path.parent}, ")
    assert left_in(path.parent) == [] and server.requests == 1
    record_property("held", "one attempt, nothing left, one line")
