"""Defaults written into a space, wherever the file leaves no doubt about which they are."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from medtune.config.fields import Model, default_of, part_named, parts
from medtune.config.space import Choice

T = TypeVar("T")


def fill(space: Any, annotation: Any, default: Any = None) -> Any:
    """The space with every missing key that has one default, `name` first, then in the order of the schema.

    `annotation` is the type of the field that the space stands for, a model or a union of models; `default` its value
    where the file is silent, which also gives a missing `name`. Beside a swept `name` only keys that all its branches
    have with one and the same default are filled in. What the schema does not know is left as it is.
    """
    if isinstance(space, Choice):
        return Choice(tuple(fill(option, annotation, default) for option in space.options))
    if not isinstance(space, Mapping):
        return space
    branches = _branches(space, annotation, default)
    if not branches:
        return space
    filled = {}
    for key, field in _name_first(branches[0].model_fields).items():
        shared = [branch.model_fields[key] for branch in branches if key in branch.model_fields]
        defaults = [default_of(other) for other in shared]
        if key in space:
            filled[key] = fill(space[key], field.annotation, defaults[0])
        elif len(shared) == len(branches) and not field.is_required() and all(d == defaults[0] for d in defaults):
            filled[key] = plain(defaults[0])
    return filled | {key: value for key, value in space.items() if key not in filled}


def plain(value: Any) -> Any:
    """A value of the schema as the file has it: models as mappings, tuples as lists."""
    if isinstance(value, BaseModel):
        return _name_first({key: plain(getattr(value, key)) for key in type(value).model_fields})
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def _branches(space: Mapping[str, Any], annotation: Any, default: Any) -> list[Model]:
    """The models that a mapping may become, one for each `name` it can have; none when one is unknown."""
    if len(parts(annotation)) < 2:
        return list(parts(annotation))
    written = space.get("name", getattr(default, "name", None))
    found = [part_named(annotation, name) for name in leaves(written)]
    return [] if None in found else [part for part in dict.fromkeys(found) if part]


def _name_first(fields: Mapping[str, T]) -> dict[str, T]:
    return {key: fields[key] for key in sorted(fields, key=lambda key: key != "name")}


def leaves(space: Any) -> Iterator[Any]:
    """The plain values that a choice can give; a plain value itself. Choices in choices are opened."""
    if isinstance(space, Choice):
        for option in space.options:
            yield from leaves(option)
    else:
        yield space
