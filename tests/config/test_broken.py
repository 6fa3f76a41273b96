"""Broken sweep files as people write them: NAME.yaml, and in NAME.txt every line that is said about it."""

import subprocess
import sys
from pathlib import Path

import pytest

from medtune.config.read import ConfigError, read_sweep

BROKEN = Path(__file__).parent / "broken"
NAMES = sorted(path.stem for path in BROKEN.glob("*.txt"))
REAL = ("a-folder", "every-kind-at-once", "no-such-file", "not-utf-8", "tab-indentation")


def test_there_are_many_and_each_has_its_messages() -> None:
    assert len(NAMES) >= 60
    assert {path.stem for path in BROKEN.glob("*.yaml")} == set(NAMES) - {"no-such-file"}


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_wrong_is_said_with_its_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    with pytest.raises(ConfigError) as caught:
        read_sweep(Path(f"{name}.yaml"))
    assert caught.value.problems == (BROKEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", REAL)
def test_on_the_command_line(name: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "medtune", "check", f"{name}.yaml"],
        cwd=BROKEN,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    expected = (BROKEN / f"{name}.txt").read_text(encoding="utf-8")
    assert (said.returncode, said.stdout, said.stderr) == (2, "", expected)
