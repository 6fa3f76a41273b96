"""The command line: one verb a function, text for people, `--json` for programs."""

import contextlib
import errno
import json
import os
import signal
import sys
import traceback
from typing import Any, TextIO

# errors whose text is all that a person needs, and their exit codes; by name: to import them takes long
TOLD = {
    "medtune.config.problems.ConfigError": 2,
    "medtune.data.DataError": 2,
    "medtune.search.folder.FolderError": 2,
    "medtune.search.resources.ResourceError": 2,
    "medtune.search.cluster.ClusterError": 2,
    "medtune.search.machines.StorageError": 2,
    "medtune.search.jobs.TrainingFailed": 1,
    "medtune.search.failures.NoRoom": 1,
}
FULL = {errno.ENOSPC: "no space left on device", errno.EDQUOT: "the disk quota is used up"}
# what a person can put right in what was given, and how
WRONG_PATH = {
    errno.EACCES: "permission denied; give yourself the right to it, or name another place",
    errno.EPERM: "not permitted; give yourself the right to it, or name another place",
    errno.EROFS: "the file system is read-only; name another place",
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.EISDIR: "this is a folder; name a file",
    errno.ENOTDIR: "a part of this path is a file; name a folder",
    errno.EEXIST: "this is there already; name another one",
    errno.ENAMETOOLONG: "this name is too long; shorten it",
    errno.ELOOP: "this link leads in a circle; name what is meant",
}


def main() -> None:
    """Exit 0: done; 1: it ran and failed; 2: the input is wrong; 130: interrupted, resumable.

    With `--json` the last line of stdout is one JSON object however it ends: the verb's own, or, where it came to none,
    `{"error": what stderr says of it, "exit": 1, 2 or 130}`.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is to be closed is closed
    if not _wants_json():
        sys.exit(_run()[0])
    out, err = _LastLine(sys.stdout), _LastLine(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):  # type: ignore[type-var]
        code, why = _run()
    if code and not out.is_object():
        with contextlib.suppress(BrokenPipeError):
            print(
                out.begin + json.dumps({"error": why or err.line or "it ended without a word", "exit": code}),
                flush=True,
            )
    sys.exit(code)


def _wants_json() -> bool:
    given = sys.argv[1:]
    return "--json" in (given[: given.index("--")] if "--" in given else given)


def _run() -> tuple[int, str]:
    """Runs the verb. Its exit code, and why it failed, where that is known better than by the last line of stderr."""
    from medtune.cli.verbs import app

    try:
        app(prog_name="medtune")
    except SystemExit as ended:
        return _ended(ended)
    except KeyboardInterrupt:
        return _failed(130, "interrupted")
    except Exception as error:
        kinds = (f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__)
        if code := next((TOLD[kind] for kind in kinds if kind in TOLD), 0):
            return _failed(code, str(error))
        if isinstance(error, OSError):
            return _failed(*_in_words(error))
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"
    return 0, ""


def _ended(ended: SystemExit) -> tuple[int, str]:
    """How typer ended it: with what it said of wrong arguments, which is more than a line on stderr."""
    from typer.exceptions import TyperException

    code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    cause = ended.__context__
    if cause is not None and isinstance(cause.__cause__, KeyboardInterrupt):
        return _failed(code, "interrupted")
    return code, cause.format_message() if isinstance(cause, TyperException) else ""


def _failed(code: int, why: str) -> tuple[int, str]:
    print(why, file=sys.stderr)
    return code, why


def _in_words(error: OSError) -> tuple[int, str]:
    """The exit code of an error of the system, and one line for it."""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    if error.errno in FULL:
        what = f"{where}{FULL[error.errno]}; make room, then say it again (of a sweep, `medtune resume FOLDER`)"
        return 1, what
    if where and error.errno in WRONG_PATH:
        return 2, f"{where}{WRONG_PATH[error.errno]}"
    said = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return 1, f"{where}{said}"


class _LastLine:
    """A stream, and the last line that was written into it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = ["", ""]  # the last whole one that is not empty, and what was begun after it

    def write(self, text: str) -> int:
        *whole, begun = (self._lines[1] + text).split("\n")
        self._lines = [next((line for line in reversed(whole) if line.strip()), self._lines[0]), begun]
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def line(self) -> str:
        return (self._lines[1].strip() or self._lines[0]).strip()

    @property
    def begin(self) -> str:
        """What a new line has to be begun with."""
        return "\n" if self._lines[1] else ""

    def is_object(self) -> bool:
        """Whether the last line is a JSON object."""
        try:
            return isinstance(json.loads(self.line), dict)
        except ValueError:
            return False
