"""A tree of the file held against the schema, with every problem at once.

`TrialConfig` is the only truth about a trial, and it knows no distributions. So the space is resolved to plain trials:
one with every distribution at its first option or low bound, and for every other option and every high bound one in
which only that differs. Each is validated, and what is wrong is traced back to the node of the file that it came from.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from medtune.config.default import start_points
from medtune.config.fill import fill
from medtune.config.messages import Finding, findings, tuples
from medtune.config.notation import kind_of, to_file, to_space, without_distributions
from medtune.config.problems import Place, Problem, dotted
from medtune.config.space import Choice, Pick, Range, corners, distributions, grid_size, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.together import unread, weights
from medtune.config.trial import TrialConfig
from medtune.config.yaml_text import MAX_NODES, size

MAX_GRID = 100_000  # points, which are all made before the first trial


def check(tree: Mapping[str, Any], known: Sequence[Problem] = ()) -> tuple[SweepConfig | None, list[Problem]]:
    """The configuration that a plain tree of the file means, and what is wrong with it; one of them is empty.

    `known` are problems found before, at whose places nothing more is said.
    """
    notation: list[Problem] = []
    sections = {
        # a section with a misspelled name may well be meant for `trial`
        key: without_distributions(value, (key,), notation) if key in SweepConfig.model_fields else value
        for key, value in tree.items()
        if key != "trial"
    }
    space = to_space(tree.get("trial"), ("trial",), notation)
    if isinstance(space, Choice | Range):
        what = "no distribution can stand at trial itself; write it below, as in trial: {optimizer: {choice: ...}}"
        notation.append(Problem(("trial",), what))
        space = None
    notation = [problem for problem in notation if not _explained(problem, known)]
    # an empty section reads as null
    space = fill({} if space is None else space, TrialConfig)
    sections = fill(sections | {"trial": space}, SweepConfig)
    in_trial = _trial_problems(space) if isinstance(space, Mapping) else []
    broken = [*known, *notation]
    found = [problem for problem in [*_section_problems(sections), *in_trial] if not _explained(problem, broken)]
    if not any(problem.place[0] == "trial" for problem in [*broken, *found]):
        if size({**sections, "trial": to_file(space)}) > MAX_NODES:
            found.append(Problem(("trial",), f"over {MAX_NODES:,} keys and values with the defaults; sweep fewer keys"))
        found += [*weights(space), *unread(space, sections["data"])]
        found += [*_start_problems(sections, space), *_grid_problems(sections, space)]
    if found or broken:
        return None, [*notation, *found]
    return SweepConfig.model_validate({**tuples(sections), "trial": space}, strict=True), []


def _explained(problem: Problem, broken: Sequence[Problem]) -> bool:
    """Whether a problem only follows from a broken node, which was replaced by None."""
    if problem.at_key:
        return any(problem.place == other.place for other in broken)
    # the place of a wrong bound lies below that of the distribution that it breaks
    return any(_above(problem.place, other.place) or _above(other.place, problem.place) for other in broken)


def _above(place: Place, other: Place) -> bool:
    return other[: len(place)] == place


def _section_problems(sections: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem(finding.steps, finding.text, finding.kind in ("key", "branch"))
        for finding in findings(SweepConfig, sections)
    ]


def _trial_problems(space: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with any trial of the space, at most one problem a place."""
    problems: dict[Place, Problem] = {}
    for pick in corners(space):
        for finding in findings(TrialConfig, resolve(space, pick), ("trial",)):
            problem = _traced(space, pick, finding)
            problems.setdefault(problem.place, problem)
    return list(problems.values())


def _traced(space: Any, pick: Pick, finding: Finding) -> Problem:
    """The finding in one trial as a problem of the file that the space was read from."""
    if finding.kind in ("key", "branch"):
        place, mapping, _ = _origin(space, pick, finding.steps[:-1])
        swept = finding.kind == "branch" and isinstance(mapping["name"], Choice)
        rule = "; beside a swept name only keys that all of them have can stand" if swept else ""
        return Problem((*place, finding.steps[-1]), finding.text + rule, at_key=True)
    place, node, path = _origin(space, pick, finding.steps)
    if not isinstance(node, Range):
        return Problem(place, finding.text)
    kind = kind_of(node)
    if finding.kind == "type" or not finding.expected:
        name = dotted(("trial", *finding.steps))
        fit = "int or log_int" if "whole number" in finding.expected else "choice"
        return Problem(place, f"{name} must be {finding.expected}, which {kind} does not give; use {fit}")
    return Problem((*place, kind, int(pick(path, node) == node.high)), finding.text)


def _origin(space: Any, pick: Pick, steps: Place) -> tuple[Place, Any, str]:
    """The place, node and path of what stands at `steps` in the tree that `pick` makes of the space."""
    place: Place = ("trial",)
    path, left = "", list(steps)
    while left or isinstance(space, Choice):
        if isinstance(space, Choice):
            index = pick(path, space)
            place, path, space = (*place, "choice", index), f"{path}[{index}]", space.options[index]
        else:
            step = left.pop(0)
            place, path, space = (*place, step), f"{path}.{step}" if path else str(step), space[step]
    return place, space, path


def _start_problems(sections: Mapping[str, Any], space: Mapping[str, Any]) -> list[Problem]:
    problems = []
    search = sections["search"]
    entries = search.get("start_with") if isinstance(search, Mapping) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        try:
            # what is no mapping has been reported as such
            start_points(space, [entry] if isinstance(entry, Mapping) else [])
        except ValueError as error:
            problems.append(Problem(("search", "start_with", index), f"search.start_with.{index}: {error}"))
    return problems


def _grid_problems(sections: Mapping[str, Any], space: Mapping[str, Any]) -> list[Problem]:
    """A grid has every point of its space, so it cannot have a range without steps."""
    if not isinstance(sections["search"], Mapping) or sections["search"].get("sampler") != "grid":
        return []
    endless = [path for path, node in distributions(space) if isinstance(node, Range) and not _countable(node)]
    what = "a grid cannot count the points of this range; use choice, int, or uniform with a step"
    if not endless and grid_size(space) > MAX_GRID:
        too_many = f"the grid has over {MAX_GRID:,} points; sweep fewer keys, or take another sampler"
        return [Problem(("search", "sampler"), too_many)]
    return [Problem(_place(path), what) for path in endless]


def _countable(bounds: Range) -> bool:
    return not bounds.log and (bounds.integer or bounds.step is not None)


def _place(path: str) -> Place:
    """Where the distribution at a path of `space.resolve` stands in the file."""
    place: list[str | int] = ["trial"]
    for step in path.split("."):
        key, *options = step.split("[")
        place.append(int(key) if key.isdigit() else key)
        for option in options:
            place += ["choice", int(option.rstrip("]"))]
    return tuple(place)
