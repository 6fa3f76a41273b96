"""A plain tree held against a model, and pydantic's errors in the words of the file."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from medtune.config.fields import Model, annotation_at, names, part_named, parts, sections
from medtune.config.problems import Place, dotted, listed, nearest, shown
from medtune.config.space import KINDS
from medtune.config.sweep import SweepConfig
from medtune.config.trial import TrialConfig

TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
BOUNDS = {
    "greater_than": "above {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than": "below {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "finite_number": "a finite number",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text of the form {pattern}",
}
YES_NO = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


@dataclass(frozen=True)
class Finding:
    steps: Place  # below the tree that was checked
    kind: Literal["key", "branch", "type", "value"]  # an unknown key, one of another branch, a wrong type or value
    text: str
    expected: str = ""  # what the value must be, where that is known


def findings(model: Model, tree: Mapping[str, Any], above: Place = ()) -> list[Finding]:
    """Everything that is wrong with a plain `tree`, one finding a place; `above` is where it stands in the file.

    Strict: `"3"` is no number and 3.0 no whole one.
    """
    try:
        model.model_validate(tuples(tree), strict=True)
    except ValidationError as error:
        grouped: dict[Place, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            grouped.setdefault(_steps(detail, tree), []).append(detail)
        return [_finding(model, tree, steps, details, above) for steps, details in grouped.items()]
    return []


def tuples(tree: Any) -> Any:
    """The tree with tuples for lists, as a strict model wants them."""
    if isinstance(tree, Mapping):
        return {key: tuples(value) for key, value in tree.items()}
    return tuple(tuples(item) for item in tree) if isinstance(tree, list) else tree


def _steps(detail: ErrorDetails, tree: Any) -> Place:
    """Pydantic's location without its names of branches and types, which the tree does not have."""
    steps: list[str | int] = []
    *path, last = detail["loc"]
    for position, step in enumerate([*path, last]):
        if isinstance(tree, Mapping) and step == tree.get("name") and position < len(path):
            continue
        known = step in tree if isinstance(tree, Mapping) else isinstance(tree, list) and isinstance(step, int)
        if known:
            tree = tree[step]
            steps.append(step)
    if detail["type"] == "missing":
        steps.append(last)
    if detail["type"].startswith("union_tag"):
        steps.append("name")
    return tuple(steps)


def _finding(model: Model, tree: Any, steps: Place, details: list[ErrorDetails], above: Place) -> Finding:
    first, name = details[0], dotted((*above, *steps))
    if first["type"] == "extra_forbidden":
        return _unknown_key(model, tree, steps, above)
    if first["type"] == "missing":
        return Finding(steps, "value", f"{name} is missing; write {steps[-1]}: ...")
    if first["type"] == "value_error":
        return Finding(steps, "value", f"{name}: {first['ctx']['error']}")
    in_union = first["type"].startswith("union_tag")
    around = annotation_at(model, tree, steps[:-1] if in_union else steps)
    value = first["input"].get("name") if in_union else first["input"]
    options = [word for part in parts(around) for word in names(part)]
    expected = listed(dict.fromkeys(_expected(detail, options) for detail in details), "or")
    if first["type"] == "literal_error":
        options = [word.strip("' ") for word in first["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    if first["type"] == "string_pattern_mismatch":
        options = [re.sub("[^a-z0-9]+", "-", value.lower()).strip("-")]
    hint = _hint(value, expected, options)
    kind: Literal["type", "value"] = "type" if first["type"] in TYPES else "value"
    return Finding(steps, kind, f"{name} must be {expected}, not {shown(value)}{hint}", expected)


def _expected(detail: ErrorDetails, branch_names: list[str]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind.startswith("union_tag"):
        return listed(branch_names, "or")
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind in BOUNDS:
        return BOUNDS[kind].format(**context)
    return TYPES.get(kind) or detail["msg"]


def _hint(value: Any, expected: str, options: list[str]) -> str:
    """What to do about a wrong value, as the end of a line; empty where what is expected says it."""
    if isinstance(value, Mapping):
        meant = [word for word in (nearest(key, KINDS) for key in value) if word]
        return f"; did you mean {meant[0]}?" if meant else ""
    if expected == "a mapping":
        name = value if value in options else nearest(value, options) if isinstance(value, str) else None
        return f"; write {{name: {name}}}" if name else "; write keys below it, or remove the line"
    if not isinstance(value, str):
        return "; put it in quotes" if "text" in expected and isinstance(value, int | float) else ""
    if "true or false" in expected and value.lower() in YES_NO:
        return f"; write {YES_NO[value.lower()]}"
    if "number" in expected and value.replace(".", "", 1).isdigit():
        return "; remove the quotes"
    meant_option = nearest(value, options)
    return f"; did you mean {meant_option}?" if meant_option else ""


def _unknown_key(model: Model, tree: Any, steps: Place, above: Place) -> Finding:
    """The finding for a key that its mapping does not have: whose it is, what was meant, or what there is."""
    *around, key = steps
    section = dotted((*above, *around))
    annotation, node = annotation_at(model, tree, tuple(around)) or model, _at(tree, around)
    part = part_named(annotation, node.get("name"))
    keys = list(part.model_fields) if part else []
    owners = [name for other in parts(annotation) if key in other.model_fields for name in names(other)]
    if owners:
        what = f"{key} is a key of {around[-1]} {listed(owners)}, not of {node['name']}; remove it or change the name"
        return Finding(steps, "branch", what)
    meant = nearest(key, [*keys, *(KINDS if above else ())])
    homes = _homes(str(key))
    if meant:
        todo = f"did you mean {meant}?"
    elif homes:
        todo = f"{key} stands in {listed(homes, 'or')}"
    else:
        todo = f"its keys are {listed(keys)}"
    return Finding(steps, "key", f"unknown key {key} in {section or 'the file'}; {todo}")


def _at(tree: Any, steps: Iterable[str | int]) -> Any:
    for step in steps:
        tree = tree[step]
    return tree


def _homes(key: str) -> list[str]:
    """The sections of the file that have `key`."""
    everywhere = [*sections(SweepConfig, ""), *sections(TrialConfig, "trial")]
    return list(dict.fromkeys(name or "the top level" for name, part in everywhere if key in part.model_fields))
