"""The JSON Schema of a sweep file, by which editors complete and check it.

Pydantic's schema of the concrete models, in which every key below `trial` may be a distribution as well. Draft 7,
because that is what the YAML language server knows best; it ignores what stands beside a `$ref`.
"""

from typing import Any

from medtune.config.kinds import KINDS, LABELS, TRIAL
from medtune.config.notation import STEPPED
from medtune.config.sweep import SweepConfig

Schema = dict[str, Any]

RANGES = {
    "uniform": "evenly from low to high, both included",
    "log_uniform": "evenly in the logarithm, from low to high, both included",
    "int": "a whole number from low to high, both included",
    "log_int": "a whole number, evenly in the logarithm, from low to high, both included",
}


def sweep_schema() -> Schema:
    """The JSON Schema of the whole file, ready for `json.dumps`."""
    file = _tidy(SweepConfig.model_json_schema())
    _require_names(file, file["$defs"])
    swept: Schema = {}
    for section, kind in KINDS.items():
        # a branch that must say its name in one section may go without it in the other
        prefix = "" if section == TRIAL else f"{section}."
        space = _tidy(kind.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}"))
        models = {f"{prefix}{name}": model for name, model in space.pop("$defs").items()}
        _require_names(space, models)
        space["description"] = file["properties"][section]["description"]
        del space["properties"][LABELS]
        _add_swept(models | {f"{prefix}{kind.__name__}": space}, swept)
        file["properties"][section] = _ref(f"{prefix}{kind.__name__}")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "medtune sweep",
        **file,
        "not": {"required": list(KINDS)},
        "$defs": file["$defs"] | swept,
    }


def _add_swept(models: Schema, swept: Schema) -> None:
    """Adds the models in which every key may be a distribution, and the definitions that they need."""
    for name, model in models.items():
        properties = {key: _swept(f"{name}.{key}", field, models, swept) for key, field in _properties(model)}
        swept[name] = model | {"properties": properties}


def _tidy(node: Any) -> Any:
    """The schema without generated titles, and with unions as draft 7 has them."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    left_out = {"title", "discriminator"} | ({"default"} if "$ref" in node else set())
    return {
        # a property may well be called title: then its value is a schema
        "anyOf" if key == "oneOf" else key: _tidy(value)
        for key, value in node.items()
        if key not in left_out or (key == "title" and not isinstance(value, str))
    }


def _require_names(schema: Schema, models: Schema) -> None:
    """A branch must say its name, unless it is the one that its field has by default."""
    for _, field in _properties(schema):
        for name, model in _branches(field, models).items():
            if name != field["default"]["name"]:
                models[model]["required"] = ["name"]


def _properties(model: Schema) -> list[tuple[str, Schema]]:
    return list(model.get("properties", {}).items())


def _branches(field: Schema, models: Schema) -> dict[str, str]:
    """The names that choose among the models of a union, with the model of each; none for any other field."""
    found: dict[str, str] = {}
    for option in field.get("anyOf", []):
        model = option.get("$ref", "").removeprefix("#/$defs/")
        name = models.get(model, {}).get("properties", {}).get("name", {})
        found |= dict.fromkeys([name["const"]] if "const" in name else name.get("enum", []), model)
    return found


def _swept(name: str, field: Schema, models: Schema, swept: Schema) -> Schema:
    """A reference to a definition called `name`, added to `swept`: the field, or a distribution of it."""
    about = {key: field[key] for key in ("description", "default") if key in field}
    plain = {key: value for key, value in field.items() if key not in about}
    if "items" in plain:
        plain["items"] = _swept(f"{name}.item", plain["items"], models, swept)
    branches = _branches(field, models)
    swept[name] = {
        **about,
        "anyOf": [
            *(plain["anyOf"] if list(plain) == ["anyOf"] else [plain]),
            *([_swept_name(branches, models)] if branches else []),
            _distribution("choice", {"type": "array", "items": _ref(name), "minItems": 1}, "one of these"),
            *_ranges(plain, swept),
        ],
    }
    return _ref(name)


def _swept_name(branches: dict[str, str], models: Schema) -> Schema:
    """A mapping of a union whose `name` is a choice: beside it only keys that all of the options have."""
    owners: dict[str, list[str]] = {}
    for name, model in branches.items():
        for key, _ in _properties(models[model]):
            owners.setdefault(key, []).append(name)
    del owners["name"]
    name_schema = {"type": "array", "items": {"enum": list(branches)}, "minItems": 1}
    return {
        "type": "object",
        "properties": {
            "name": _distribution("choice", name_schema, "one of these"),
            **{key: _ref(f"{branches[names[0]]}.{key}") for key, names in owners.items()},
        },
        "required": ["name"],
        "additionalProperties": False,
        "allOf": [_only_beside(key, names) for key, names in owners.items() if len(names) < len(branches)],
    }


def _only_beside(key: str, names: list[str]) -> Schema:
    """That `key` stands only where every option of the name is one of `names`."""
    within = {"properties": {"choice": {"items": {"enum": names}}}}
    return {"if": {"properties": {"name": within}}, "else": {"properties": {key: False}}}


def _ranges(field: Schema, swept: Schema) -> list[Schema]:
    """A reference to the ranges that a field may be, which are added to `swept`; nothing unless it is a number."""
    options = [option for option in field.get("anyOf", [field]) if option.get("type") in ("integer", "number")]
    numeric = [option for option in options if "enum" not in option and "const" not in option]
    if not numeric:
        return []
    number = numeric[0]
    # fields with the same bounds share them
    name = "range-" + "-".join(f"{key}-{number[key]}" for key in sorted(number))
    kinds = [kind for kind in RANGES if "int" in kind or number["type"] == "number"]
    swept[name] = {"anyOf": [_range(kind, number) for kind in kinds]}
    return [_ref(name)]


def _range(kind: str, number: Schema) -> Schema:
    bound = number | ({"type": "integer"} if "int" in kind else {})
    if "log" in kind and number.get("minimum", 0) <= 0:
        bound["exclusiveMinimum"] = max(0, number.get("exclusiveMinimum", 0))
    schema = _distribution(kind, {"type": "array", "items": bound, "minItems": 2, "maxItems": 2}, RANGES[kind])
    if kind in STEPPED:
        schema["properties"]["step"] = {"type": bound["type"], "exclusiveMinimum": 0}
    return schema


def _distribution(kind: str, value: Schema, description: str) -> Schema:
    return {
        "type": "object",
        "properties": {kind: value | {"description": description}},
        "required": [kind],
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
