"""However a verb fails: an exit code that says whose fault it is, clear words, and with --json an object."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from medtune.cli.text import print_json
from medtune.cli.verbs import app
from medtune.config.read import ConfigError
from medtune.data import DataError
from medtune.search.failures import NoRoom
from medtune.search.folder import FolderError
from medtune.search.jobs import TrainingFailed
from medtune.search.resources import ResourceError

Call = Callable[..., tuple[int, str, str]]
BROKEN = Path(__file__).parents[1] / "config" / "broken" / "every-kind-at-once.yaml"
A_FILE = str(BROKEN)
WRONG: dict[str, list[tuple[str, ...]]] = {
    **{
        verb: [("none.yaml",), (A_FILE,), (".",), ("none.yaml", "--set", "x"), ()]
        for verb in ("sweep", "pretrain", "plan", "check")
    },
    **{
        verb: [("nowhere",), (".",), (A_FILE,), ("x" * 300,), ()]
        for verb in ("resume", "status", "select", "retrain", "test", "evaluate", "report", "tracking sync")
    },
    "ui": [("nowhere",), (A_FILE,), ("--port", "many")],
    "doctor": [("none.yaml",), (A_FILE,)],
    "replay": [("nowhere", "0"), (".", "0"), (A_FILE,), ("runs:/none/../x", "3"), (".", "-1"), ()],
    "predict": [("nowhere", "none.png"), (".", A_FILE), (A_FILE, "none.png"), (".",), ()],
    "schema": [("x",)],
    "data list": [("x",)],
    "data info": [("../x",), ("none",), ()],
    "data fetch": [("../x",), ("none",), ("breastmnist", "--size", "3")],
    "data import": [("nowhere",), (A_FILE,), (".", "--split", "a,b"), (".", "--size", "1")],
    "data audit": [("../x",), ("none",), (".",), (".", "--split", "0,0,1"), ("breastmnist", "--size", "29")],
    "data phantom": [("none", "x.npz"), ("phantom-binary", "nowhere/x.npz"), ("breastmnist", "x.npz")],
    "model info": [("../x",), ("none",), ("resnet18", "--graph", "x.txt"), ("resnet18", "--classes", "1")],
    "model export": [("nowhere",), (A_FILE,), (".", "--out", "nowhere/x.onnx")],
}


def verbs(group: Any, above: str = "") -> Iterator[tuple[str, bool]]:
    """Every verb, and whether it has --json."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{name} ")
        else:
            yield f"{above}{name}", any("--json" in option.opts for option in command.params)


VERBS = dict(verbs(typer.main.get_command(app)))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def the_object(code: int, out: str) -> dict[str, Any]:
    told = json.loads(out.splitlines()[-1])
    assert isinstance(told, dict) and told["exit"] == code and isinstance(told["error"], str) and told["error"]
    return told


def test_every_verb_is_tried() -> None:
    assert WRONG.keys() == VERBS.keys()


@pytest.mark.parametrize("verb", WRONG)
def test_wrong_input(verb: str, medtune: Call, tmp_path: Path) -> None:
    for arguments in WRONG[verb]:
        code, out, err = medtune(*verb.split(), *arguments)
        assert (code, out) == (2, "") and err.strip() and "Traceback" not in err, (arguments, err)
        code, out, err = medtune(*verb.split(), *arguments, "--json")
        assert code == 2 and len(out.splitlines()) == 1 and err.strip() and "Traceback" not in err, (arguments, err)
        told = the_object(code, out)
        if VERBS[verb]:
            assert all(line in err for line in told["error"].splitlines()) or "Error" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("--json",), ("none", "--json"), ("data", "--json"), ("swep", "x", "--json")])
def test_verbs_that_are_none(arguments: tuple[str, ...], medtune: Call) -> None:
    code, out, _ = medtune(*arguments)
    assert code == 2 and the_object(code, out)["error"].startswith(("No such", "Missing"))


def test_all_that_is_wrong_with_a_file_is_in_the_object(medtune: Call) -> None:
    _, out, err = medtune("sweep", A_FILE, "--json")
    assert json.loads(out)["error"] == err.rstrip("\n") and len(err.splitlines()) == 9


def test_json_after_two_dashes_is_no_option(medtune: Call) -> None:
    assert medtune("status", "--", "--json")[1] == ""


