"""Points of a space: the untuned default, configurations to start with, and the trial that a point stands for.

A point is `{path: value}` over the distributions that are active in it, with the paths of `space.resolve`; the value of
a `Choice` is the index of its option.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medtune.config.fields import default_of, part_named
from medtune.config.fill import plain
from medtune.config.kinds import Settings, kind_of, settings_of
from medtune.config.problems import key_shown, listed, shown
from medtune.config.space import Choice, Distribution, Range, resolve
from medtune.config.trial import TrialConfig

Point = dict[str, Any]
_ABSENT: Any = object()


def default_point(space: Mapping[str, Any]) -> Point:
    """Trial 0: each distribution at the schema's default, clipped to the bounds.

    A choice without the default gives its first option; a choice of mappings the one with the default's `name`, else
    the first. The default is that of the active branch: sgd's lr has another one than adam's.
    """
    return start_points(space, [{}])[0]


def start_points(space: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The points for configurations of `search.start_with`: trial keys, nested or dotted, the others at their default.

    Raises ValueError, with the key in its text, when a configuration is no point of the space.
    """
    points = []
    for entry in entries:
        wanted = _nested(entry)
        problem = _misfit(space, wanted, "")
        if problem:
            raise ValueError(problem)
        point: Point = {}
        kind = kind_of(space)
        _Placing(point).node(space, wanted, kind, kind(), "")
        points.append(point)
    return points


def settings_at(space: Mapping[str, Any], point: Mapping[str, Any]) -> Settings:
    """What a point of the space stands for. Raises KeyError for a path that the point lacks."""
    return settings_of(resolve(space, lambda path, _: point[path]))


def trial_config(space: Mapping[str, Any], point: Mapping[str, Any]) -> TrialConfig:
    """The same, of a space of trials."""
    settings = settings_at(space, point)
    assert isinstance(settings, TrialConfig)
    return settings


def swept_values(space: Mapping[str, Any], point: Mapping[str, Any], trial: Settings) -> dict[str, Any]:
    """What the sweep varied in this trial, by dotted names without branches: `optimizer.name`, `optimizer.lr`.

    Of a choice of mappings these are the keys in which its options differ; a list is one text.
    """
    names: list[str] = []

    def pick(path: str, distribution: Distribution) -> Any:
        name = re.sub(r"\[\d+\]", "", path)
        options = distribution.options if isinstance(distribution, Choice) else ()
        inner = [f"{name}.{key}" for key in _differing(options)]
        names.extend(inner or [name])
        return point[path]

    resolve(space, pick)
    tree = trial.model_dump(mode="json")
    return {leaf: value for name in names for leaf, value in _leaves(_node(tree, name), name).items()}


def _differing(options: Sequence[Any]) -> list[str]:
    """The keys that all mappings of a choice have, and that are not the same in all."""
    if not options or not all(isinstance(option, Mapping) for option in options):
        return []
    common = [key for key in options[0] if all(key in option for option in options)]
    return [key for key in common if any(option[key] != options[0][key] for option in options)]


def _node(tree: Any, name: str) -> Any:
    for step in name.split("."):
        tree = tree[int(step)] if isinstance(tree, list) else tree[step]
    return tree


class _Placing:
    """One walk over a space that puts the value of each active distribution into a point."""

    def __init__(self, point: Point) -> None:
        self.point = point

    def node(self, space: Any, wanted: Any, annotation: Any, default: Any, path: str) -> Any:
        """Place what is `wanted` of the space, or the `default`. Returns the value where it is a plain one."""
        if isinstance(space, Choice):
            index = _option(space, wanted, default)
            self.point[path] = index
            return self.node(space.options[index], wanted, annotation, default, f"{path}[{index}]")
        if isinstance(space, Range):
            self.point[path] = _clipped(space, default if wanted is _ABSENT else wanted)
            return self.point[path]
        if isinstance(space, Mapping):
            self._mapping(space, wanted, annotation, default, path)
        elif isinstance(space, list):
            for index, item in enumerate(space):
                wanted_item = _ABSENT if wanted is _ABSENT else wanted[index]
                self.node(item, wanted_item, None, _item(default, index), f"{path}.{index}")
        return space

    def _mapping(self, space: Mapping[str, Any], wanted: Any, annotation: Any, default: Any, path: str) -> None:
        # the name comes first, because it says whose defaults the other keys have
        name = getattr(default, "name", None)
        for key in sorted(space, key=lambda key: key != "name"):
            part = part_named(annotation, name)
            field = part.model_fields.get(key) if part else None
            key_default = name if key == "name" else default_of(field) if field else None
            key_wanted = _ABSENT if wanted is _ABSENT else wanted.get(key, _ABSENT)
            key_path = f"{path}.{key}" if path else key
            value = self.node(space[key], key_wanted, field.annotation if field else None, key_default, key_path)
            name = value if key == "name" else name


