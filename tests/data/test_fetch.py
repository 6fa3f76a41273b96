"""The download against a server on this machine that answers as told, and counts."""

import hashlib
import multiprocessing
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medtune.config.sweep import Data
from medtune.data import DataError
from medtune.data import download as room
from medtune.data.download import Patience, download, file_md5
from medtune.data.fetch import dataset_path, fetch

BODY = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(BODY).hexdigest()
HASTY = Patience(connect=2, read=0.3, attempts=3, pause=0.01)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    answers: tuple[str, ...] = ("whole",)  # one for each request; the last one stays
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/tiny.npz?download=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answer = self.server.answers[min(self.server.requests, len(self.server.answers) - 1)]
        self.server.requests += 1
        if answer.isdigit():
            self.send_error(int(answer))
            return
        if answer == "slow":
            time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write({"cut": BODY[:1000], "hang": BODY[:1000], "wrong": BODY[::-1]}.get(answer, BODY))
        if answer == "hang":
            time.sleep(1)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
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


@pytest.mark.parametrize("first", ["cut", "wrong", "503", "hang"])
def test_what_may_pass_is_tried_again(server: Server, path: Path, first: str) -> None:
    server.answers = (first, "whole")
    download(server.url, path, MD5, patience=HASTY)
    assert path.read_bytes() == BODY and left_in(path.parent) == ["tiny.npz"]
    assert server.requests == 2


@pytest.mark.parametrize(
    ("answer", "cause", "requests"),
    [("cut", "1000 bytes read", 3), ("wrong", "instead of " + MD5, 3), ("hang", "timed out", 3), ("404", "404", 1)],
)
def test_what_does_not_pass_leaves_nothing(server: Server, path: Path, answer: str, cause: str, requests: int) -> None:
    server.answers = (answer,)
    with pytest.raises(DataError, match=cause) as caught:
        download(server.url, path, MD5, patience=HASTY)
    assert server.requests == requests
    assert left_in(path.parent) == []
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: ") and server.url in message
    assert "--set data.root=" in message


def test_a_hash_of_another_kind_by_its_beginning(server: Server, path: Path) -> None:
    sha256 = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(DataError, match=f"SHA256 {sha256} instead of 00000000.*, or take the stairs$"):
        download(server.url, path, "0" * 8, algorithm="sha256", otherwise="or take the stairs", patience=HASTY)
    assert left_in(path.parent) == []
    download(server.url, path, sha256[:8], algorithm="sha256")
    assert path.read_bytes() == BODY


def test_nobody_answers(path: Path) -> None:
    with pytest.raises(DataError, match="refused"):
        download("http://127.0.0.1:1/tiny.npz", path, MD5, patience=HASTY)


def test_what_a_killed_process_left_is_no_hindrance(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.with_name(f".{path.name}.part").write_bytes(BODY + BODY)
    path.with_name(f".{path.name}.lock").touch()
    download(server.url, path, MD5, patience=HASTY)
    assert path.read_bytes() == BODY and left_in(path.parent) == ["tiny.npz"]


def test_eight_processes_make_one_request(server: Server, path: Path) -> None:
    server.answers = ("slow",)
    context = multiprocessing.get_context("forkserver")  # a plain fork would copy the server's thread
    context.set_forkserver_preload(["medtune.data.fetch"])
    processes = [context.Process(target=download, args=(server.url, path, MD5)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(10)
    assert [process.exitcode for process in processes] == [0] * 8
    assert server.requests == 1 and path.read_bytes() == BODY


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = Data(root=str(tmp_path / "file" / "below"))
    with pytest.raises(DataError, match=r"breastmnist\.npz: not there, and the folder cannot be written .*data\.root="):
        fetch(data)


def test_fetch_takes_a_mirror_but_only_the_published_hash(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="instead of 750601b1f35ba3300ea97c75c52ff8f6"):
        fetch(Data(root=str(tmp_path)), url=server.url, patience=HASTY)
    assert left_in(tmp_path) == []


def test_a_file_with_another_hash_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "breastmnist.npz").write_bytes(b"something else")
    with pytest.raises(DataError, match="is not the published file") as caught:
        fetch(Data(root=str(tmp_path)))
    assert "move it away" in str(caught.value)
    assert (tmp_path / "breastmnist.npz").read_bytes() == b"something else"


def test_names_are_those_of_medmnist(tmp_path: Path) -> None:
    assert dataset_path(Data(root=str(tmp_path))) == tmp_path / "breastmnist.npz"
    assert dataset_path(Data(dataset="pathmnist", size=224, root=str(tmp_path))) == tmp_path / "pathmnist_224.npz"
    assert dataset_path(Data()) == Path.home() / ".medmnist" / "breastmnist.npz"
    with pytest.raises(DataError, match="there is no file"):
        dataset_path(Data(dataset="phantom-binary"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A cache of its own, every file counts as big; the list grows by each file that is really hashed."""
    monkeypatch.setattr(room, "REMEMBER_FROM", 0)
    monkeypatch.setattr(room.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    names: list[str] = []
    real = room._hash
    monkeypatch.setattr(room, "_hash", lambda file: names.append(file.name) or real(file))
    return names


def test_a_big_file_is_hashed_once(hashed: list[str], tmp_path: Path) -> None:
    file = tmp_path / "big.npz"
    file.write_bytes(BODY)
    assert file_md5(file) == file_md5(file) == MD5
    assert len(hashed) == 1
    file.write_bytes(BODY[::-1] + b"!")
    assert file_md5(file) != MD5
    assert len(hashed) == 2


def test_a_damaged_note_is_no_note(hashed: list[str], tmp_path: Path) -> None:
    file = tmp_path / "big.npz"
    file.write_bytes(BODY)
    file_md5(file)
    (note,) = (tmp_path / "cache" / "medtune" / "verified").iterdir()
    note.write_text("[1, 2")
    assert file_md5(file) == MD5
    assert len(hashed) == 2


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        file_md5(tmp_path / "none.npz")
