"""A plain tree held against a model, and pydantic's errors in the words of the file."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from medtune.config.fields import Model, annotation_at, names, part_named, parts, sections
from medtune.config.kinds import KINDS as SPACES
from medtune.config.kinds import PRETRAIN
from medtune.config.problems import Place, did_you_mean, dotted, key_shown, listed, nearest, shown
from medtune.config.space import KINDS
from medtune.config.sweep import NAME, SweepConfig
from medtune.config.trial import TIMM_NAME

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
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "max or min, or both",  # of a constraint, which alone has to have something in it
}
PATTERNS = {
    NAME: "a name of a-z, 0-9, dot, _ and -, a letter or digit first, 63 at most",
    TIMM_NAME: "timm/NAME",
}
# what other programs call it
ALIASES = {
    "learning_rate": "lr",
    "architecture": "model",
    "backbone": "model",
    "image_size": "size",
    "l2": "weight_decay",
    "max_epochs": "epochs",
    "n_trials": "trials",
    "num_samples": "trials",
    "num_workers": "cpus_per_trial",
    "gpus": "gpus_per_trial",
    "direction": "metric",
    "objective": "metric",
    "pretrain": "trial",
    "pretrained": "weights",
    "dampening": "momentum",
    "name": "sweep",
    "bayes": "tpe",
    "bayesian": "tpe",
    "successive_halving": "asha",
    "grid_search": "choice",
    "categorical": "choice",
    "values": "choice",
    "randint": "int",
    "low": "uniform",
    "min": "uniform",
}
LONG = 100  # characters of a list of words that nobody reads when one of them is named
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
        known = step in tree if isinstance(tree, Mapping) else isinstance(tree, list) and step in range(len(tree))
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
    if first["type"] == "too_long" or (first["type"] == "missing" and isinstance(steps[-1], int)):
        return _wrong_length(model, tree, steps[:-1] if first["type"] == "missing" else steps, above)
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
        options = [re.sub("[^a-z0-9]+", "-", value[:200].lower()).strip("-")[:63].strip("-")]
    hint = _hint(value, expected, options, bool(above))
    if steps[:2] == ("search", "constraints") and expected == "a mapping":
        hint = f"; write {{max: {shown(value)}}}"
    kind: Literal["key", "type", "value"] = "type" if first["type"] in {*TYPES, "literal_error"} else "value"
    if first["loc"][-1] == "[key]":
        kind = "key"
    if len(expected) > LONG and "did you mean" in hint:
        return Finding(steps, kind, f"{name}: there is no {shown(value)}{hint}", expected)
    return Finding(steps, kind, f"{name} must be {expected}, not {shown(value)}{hint}", expected)


def _wrong_length(model: Model, tree: Any, steps: Place, above: Place) -> Finding:
    wanted = len(get_args(annotation_at(model, tree, steps)))
    what = f"{dotted((*above, *steps))} must be a list of {wanted}, not of {len(_at(tree, steps))}"
    return Finding(steps, "value", what)


def _expected(detail: ErrorDetails, branch_names: list[str]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind.startswith("union_tag"):
        return listed(branch_names, "or")
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind == "string_pattern_mismatch":
        return PATTERNS[context["pattern"]]
    if kind in BOUNDS:
        return BOUNDS[kind].format(**context)
    return TYPES.get(kind) or detail["msg"]


def _hint(value: Any, expected: str, options: list[str], swept: bool) -> str:
    """What to do about a wrong value, as the end of a line; empty where what is expected says it.

    swept: whether a distribution could stand there.
    """
    if isinstance(value, Mapping):
        meant = [word for word in (_meant(key, KINDS) for key in value) if word] if swept else []
        return f"; did you mean {meant[0]}?" if meant else ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if expected == "a mapping":
            return "; write its keys without a - before them"
        return "; for one after another of them write {choice: [...]}" if swept else ""
    if expected == "a mapping":
        name = value if value in options else nearest(value, options) if isinstance(value, str) else None
        return f"; write {{name: {name}}}" if name else "; write keys below it, or remove the line"
    if isinstance(value, str):
        return _hint_of_text(value, expected, options)
    if isinstance(value, float) and value.is_integer() and "whole number" in expected:
        return f"; write {value:.0f}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "; put it in quotes" if "text" in expected and number else ""


def _hint_of_text(value: str, expected: str, options: list[str]) -> str:
    if "true or false" in expected and value.lower() in YES_NO:
        return f"; write {YES_NO[value.lower()]}"
    if "true or false" in expected and value.lower() in YES_NO.values():
        return "; remove the quotes"
    if "number" in expected or "at least" in expected:
        if _is_number(value):
            return "; remove the quotes"
        if _is_number(value.replace(",", ".")):
            return f"; write {value.replace(',', '.')}"
        if _is_number(value.removesuffix("%")):
            return f"; write {float(value.removesuffix('%')) / 100:g}"
    meant = _meant(value, options)
    return f"; {did_you_mean(value, meant)}" if meant else ""


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text.strip()[:50], re.IGNORECASE | re.ASCII) is not None


def _meant(key: object, keys: Collection[str]) -> str | None:
    """Which of the keys was meant by another word, or by a misspelt one."""
    alias = ALIASES.get(str(key).lower().replace("-", "_"))
    return alias if alias in keys else nearest(key, keys)


def _unknown_key(model: Model, tree: Any, steps: Place, above: Place) -> Finding:
    """The finding for a key that its mapping does not have: whose it is, what was meant, or what there is."""
    *around, key = steps
    section, word = dotted((*above, *around)), key_shown(key)
    annotation, node = annotation_at(model, tree, tuple(around)) or model, _at(tree, around)
    part = part_named(annotation, node.get("name"))
    keys = list(part.model_fields) if part else []
    owners = [name for other in parts(annotation) if key in other.model_fields for name in names(other)]
    if owners:
        what = f"{word} is a key of {around[-1]} {listed(owners)}, not of {node['name']}; remove it or change the name"
        return Finding(steps, "branch", what)
    todo = _instead(str(key), keys, bool(above))
    return Finding(steps, "key", f"unknown key {word} in {section or 'the file'}; {todo}")


def _instead(key: str, keys: list[str], in_trial: bool) -> str:
    """What to write for an unknown key, in words: a key that is there, or the place of that key elsewhere."""
    alias = ALIASES.get(key.lower().replace("-", "_"), key)
    if alias in keys:
        return did_you_mean(key, alias)
    if key in _everywhere():
        return f"{key} stands in {_home(key)}"
    if alias in _everywhere():
        return did_you_mean(key, alias, _home(alias))
    if meant := _meant(key, [*keys, *(KINDS if in_trial else ())]):
        return did_you_mean(key, meant)
    if meant := nearest(key, _everywhere()):
        return did_you_mean(key, meant, _home(meant))
    return f"its keys are {listed(keys)}"


def _at(tree: Any, steps: Iterable[str | int]) -> Any:
    for step in steps:
        tree = tree[step]
    return tree


def _home(key: str) -> str:
    """The sections of the file that have `key`."""
    having = [name or "the top level" for name, part in _sections() if key in part.model_fields]
    elsewhere = [name for name in having if name.partition(".")[0] != PRETRAIN]  # which has a trial's keys as well
    return listed(dict.fromkeys(elsewhere or having), "or")


def _everywhere() -> list[str]:
    """The keys of all sections."""
    return [key for _, part in _sections() for key in part.model_fields]


def _sections() -> list[tuple[str, Model]]:
    return [*sections(SweepConfig, ""), *(part for name, kind in SPACES.items() for part in sections(kind, name))]
