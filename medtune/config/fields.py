"""What the schema says at a place: which model, which keys, which names its branches have."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Model = type[BaseModel]


def parts(annotation: Any) -> tuple[Model, ...]:
    """The models that a field may hold: several for a union whose branches have a `name`, none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if get_origin(annotation) is dict:
        return ()
    return tuple(part for argument in get_args(annotation) for part in parts(argument))


def names(part: Model) -> tuple[str, ...]:
    """What the key `name` may say where this model stands; none when it has no such key."""
    field = part.model_fields.get("name")
    return tuple(_words(field.annotation)) if field else ()


def _words(annotation: Any) -> Iterator[str]:
    """The words of a Literal, or of those in a union."""
    for argument in get_args(annotation):
        yield from [argument] if isinstance(argument, str) else _words(argument)


def part_named(annotation: Any, name: Any) -> Model | None:
    """The one model of a field, or the branch called `name`; None when there is no such."""
    found = parts(annotation)
    if len(found) == 1:
        return found[0]
    return next((part for part in found if name in names(part)), None)


def default_of(field: FieldInfo) -> Any:
    """The default of a field; None for one that must be written."""
    return None if field.is_required() else field.get_default(call_default_factory=True)


def annotation_at(model: Model, tree: Any, steps: tuple[str | int, ...]) -> Any:
    """The annotation of the field at `steps` of a plain `tree`, or None where the schema has no such place."""
    annotation: Any = model
    for step in steps:
        name = tree.get("name") if isinstance(tree, Mapping) else None
        part = part_named(annotation, name)
        if part is None or step not in part.model_fields:
            return None
        annotation = part.model_fields[str(step)].annotation
        tree = tree.get(step) if isinstance(tree, Mapping) else None
    return annotation


def sections(annotation: Any, name: str) -> Iterator[tuple[str, Model]]:
    """Every model below `annotation` with its dotted name, itself included; each branch of a union by itself."""
    for part in parts(annotation):
        yield name, part
        for key, field in part.model_fields.items():
            yield from sections(field.annotation, f"{name}.{key}" if name else key)
