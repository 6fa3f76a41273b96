"""Verbs as people run them, in processes that a test may kill; and how often each fault is injected."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PATIENCE = 100  # seconds for what takes some


@pytest.fixture
def count() -> Callable[[int], int]:
    """`count(20)`: how often a fault is injected that the table of docs/faults.md counts 20 times: a fifth of it, and
    all of it in `benchmarks/faults.py`."""
    whole = bool(os.environ.get("MEDTUNE_ALL_FAULTS"))
    return lambda all_of_them: all_of_them if whole else -(-all_of_them // 5)


class Shell:
    """Runs verbs in processes of their own, with streams in files, and ends all that they leave behind."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.left: list[psutil.Process] = []

    def start(self, *arguments: Any, alone: bool = False) -> subprocess.Popen[str]:
        """alone: in a group of processes of its own, as a shell has it."""
        command = [sys.executable, "-m", "medtune", *map(str, arguments)]
        with (self.cwd / "out").open("w") as out, (self.cwd / "err").open("w") as err:
            environment = {name: value for name, value in os.environ.items() if name != "UV"}
            streams = {"stdout": out, "stderr": err}
            return subprocess.Popen(
                command, cwd=self.cwd, env=environment, text=True, start_new_session=alone, **streams
            )

    def wait_for(self, what: Callable[[], Any], process: subprocess.Popen[str], seconds: float = PATIENCE) -> None:
        """Until something is so; fails when the process ends before."""
        until = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        code = process.wait(PATIENCE)
        return code, (self.cwd / "out").read_text(), (self.cwd / "err").read_text()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """The driver at once; its mirror ends by itself; Ray's processes get some seconds to notice."""
        self.left = psutil.Process(process.pid).children(recursive=True)
        mirrors = [child for child in self.left if "medtune.tracking.mirror" in child.cmdline()]
        process.kill()
        process.wait()
        assert len(mirrors) <= 1  # it may not have begun
        assert psutil.wait_procs(mirrors, timeout=PATIENCE)[1] == []
        self.end()

    def end(self) -> None:
        for child in psutil.wait_procs(self.left, timeout=5)[1]:
            child.kill()
        psutil.wait_procs(self.left, timeout=5)


@pytest.fixture
def shell(tmp_path: Path, ray_folder: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()
    of_ours = [p for p in psutil.process_iter(["cmdline"]) if str(ray_folder) in " ".join(p.info["cmdline"] or ())]
    left = psutil.wait_procs(of_ours, timeout=10)[1]
    for process in left:
        process.kill()
    assert left == []


@pytest.fixture
def alone() -> Callable[..., list[str]]:
    """`alone("-m", "import os", "print(os.sep)")`: the lines that a script prints in a process that has mounts (-m) or
    a network (-n) of its own, which end with it. It has `run("mount", ...)`, and a DataError is printed too.

    Skips where the machine does not give us such rooms."""

    def run(what: str, imports: str, script: str) -> list[str]:
        unshare = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), what]
        if sys.platform != "linux" or subprocess.run([*unshare, "true"], capture_output=True).returncode:
            pytest.skip("needs `unshare`, for mounts and networks of its own")
        head = f"import subprocess; from medtune.data import DataError; {imports}\n"
        head += "def run(*command): return subprocess.run(command, check=True, capture_output=True)\n"
        body = textwrap.indent(textwrap.dedent(script), "    ")
        text = f"{head}try:\n{body}\nexcept DataError as error: print(error)\n"
        told = subprocess.run([*unshare, sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE)
        assert told.returncode == 0, told.stderr
        return told.stdout.splitlines()

    return run
