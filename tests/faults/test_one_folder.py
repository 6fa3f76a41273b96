"""One folder, and many processes that want it at once."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from medtune.search.folder import SweepFolder

AT_ONCE = 20
HEAVY = ("torch", "pandas", "scipy", "mlflow", "ray", "optuna", "sklearn")


class Started:
    """A verb in a process of its own; once it has ended, what it said, and its seconds, of wall and of processor."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.started, self.wall, self.processor = time.monotonic(), 0.0, 0.0
        command = [sys.executable, "-m", "medtune", *arguments]
        self.process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ended(self) -> bool:
        if not self.wall:
            pid, status, used = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.wall, self.processor = time.monotonic() - self.started, used.ru_utime + used.ru_stime
        return bool(self.wall)

    @property
    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_of_twenty_that_start_in_one_folder_at_once_one_runs(
    tiny: Any, tmp_path: Path, shell: Any, record_property: Any
) -> None:
    folder = tmp_path / "runs" / "tiny"
    held = []
    for arguments in (["sweep", str(tiny.file), "--set", "search.trials=1000"], ["resume", "runs/tiny"]):
        started = [Started(*arguments, cwd=tmp_path) for _ in range(AT_ONCE)]
        until = time.monotonic() + 150
        while sum(one.ended() for one in started) < AT_ONCE - 1 or not (folder / "sweep.id").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        refused = [one for one in started if one.ended()]
        (runs,) = [one for one in started if not one.ended()]
        shell.left += [*psutil.Process(runs.process.pid).children(recursive=True)]
        runs.process.kill()
        runs.process.wait()
        for one in shell.left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for one in refused:
            said = one.said
            assert one.process.returncode == 2 and said.count("\n") == 1 and f"`medtune resume {folder}`" in said, said
        wall, processor = max(one.wall for one in refused), max(one.processor for one in refused)
        held.append(f"{arguments[0]}: one runs, {len(refused)} exit 2 in {wall:.1f} s, {processor:.2f} s of processor")
    record_property("injected", f"`sweep FILE` {AT_ONCE} times at once, and then `resume` {AT_ONCE} times at once")
    record_property("held", "; ".join(held))
    opened = SweepFolder.open(folder)
    assert not opened.running and opened.config().search.trials == 1000


REFUSED = """
import sys
from medtune.cli import main
sys.argv = ["medtune", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print(ended.code, *[name for name in {heavy} if name in sys.modules])
"""


@pytest.mark.parametrize("verb", ["sweep", "resume"])
def test_a_refusal_imports_nothing_heavy(verb: str, tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "runs" / "tiny")
    folder.lock()
    arguments = [tiny.file] if verb == "sweep" else [folder.path]
    command = [sys.executable, "-c", REFUSED.format(heavy=HEAVY), verb, *map(str, arguments)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    folder.unlock()
    assert ended.stdout == "2\n" and f"`medtune resume {folder.path}`" in ended.stderr
