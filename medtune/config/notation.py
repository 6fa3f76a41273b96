"""Distributions as the file writes them, `{log_uniform: [1e-4, 1e-2]}`, to those of `space` and back."""

import math
from collections.abc import Mapping
from typing import Any

from medtune.config.problems import Place, Problem, dotted, listed, shown
from medtune.config.space import KINDS, Choice, Range

STEPPED = ("uniform", "int")
MAX_OPTIONS = 1000
MAX_STEPS = 1e12  # more than that a number cannot be told from its neighbour's


def kinds_in(tree: Mapping[str, Any]) -> list[str]:
    """The distribution words among the keys of a mapping; it is a distribution when there is any."""
    return [key for key in tree if key in KINDS]


def kind_of(bounds: Range) -> str:
    """The word that the file has for a range."""
    return {
        (False, False): "uniform",
        (True, False): "log_uniform",
        (False, True): "int",
        (True, True): "log_int",
    }[bounds.log, bounds.integer]


def to_space(tree: Any, place: Place, problems: list[Problem]) -> Any:
    """The space that a tree of the file means. A wrong distribution is added to `problems` and becomes None."""
    if isinstance(tree, list):
        return [to_space(item, (*place, index), problems) for index, item in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    kinds = kinds_in(tree)
    if not kinds:
        return {key: to_space(value, (*place, key), problems) for key, value in tree.items()}
    kind = kinds[0]
    problem = _misshapen(tree, kinds, place) or (None if kind == "choice" else _wrong_range(tree, kind, place))
    if problem:
        problems.append(problem)
        return None
    if kind == "choice":
        return Choice(tuple(to_space(tree[kind], (*place, kind), problems)))
    return KINDS[kind](tree[kind], tree.get("step"))


def without_distributions(tree: Any, place: Place, problems: list[Problem]) -> Any:
    """The tree of a part of the file where none can be: each is added to `problems` and becomes None."""
    if isinstance(tree, list):
        return [without_distributions(item, (*place, index), problems) for index, item in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    kinds = kinds_in(tree)
    if kinds:
        what = f"no distribution ({kinds[0]}) can stand at {dotted(place)}, only below trial; write one value"
        problems.append(Problem(place, what))
        return None
    return {key: without_distributions(value, (*place, key), problems) for key, value in tree.items()}


def to_file(space: Any) -> Any:
    """The plain tree that the file has for a space, so that `to_space` gives the space again."""
    if isinstance(space, Choice):
        return {"choice": [to_file(option) for option in space.options]}
    if isinstance(space, Range):
        step = {} if space.step is None else {"step": space.step}
        return {kind_of(space): [space.low, space.high], **step}
    if isinstance(space, Mapping):
        return {key: to_file(value) for key, value in space.items()}
    if isinstance(space, list | tuple):
        return [to_file(item) for item in space]
    return space


def _misshapen(tree: Mapping[str, Any], kinds: list[str], place: Place) -> Problem | None:
    """What is wrong with the keys of a distribution, or with a choice's list."""
    name, kind = dotted(place), kinds[0]
    others = [key for key in tree if key not in kinds and key != "step"]
    if len(kinds) > 1:
        return Problem((*place, kinds[1]), f"{name} has {listed(kinds)} at once; keep one of them", at_key=True)
    if others:
        what = f"{name} is a distribution ({kind}), so {listed(others)} cannot stand beside it; move or remove it"
        return Problem((*place, others[0]), what, at_key=True)
    if "step" in tree and kind not in STEPPED:
        what = f"{name}: {kind} has no step; remove it, or use {listed(STEPPED, 'or')}"
        return Problem((*place, "step"), what, at_key=True)
    if kind == "choice" and (not isinstance(tree[kind], list) or not tree[kind]):
        return Problem((*place, kind), f"{name}: choice needs a list of options; write {{choice: [a, b]}}")
    if kind == "choice" and len(tree[kind]) > MAX_OPTIONS:
        what = f"{name}: choice has over {MAX_OPTIONS:,} options; use a range, or fewer"
        return Problem((*place, kind), what)
    return None


def _wrong_range(tree: Mapping[str, Any], kind: str, place: Place) -> Problem | None:
    """What is wrong with the numbers of a range."""
    name, bounds, step = dotted(place), tree[kind], tree.get("step")
    here: Place = (*place, kind)
    if not isinstance(bounds, list) or len(bounds) != 2:
        return Problem(here, f"{name}: {kind} needs two bounds; write {{{kind}: [low, high]}}")
    for index, bound in enumerate(bounds):
        if not _is_number(bound):
            what = (
                f"{name}: a bound of {kind} must be a finite number, not {shown(bound)}; write {{{kind}: [low, high]}}"
            )
            return Problem((*here, index), what)
        if "int" in kind and not isinstance(bound, int):
            what = f"{name}: a bound of {kind} must be a whole number, not {shown(bound)}; round it, or use uniform"
            return Problem((*here, index), what)
    low, high = bounds
    if low >= high:
        what = f"{name}: the low bound {low} must be below the high bound {high}; swap them, or write one value"
        return Problem(here, what)
    if "log" in kind and low <= 0:
        what = f"{name}: the low bound of {kind} must be above 0, not {low}; raise it, or use {kind[4:]}"
        return Problem((*here, 0), what)
    return _wrong_step(step, kind, bounds, place) if "step" in tree else None


def _wrong_step(step: Any, kind: str, bounds: list[float], place: Place) -> Problem | None:
    name, here, width, high = dotted(place), (*place, "step"), bounds[1] - bounds[0], bounds[1]
    if not _is_number(step) or step <= 0:
        return Problem(here, f"{name}: step must be a number above 0, not {shown(step)}; correct or remove it")
    if kind == "int" and not isinstance(step, int):
        return Problem(here, f"{name}: the step of int must be a whole number, not {step}; round it, or use uniform")
    if high / step > MAX_STEPS:
        return Problem(here, f"{name}: step {step} is too fine for the range; make it at least {high / MAX_STEPS:g}")
    if step > width:
        return Problem(here, f"{name}: step {step} is wider than the range; make it at most {width:g}")
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        # a whole number with more than 308 digits
        return False