def _option(choice: Choice, wanted: Any, default: Any) -> int:
    """The index of the option that gives what is wanted; the default's where it does, or where nothing is wanted."""
    preferred = _default_option(choice, default)
    order = sorted(range(len(choice.options)), key=lambda index: index != preferred)
    fitting = (index for index in order if wanted is _ABSENT or not _misfit(choice.options[index], wanted, ""))
    return next(fitting, preferred)


def _default_option(choice: Choice, default: Any) -> int:
    name = getattr(default, "name", None)
    value = plain(default) if name is None else {"name": name}
    equal = [index for index, option in enumerate(choice.options) if _same(option, value)]
    fitting = [index for index, option in enumerate(choice.options) if not _misfit(option, value, "")]
    return [*equal, *fitting, 0][0]


def _clipped(bounds: Range, value: Any) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else bounds.low
    return bounds.clip(number)


def _item(default: Any, index: int) -> Any:
    return default[index] if isinstance(default, Sequence) and index < len(default) else None


def _misfit(space: Any, wanted: Any, name: str) -> str | None:
    """Why a space cannot give the tree that is wanted, of which keys may be missing; None when it can."""
    if isinstance(space, Choice):
        return _misfit_choice(space, wanted, name)
    if isinstance(space, Range):
        number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
        if number and math.isclose(space.clip(wanted), wanted, rel_tol=1e-9):
            return None
        grid = f" in steps of {space.step}" if space.step else " (whole numbers)" if space.integer else ""
        return f"{name} is {shown(wanted)}, but the space has {space.low} to {space.high}{grid}; change one of them"
    if isinstance(space, Mapping) and isinstance(wanted, Mapping):
        return _misfit_mapping(space, wanted, name)
    if isinstance(space, list) and isinstance(wanted, Sequence) and len(space) == len(wanted):
        pairs = enumerate(zip(space, wanted, strict=True))
        return next((text for i, (a, b) in pairs if (text := _misfit(a, b, f"{name}.{i}"))), None)
    if _same(space, wanted):
        return None
    return f"{name} is {_text(wanted)}, but the space has only {_text(space)}; change one of them"


def _misfit_choice(choice: Choice, wanted: Any, name: str) -> str | None:
    reasons = [_misfit(option, wanted, name) for option in choice.options]
    if None in reasons:
        return None
    if isinstance(wanted, Mapping) and "name" in wanted:
        options = [option for option in choice.options if isinstance(option, Mapping)]
        named = [_misfit(option, wanted, name) for option in options if option.get("name") == wanted["name"]]
        if len(named) == 1:
            return named[0]
    if len(reasons) == 1:
        return reasons[0]
    options_text = listed((_text(option) for option in choice.options), "or")
    return f"{name} is {_text(wanted)}, but the space has {options_text}; change one of them"


def _misfit_mapping(space: Mapping[str, Any], wanted: Mapping[str, Any], name: str) -> str | None:
    for key, value in wanted.items():
        here = f"{name}.{key_shown(key)}" if name else key_shown(key)
        if key not in space:
            return f"{here} is no key of this space; its keys there are {listed(space)}"
        problem = _misfit(space[key], value, here)
        if problem:
            return problem
    return None


def _same(option: Any, value: Any) -> bool:
    """Equal as the file means it: 1 is 1.0, but not true."""
    if isinstance(option, Sequence) and isinstance(value, Sequence) and not isinstance(option, str):
        return list(option) == list(value)
    return bool(option == value) and isinstance(option, bool) == isinstance(value, bool)


def _text(space: Any) -> str:
    """A node of a space in a few words."""
    if isinstance(space, Range):
        return f"{space.low} to {space.high}"
    if isinstance(space, Choice):
        return listed((_text(option) for option in space.options), "or")
    if isinstance(space, Mapping) and "name" in space:
        return f"{{name: {_text(space['name'])}, ...}}"
    return f"[{', '.join(_text(item) for item in space)}]" if isinstance(space, list | tuple) else shown(space)


def _nested(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a configuration whose keys may be dotted: `{optimizer.lr: 1}` is `{optimizer: {lr: 1}}`."""
    tree: dict[str, Any] = {}
    for dotted_key, value in entry.items():
        *above, key = dotted_key.split(".")
        node = tree
        for step in above:
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                raise ValueError(f"{dotted_key} stands below a plain value; write one or the other")
        below = _nested(value) if isinstance(value, Mapping) else value
        old = node.get(key)
        node[key] = {**old, **below} if isinstance(old, dict) and isinstance(below, dict) else below
    return tree


def _leaves(node: Any, name: str) -> dict[str, Any]:
    if isinstance(node, Mapping):
        return {key: value for step, below in node.items() for key, value in _leaves(below, f"{name}.{step}").items()}
    return {name: str(node) if isinstance(node, list) else node}