FILE = "some.file"
ENDS: dict[str, tuple[Callable[[], Any], int, str]] = {
    "a bug": (lambda: [][1], 1, "IndexError: list index out of range"),
    "out of memory": (lambda: bytearray(2**62), 1, "MemoryError"),
    "a full disk": (lambda: Path("/dev/full").write_bytes(b"x"), 1, "no space left on device; make room"),
    "a full disk, with its file": (lambda: raising(OSError(errno.ENOSPC, "", FILE)), 1, f"{FILE}: no space left"),
    "a used-up quota": (lambda: raising(OSError(errno.EDQUOT, "", FILE)), 1, f"{FILE}: the disk quota is used up"),
    "no right": (lambda: raising(PermissionError(errno.EACCES, "", FILE)), 2, f"{FILE}: permission denied; "),
    "a folder for a file": (lambda: Path(".").read_text(), 2, ".: this is a folder; name a file"),
    "a file for a folder": (lambda: Path(A_FILE, "x").read_text(), 2, "/x: a part of this path is a file; "),
    "a long name": (lambda: Path("x" * 300).read_text(), 2, "this name is too long; shorten it"),
    "no such file": (lambda: Path(FILE).read_text(), 2, f"{FILE}: there is no such file or folder; check the path"),
    "a broken connection": (lambda: raising(ConnectionError("reset\nby peer")), 1, "reset by peer"),
    "Ctrl-C": (lambda: raising(KeyboardInterrupt()), 130, "interrupted"),
    "an exit with a reason": (lambda: [typer.echo("why", err=True), raising(typer.Exit(1))], 1, "why"),
    "a wrong option": (lambda: raising(typer.BadParameter("leave it out")), 2, "leave it out"),
    "a folder": (lambda: raising(FolderError("in use")), 2, "in use"),
    "data": (lambda: raising(DataError("damaged")), 2, "damaged"),
    "resources": (lambda: raising(ResourceError("too few")), 2, "too few"),
    "a training": (lambda: raising(TrainingFailed("diverged")), 1, "diverged"),
    "no room": (lambda: raising(NoRoom("the ledger: make room")), 1, "the ledger: make room"),
    "two lines": (lambda: raising(ConfigError(["a:1:1: one", "a:2:1: two"])), 2, "a:1:1: one\na:2:1: two"),
}


def raising(error: BaseException) -> None:
    raise error


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch, medtune: Call) -> Callable[..., tuple[int, str, str]]:
    """`ending(do, *arguments)`: a verb that does that."""

    def call(do: Callable[[], Any], *arguments: str) -> tuple[int, str, str]:
        made = typer.Typer(pretty_exceptions_enable=False)

        @made.command()
        def verb(json: bool = False) -> None:
            do()

        monkeypatch.setattr("medtune.cli.verbs.app", made)
        return medtune(*arguments)

    return call


@pytest.mark.parametrize("how", ENDS)
def test_how_a_verb_can_end(how: str, ending: Callable[..., tuple[int, str, str]]) -> None:
    do, expected, words = ENDS[how]
    code, out, err = ending(do)
    assert (code, out) == (expected, "") and words.splitlines()[-1] in err
    assert ("Traceback" in err) == (how in ("a bug", "out of memory"))
    code, out, err = ending(do, "--json")
    assert code == expected and len(out.splitlines()) == 1 and words in the_object(code, out)["error"]


@pytest.mark.parametrize(("begun", "code"), [('{"best": 1}\n', 1), ('{"best": 1}', 130), ("a line\n{}\n", 1)])
def test_what_a_verb_has_said_is_not_said_again(begun: str, code: int, ending: Any) -> None:
    def do() -> None:
        sys.stdout.write(begun)
        raise typer.Exit(code)

    assert ending(do, "--json")[:2] == (code, begun)


@pytest.mark.parametrize("begun", ["a line", "a line\n", '{"cut": ', "[1]\n", "3\n", "\n\n"])
def test_an_object_stands_in_a_line_of_its_own(begun: str, ending: Any) -> None:
    def do() -> None:
        print(begun, end="")
        raise typer.Exit(1)

    code, out, _ = ending(do, "--json")
    assert the_object(code, out)


def test_success_has_the_object_of_the_verb_alone(ending: Any) -> None:
    assert ending(lambda: print_json({"a": 1}), "--json") == (0, '{"a": 1}\n', "")


@pytest.mark.parametrize("folder", ["FILE/x", "x" * 300, "/proc/x"])
def test_a_folder_that_cannot_be_made(folder: str, medtune: Call, tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("mine")
    code, out, err = medtune("sweep", tiny.file, "--folder", folder, "--json")
    assert code == 2 and the_object(code, out)["error"] == err.strip() and len(err.splitlines()) == 1
    assert (tmp_path / "FILE").read_text() == "mine" and os.listdir(tmp_path) == ["FILE"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "medtune", "schema"]
        told = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert told.returncode == 1 and told.stderr.startswith("no space left on device; make room")
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_of_which_every_trial_fails(tiny: Any, tmp_path: Path, ray_folder: Path) -> None:
    sets = ("--set", "trial.optimizer={name: sgd, lr: 1.0e+9}", "--set", "search.trials=2")
    command = [sys.executable, "-m", "medtune", "sweep", str(tiny.file), *sets, "--json"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 1 and "every trial failed: " in told.stderr
    last = json.loads(told.stdout.splitlines()[-1])
    assert last["trials"]["failed"] == 2 and "error" not in last and told.stdout.count('"trials"') == 1
