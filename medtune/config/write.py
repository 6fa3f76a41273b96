"""Configurations as YAML that people read, and that reads back to the same values."""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from medtune.config.fill import fill, plain
from medtune.config.kinds import LABELS, PRETRAIN, TRIAL, kind_of, section_of
from medtune.config.notation import kinds_in, to_file
from medtune.config.sweep import SweepConfig


def dump_sweep(config: SweepConfig, target: Path | TextIO) -> None:
    """Write the whole file with defaults filled in, so that `read_sweep` gives an equal configuration.

    A path gets it at once or not at all: to a temporary name beside it, then renamed.
    """
    text = sweep_text(config)
    if isinstance(target, Path):
        _replace(target, text)
    else:
        target.write(text)


def sweep_text(config: SweepConfig) -> str:
    """The whole file with defaults filled in."""
    return dump_yaml(file_tree(config))


def file_tree(config: SweepConfig) -> dict[str, Any]:
    """The plain tree of the file: each key in the section in which the file has it, all defaults filled in."""
    tree: dict[str, Any] = plain(config)
    section, space = section_of(config.trial), to_file(fill(config.trial, kind_of(config.trial)))
    tree["data"][LABELS] = space.pop(LABELS, None)
    tree[section] = space
    del tree[PRETRAIN if section == TRIAL else TRIAL]
    return tree


def without_password(text: str) -> str:
    """An address, or a text with addresses in it, as it may be shown and written down."""
    return re.sub(r"(://[^/:@\s]*):[^/@\s]*@", r"\1:***@", text)


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """A plain tree as YAML 1.2: short lists and distributions in one line, mappings in blocks."""
    yaml = YAML()
    yaml.Representer = _Readable
    yaml.width = 10_000
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_styled(tree), stream)
    return stream.getvalue()


PLAIN = re.compile(r"[\w./~][\w ./:+=@%~-]*")  # what is surely read as it is written, or put in quotes


class _Readable(RoundTripRepresenter):
    """`null` in words, odd texts in quotes, and floats that PyYAML reads as numbers too: 1.0e-5 instead of 1e-05."""

    def text(self, value: str) -> ScalarNode:
        # the emitter leaves some texts plain that the parser does not read, such as ?| in a list
        style = None if PLAIN.fullmatch(value) and value != "None" else "'"  # which is read as somebody's mistake
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    def null(self, value: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")

    def float(self, value: float) -> ScalarNode:
        mantissa, exponential, exponent = repr(value).partition("e")
        if not exponential:
            return self.represent_float(value)
        text = f"{mantissa}{'' if '.' in mantissa else '.0'}e{int(exponent):+d}"
        return self.represent_scalar("tag:yaml.org,2002:float", text)


_Readable.add_representer(str, _Readable.text)
_Readable.add_representer(type(None), _Readable.null)
_Readable.add_representer(float, _Readable.float)


def _styled(tree: Any) -> Any:
    """The tree in ruamel's types, which carry whether a node is written in one line."""
    if isinstance(tree, Mapping):
        mapping = CommentedMap((key, _styled(value)) for key, value in tree.items())
        if not tree or (kinds_in(tree) and not _holds_mappings(tree)):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(tree, list | tuple):
        sequence = CommentedSeq(_styled(item) for item in tree)
        if not _holds_mappings(tree):
            sequence.fa.set_flow_style()
        return sequence
    return tree


def _holds_mappings(tree: Any) -> bool:
    """Whether there is a mapping below a node other than a distribution's, so that one line would be hard to read."""
    nodes = tree.values() if isinstance(tree, Mapping) else tree
    return any(
        (isinstance(node, Mapping) and not kinds_in(node))
        or (isinstance(node, Mapping | list | tuple) and _holds_mappings(node))
        for node in nodes
    )


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
