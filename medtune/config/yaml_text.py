"""YAML 1.2 text to a plain tree, with the line and column of every key and value.

The node graph is walked here instead of by a constructor, so that positions are kept, all duplicate keys are found at
once, no tag can run anything, and aliases cannot grow without bound.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from medtune.config.problems import ConfigError, Place, Problem, key_shown, shown

Mark = tuple[int, int]  # line and column, both from 1

MAX_LENGTH = 1_000_000  # characters
MAX_NODES = 30_000  # keys and values
MAX_DEPTH = 50
MAX_INTEGER = 2**63
MANY_DIGITS = 1000  # Python reads no whole number of some thousands
CORE = "tag:yaml.org,2002:"
TYPED = {CORE + name for name in ("int", "float", "bool", "null")}
# what older YAML makes a date of or gives a meaning to is text in YAML 1.2
TEXT = {CORE + name for name in ("str", "timestamp", "value")}


UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # no name has them; a terminal obeys some
ENDLESS = re.compile(r"[!&*]\S{1000}")  # for which the parser takes minutes
# what the parser says, by its words, and what a person should know of it; `{opened}`: where it began
SYNTAX = {
    r"character '\\t'": "a tab stands here; indent with spaces",
    r"character '[%@`]'": "no plain text begins with this character; put the text in quotes",
    "values are not allowed": "no colon can stand here; begin each key in a line of its own, at the indentation of the "
    "keys beside it, with a space after its colon, and put text with a colon in quotes",
    "entries are not allowed": "a list cannot begin here; begin it in a line of its own, or write [a, b]",
    "expected ',' or '[]}]'": "the bracket at {opened} is not closed before this; close it, or write a comma",
    "but found '[]}]'": "this bracket closes none; remove it",
    "expected <block end>": "not in one column with the lines from {opened} on; begin the keys of a mapping in one",
    "could not find expected ':'": "a key without a colon; write KEY: VALUE",
    "unexpected end of stream": "the quote at {opened} is not closed; close it",
    "another document": "a second document begins here; keep one, and remove the line ---",
    "undefined alias": "no & before this * gives the name a meaning; put text with a * in quotes",
    "unknown escape|escape sequence": "a backslash begins a special character in double quotes; use single quotes",
    "node content": "a value is missing or begins with a character that needs quotes; put it in quotes",
}


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

    Raises YamlSyntaxError when the text is not YAML, is too long or nested too deeply, or its aliases explode.
    """
    if len(text) > MAX_LENGTH:
        raise YamlSyntaxError(f"over {MAX_LENGTH:,} characters; no file needs so many")
    if endless := ENDLESS.search(text):
        at = (text.count("\n", 0, endless.start()) + 1, endless.start() - text.rfind("\n", 0, endless.start()))
        raise YamlSyntaxError("a tag or an anchor of over 1,000 characters; put text with a !, & or * in quotes", at)
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    try:
        root = yaml.compose(text)
        document = Document()
        document.tree = None if root is None else _Walk(yaml, document).node(root, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlSyntaxError(f"this is not YAML: {_in_words(error)}", _at(mark) if mark else (1, 1)) from error
    except ReaderError as error:
        before, character = text[: error.position], ascii(text[error.position])
        at = (before.count("\n") + 1, error.position - before.rfind("\n"))
        raise YamlSyntaxError(f"this is not YAML: the character {character} cannot be seen; remove it", at) from error
    except YAMLError as error:
        raise YamlSyntaxError(f"this is not YAML: {' '.join(str(error).split())}") from error
    return document


def _in_words(error: MarkedYAMLError) -> str:
    """What is wrong, for people who do not know how a parser works."""
    said = " ".join(str(error.problem or error.context).split())
    told = next((told for words, told in SYNTAX.items() if re.search(words, said)), None)
    if told is None:
        return f"{said}; check quotes, colons and indentation"
    opened = _at(error.context_mark) if error.context_mark else (1, 1)
    return told.format(opened=f"line {opened[0]}, column {opened[1]}")


class _Composer(Composer):  # type: ignore[misc]  # which has no types
    """Ends before memory does: nodes are counted as they are made."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or self.depth >= MAX_DEPTH:
            _refuse(self.nodes > MAX_NODES, _at(self.parser.peek_event().start_mark))
        return super().compose_node(parent, index)


def _refuse(too_many: bool, mark: Mark) -> None:
    if too_many:
        raise YamlSyntaxError(f"over {MAX_NODES:,} keys and values, or aliases of aliases; no file needs so many", mark)
    raise YamlSyntaxError("nested too deeply, or within itself; no file needs more than a few levels", mark)


def size(tree: Any) -> int:
    """How many keys and values a plain tree has, as they are counted against MAX_NODES."""
    if isinstance(tree, dict):
        return 1 + len(tree) + sum(map(size, tree.values()))
    return 1 + sum(map(size, tree)) if isinstance(tree, list | tuple) else 1


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
            _refuse(self.count > MAX_NODES, mark)
        self.document.values[place] = mark
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        if isinstance(node, SequenceNode) and node.tag == CORE + "seq":
            return [self.node(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: MappingNode, place: Place) -> Any:
        if node.tag != CORE + "map":
            return self._problem(place, f"the tag {key_shown(node.tag)} is not read; remove it")
        tree: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, place)
            if key is None:
                continue
            here = (*place, key)
            if key in tree:
                line = self.document.keys[here][0]
                self.document.keys[here] = _mark(key_node)
                what = f"{key_shown(key)} stands twice, first in line {line}; keep one of them"
                self._problem(here, what, at_key=True)
                continue
            self.document.keys[here] = _mark(key_node)
            tree[key] = self.node(value_node, here)
        return tree

    def _key(self, node: Node, place: Place) -> str | None:
        if isinstance(node, ScalarNode) and node.tag in TEXT and not UNSEEN.search(node.value):
            return str(node.value)
        here = (*place, f"key at {node.start_mark.line}:{node.start_mark.column}")
        self.document.values[here] = _mark(node)
        if isinstance(node, ScalarNode) and UNSEEN.search(node.value):
            self._problem(here, f"the key {key_shown(node.value)} has a control character; remove it")
        elif node.tag == CORE + "merge":
            self._problem(here, "the merge key << is not YAML 1.2; write the keys out")
        else:
            written = shown(node.value) if isinstance(node, ScalarNode) else "a list or mapping"
            self._problem(here, f"a key must be text, not {written}; quote it or check the indentation")
        return None

    def _scalar(self, node: Node, place: Place) -> Any:
        if isinstance(node, ScalarNode) and node.tag in TEXT:
            return self._text(node, place)
        if not isinstance(node, ScalarNode) or node.tag not in TYPED:
            return self._problem(place, f"the tag {key_shown(node.tag)} is not read; remove it")
        try:
            value = self.constructor.construct_object(node)
        except (ValueError, KeyError, IndexError, MarkedYAMLError):
            if len(node.value) > MANY_DIGITS:
                return self._problem(place, f"{key_shown(node.value)} is too large a number; write a smaller one")
            kind = str(node.tag).removeprefix(CORE)
            return self._problem(place, f"{shown(node.value)} is no {kind} that can be read; write it plainly")
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            return self._problem(place, f"{key_shown(node.value)} is too large a whole number; write a smaller one")
        return value

    def _text(self, node: ScalarNode, place: Place) -> Any:
        if unseen := UNSEEN.search(node.value):
            return self._problem(place, f"the text has the control character {unseen[0]!a}; remove it")
        if node.value == "None" and not node.style:
            return self._problem(place, "None is a text in YAML; write null, or put it in quotes")
        return node.value

    def _problem(self, place: Place, text: str, at_key: bool = False) -> None:
        self.document.problems.append(Problem(place, text, at_key))


def _mark(node: Node) -> Mark:
    return _at(node.start_mark)


def _at(mark: Any) -> Mark:
    return mark.line + 1, mark.column + 1
