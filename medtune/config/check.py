"""A tree of the file held against the schema, with every problem at once.

`TrialConfig` is the only truth about a trial, as `PretrainConfig` is about a pretraining, and neither knows of
distributions. So the space is resolved to plain points: one with every distribution at its first option or low bound,
and for every other option and every high bound one in which only that differs. Each is validated, and what is wrong is
traced back to the node of the file that it came from.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from medtune.config.default import start_points
from medtune.config.fill import fill, leaves
from medtune.config.kinds import KINDS, LABELS, PRETRAIN, TRIAL, section_of
from medtune.config.messages import Finding, findings, tuples
from medtune.config.notation import kind_of, to_file, to_space, without_distributions
from medtune.config.problems import Place, Problem, dotted, shown
from medtune.config.space import Choice, Pick, Range, corners, distributions, grid_size, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.together import labelled_twice, probed, unread, weights
from medtune.config.trial import Labels
from medtune.config.yaml_text import MAX_NODES, size

MAX_GRID = 100_000  # points, which are all made before the first trial


def check(tree: Mapping[str, Any], known: Sequence[Problem] = ()) -> tuple[SweepConfig | None, list[Problem]]:
    """The configuration that a plain tree of the file means, and what is wrong with it; one of them is empty.

    `known` are problems found before, at whose places nothing more is said.
    """
    notation: list[Problem] = []
    section = PRETRAIN if PRETRAIN in tree else TRIAL
    data, labels_place = tree.get("data"), ("data", LABELS)
    sections = {
        # a section with a misspelled name may well be meant for `trial`
        key: without_distributions(value, (key,), notation) if key in SweepConfig.model_fields else value
        for key, value in _without_labels(tree).items()
        if key not in KINDS
    }
    space = _space(tree.get(section), (section,), notation)
    labels = _labels(data.get(LABELS), labels_place, notation) if isinstance(data, Mapping) else None
    if PRETRAIN in tree and TRIAL in tree:
        notation.append(Problem((PRETRAIN,), "pretrain stands in the place of trial; leave one of them out", True))
    if isinstance(space, Mapping) and LABELS in space:
        what = f"{LABELS} stands below data: write data: {{{LABELS}: ...}}"
        notation.append(Problem((section, LABELS), what, at_key=True))
    notation = [problem for problem in notation if not _explained(problem, known)]
    # an empty section reads as null
    space, labels = fill({} if space is None else space, KINDS[section]), fill(labels, Labels)
    sections = fill(sections | {section: space}, SweepConfig)
    in_space = _space_problems(space, KINDS[section], (section,)) if isinstance(space, Mapping) else []
    in_space += [] if labels is None else _space_problems(labels, Labels, labels_place)
    broken = [*known, *notation]
    found = [problem for problem in [*_section_problems(sections), *in_space] if not _explained(problem, broken)]
    if not any(problem.place[0] == section or problem.place[:2] == labels_place for problem in [*broken, *found]):
        if size({**sections, section: to_file(space)}) > MAX_NODES:
            found.append(Problem((section,), f"over {MAX_NODES:,} keys and values with the defaults; sweep fewer keys"))
        found += [*weights(space, section), *probed(space, section), *unread(space, section, sections["data"])]
        space = {**space, LABELS: labels}
        found += labelled_twice(space, sections["data"])
        found += [*_start_problems(sections, space), *_grid_problems(sections, space)]
    if found or broken:
        return None, [*notation, *found]
    return SweepConfig.model_validate({**tuples(sections), TRIAL: space, PRETRAIN: None}, strict=True), []


def _space(tree: Any, place: Place, problems: list[Problem]) -> Any:
    space = to_space(tree, place, problems)
    if not isinstance(space, Choice | Range):
        return space
    name = dotted(place)
    what = f"no distribution can stand at {name} itself; write it below, as in {name}: {{optimizer: {{choice: ...}}}}"
    problems.append(Problem(place, what))
    return None


def _labels(tree: Any, place: Place, problems: list[Problem]) -> Any:
    """The space below `data.labels`: a mapping, or a choice of them; None where all labels are known."""
    space = to_space(tree, place, problems)
    wrong = [leaf for leaf in leaves(space) if leaf is not None and not isinstance(leaf, Mapping)]
    if not wrong:
        return space
    found = f"not {kind_of(wrong[0])}" if isinstance(wrong[0], Range) else f"not {shown(wrong[0])}"
    problems.append(Problem(place, f"{dotted(place)} must be a mapping, {found}; write {{fraction: 0.1}}"))
    return None


def _without_labels(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The file without what stands in its data and is part of the space."""
    data = tree.get("data")
    if not isinstance(data, Mapping):
        return dict(tree)
    return {**tree, "data": {key: value for key, value in data.items() if key != LABELS}}


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


def _space_problems(space: Any, kind: Any, root: Place) -> list[Problem]:
    """What is wrong with any point of a space, at most one problem a place. root: where it stands in the file."""
    problems: dict[Place, Problem] = {}
    for pick in corners(space):
        point = resolve(space, pick)
        for finding in findings(kind, point, root) if point is not None else ():
            problem = _traced(space, pick, finding, root)
            problems.setdefault(problem.place, problem)
    return list(problems.values())


def _traced(space: Any, pick: Pick, finding: Finding, root: Place) -> Problem:
    """The finding in one trial as a problem of the file that the space was read from."""
    if finding.kind in ("key", "branch"):
        place, mapping, _ = _origin(space, pick, finding.steps[:-1], root)
        swept = finding.kind == "branch" and isinstance(mapping["name"], Choice)
        rule = "; beside a swept name only keys that all of them have can stand" if swept else ""
        return Problem((*place, finding.steps[-1]), finding.text + rule, at_key=True)
    place, node, path = _origin(space, pick, finding.steps, root)
    if not isinstance(node, Range):
        return Problem(place, finding.text)
    kind = kind_of(node)
    if finding.kind == "type" or not finding.expected:
        name = dotted((*root, *finding.steps))
        fit = "int or log_int" if "whole number" in finding.expected else "choice"
        return Problem(place, f"{name} must be {finding.expected}, which {kind} does not give; use {fit}")
    return Problem((*place, kind, int(pick(path, node) == node.high)), finding.text)


def _origin(space: Any, pick: Pick, steps: Place, root: Place) -> tuple[Place, Any, str]:
    """The place, node and path of what stands at `steps` in the tree that `pick` makes of the space."""
    place = root
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
    return [Problem(_place(path, section_of(space)), what) for path in endless]


def _countable(bounds: Range) -> bool:
    return not bounds.log and (bounds.integer or bounds.step is not None)


def _place(path: str, section: str) -> Place:
    """Where the distribution at a path of `space.resolve` stands in the file."""
    place: list[str | int] = ["data" if re.match(rf"{LABELS}\b", path) else section]
    for step in path.split("."):
        key, *options = step.split("[")
        place.append(int(key) if key.isdigit() else key)
        for option in options:
            place += ["choice", int(option.rstrip("]"))]
    return tuple(place)
