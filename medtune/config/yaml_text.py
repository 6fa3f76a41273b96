"""YAML 1.2 text to a plain tree, with the line and column of every key and value.

The node graph is walked here instead of by a constructor, so that positions are kept, all duplicate keys are found at
once, no tag can run anything, and aliases cannot grow without bound.
"""

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from medtune.config.problems import ConfigError, Place, Problem, shown

Mark = tuple[int, int]  # line and column, both from 1

MAX_NODES = 50_000
MAX_DEPTH = 50
CORE = "tag:yaml.org,2002:"
TYPED = {CORE + name for name in ("int", "float", "bool", "null")}
# what older YAML makes a date of or gives a meaning to is text in YAML 1.2
TEXT = {CORE + name for name in ("str", "timestamp", "value")}


class YamlSyntaxError(Exception):
    """The text is no YAML that is read here; `mark` says where."""

    def __init__(self, text: str, mark: Mark = (1, 1)) -> None:
        super().__init__(text)
        self.text = text
        self.mark = mark


@dataclass
class Document:
    """A tree of dicts, lists and plain values, with the marks of its keys and values by place."""

    tree: Any = None
    keys: dict[Place, Mark] = field(default_factory=dict)
    values: dict[Place, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def parse(text: str) -> Document:
    """The document in `text`; duplicate keys and foreign tags are in its `problems`.

    Raises YamlSyntaxError when the text is not YAML, is nested too deeply, or its aliases explode.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        document = Document()
        document.tree = None if root is None else _Walk(yaml, document).node(root, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(str(error.problem or error.context).split())
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise YamlSyntaxError(f"this is not YAML: {words}; check quotes, colons and indentation", at) from error
    except YAMLError as error:
        words = " ".join(str(error).split())
        raise YamlSyntaxError(f"this is not YAML: {words}; remove the character") from error
    except RecursionError as error:
        raise YamlSyntaxError("nested too deeply; no file needs more than a few levels") from error
    return document


def load_yaml(text: str, source: str = "text") -> Any:
    """The plain tree of a YAML 1.2 text, such as a trial's `config.yaml`.

    Raises ConfigError, with `source` as the name of the file, for whatever cannot be read as it was meant.
    """
    try:
        document = parse(text)
    except YamlSyntaxError as error:
        raise ConfigError([f"{source}:{error.mark[0]}:{error.mark[1]}: {error.text}"]) from error
    if document.problems:
        marks = [document.keys.get(p.place) or document.values[p.place] for p in document.problems]
        found = zip(marks, document.problems, strict=True)
        raise ConfigError([f"{source}:{line}:{column}: {problem.text}" for (line, column), problem in found])
    return document.tree


class _Walk:
    """One walk over a node graph, which counts nodes so that aliases of aliases end."""

    def __init__(self, yaml: YAML, document: Document) -> None:
        self.constructor = yaml.constructor
        self.document = document
        self.count = 0

    def node(self, node: Node, place: Place) -> Any:
        self.count += 1
        mark = _mark(node)
        if self.count > MAX_NODES or len(place) > MAX_DEPTH:
            raise YamlSyntaxError("too many nodes, or aliases of aliases; write the values out", mark)
        self.document.values[place] = mark
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        if isinstance(node, SequenceNode) and node.tag == CORE + "seq":
            return [self.node(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: MappingNode, place: Place) -> Any:
        if node.tag != CORE + "map":
            return self._problem(place, f"the tag {node.tag} is not read; remove it")
        tree: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, place)
            if key is None:
                continue
            here = (*place, key)
            if key in tree:
                line = self.document.keys[here][0]
                self.document.keys[here] = _mark(key_node)
                self._problem(here, f"{key} stands twice, first in line {line}; keep one of them", at_key=True)
                continue
            self.document.keys[here] = _mark(key_node)
            tree[key] = self.node(value_node, here)
        return tree

    def _key(self, node: Node, place: Place) -> str | None:
        if isinstance(node, ScalarNode) and node.tag in TEXT:
            return str(node.value)
        here = (*place, f"key at {node.start_mark.line}:{node.start_mark.column}")
        self.document.values[here] = _mark(node)
        if node.tag == CORE + "merge":
            self._problem(here, "the merge key << is not YAML 1.2; write the keys out")
        else:
            written = shown(node.value) if isinstance(node, ScalarNode) else "a list or mapping"
            self._problem(here, f"a key must be text, not {written}; quote it or check the indentation")
        return None

    def _scalar(self, node: Node, place: Place) -> Any:
        if isinstance(node, ScalarNode) and node.tag in TEXT:
            return node.value
        if not isinstance(node, ScalarNode) or node.tag not in TYPED:
            return self._problem(place, f"the tag {node.tag} is not read; remove it")
        try:
            return self.constructor.construct_object(node)
        except (ValueError, KeyError, MarkedYAMLError):
            return self._problem(place, f"{shown(node.value)} is no {node.tag.removeprefix(CORE)}; write it plainly")

    def _problem(self, place: Place, text: str, at_key: bool = False) -> None:
        self.document.problems.append(Problem(place, text, at_key))


def _mark(node: Node) -> Mark:
    return node.start_mark.line + 1, node.start_mark.column + 1
