"""A sweep file, read with every error at once."""

from collections.abc import Sequence
from pathlib import Path

from medtune.config.check import check
from medtune.config.overrides import Sources, apply_overrides
from medtune.config.problems import ConfigError
from medtune.config.sweep import SweepConfig
from medtune.config.yaml_text import MAX_LENGTH, Document, YamlSyntaxError, parse

__all__ = ["ConfigError", "read_sweep"]


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """The configuration that a sweep file means, with `key=value` overrides on top; defaults are filled in.

    Raises ConfigError with all that is wrong, in the order of the file, problems of overrides last.
    """
    sources = Sources(str(path), _document(path))
    refused = apply_overrides(sources, overrides)
    known = sources.document.problems
    config, problems = check(sources.document.tree, known)
    ordered = sorted([*known, *problems], key=sources.order)
    lines = [*dict.fromkeys(sources.line(problem) for problem in ordered), *refused]
    if lines or config is None:
        raise ConfigError(lines)
    return config


def _document(path: Path) -> Document:
    text = _text(path)
    try:
        document = parse(text)
    except YamlSyntaxError as error:
        line, column = error.mark
        raise ConfigError([f"{path}:{line}:{column}: {error.text}"]) from error
    if document.tree is None and not document.problems:
        raise ConfigError([f"{path}:1:1: the file is empty; begin it with sweep: NAME"])
    if not isinstance(document.tree, dict):
        raise ConfigError([f"{path}:1:1: the file must be a mapping; begin it with sweep: NAME"])
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            written = file.read(MAX_LENGTH + 1)
    except FileNotFoundError as error:
        raise ConfigError([f"{path}: there is no such file; check the path"]) from error
    except IsADirectoryError as error:
        raise ConfigError([f"{path}: this is a folder; give the sweep file in it"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; check its name and its permissions"]) from error
    if len(written) > MAX_LENGTH:
        raise ConfigError([f"{path}:1:1: over {MAX_LENGTH:,} bytes; no sweep file needs so many: is it another file?"])
    try:
        # a mark at the beginning, as some editors write it, is no text
        return written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = written[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise ConfigError([f"{path}:{line}:{column}: this is not UTF-8 text; save it as UTF-8"]) from error
