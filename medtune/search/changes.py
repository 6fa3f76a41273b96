"""How two configurations of one sweep differ, and what of that a sweep that has begun can take."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.config.notation import kinds_in
from medtune.config.overrides import Sources, apply_overrides
from medtune.config.problems import Place, Problem, dotted
from medtune.config.read import ConfigError
from medtune.config.sweep import SweepConfig
from medtune.config.write import file_tree, without_password
from medtune.config.yaml_text import parse
from medtune.search.entries import best_entry
from medtune.search.folder import HoldsASweep, SweepFolder

TAKEN = ("search.trials", "budget", "resources", "tracking", "keep", "retrain", "cluster.address")
LONGEST = 60  # characters in which a value is told
LISTED = 6  # differences that a refusal names
_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """A key of the sweep file that is another one than it was. before, now: as people read them, without passwords."""

    place: Place
    before: str
    now: str

    @property
    def key(self) -> str:
        return dotted(self.place)

    @property
    def taken(self) -> bool:
        """Whether a sweep that has begun can go on with it."""
        return f"{self.key}.".startswith(tuple(f"{key}." for key in TAKEN))


def changes(before: SweepConfig, now: SweepConfig) -> list[Change]:
    """Where the two differ, whatever their files look like. A password of the ledger is no difference."""
    return [Change(place, _shown(old), _shown(new)) for place, old, new in _differences(_tree(before), _tree(now), ())]


def refuse_fixed(found: Sequence[Change], path: Path, overrides: Sequence[str]) -> None:
    """Raises ConfigError with a line for each change that cannot be taken, at its place in the file or in `--set`."""
    sources = Sources(str(path), parse(path.read_text()))
    apply_overrides(sources, overrides)
    fixed = [
        Problem(
            change.place,
            f"{change.key} was {change.before}, is {change.now}: a sweep that has begun cannot change it; "
            "put it back, or start another sweep with --folder",
        )
        for change in found
        if not change.taken
    ]
    if fixed:
        raise ConfigError(dict.fromkeys(sources.line(problem) for problem in sorted(fixed, key=sources.order)))


def there_already(path: Path, file: Path, config: SweepConfig) -> HoldsASweep:
    """Says what the sweep in a folder has come to, and how the one that was to begin there is another one."""
    holds = differs = ""
    with contextlib.suppress(Exception):  # whatever is wrong with it: it is there
        from medtune.search.paths import from_anywhere

        folder = SweepFolder.open(path)
        there = folder.config()
        holds = _come_to(folder, there)
        found = [
            f"{change.key} is {change.before} there and {change.now} here"
            for change in changes(there, from_anywhere(config))
            if not (config.search.warm_start and change.place[:2] == ("search", "start_with"))  # made when it began
        ]
        more = [f"and {len(found) - LISTED} more"] if len(found) > LISTED else []
        differs = f"{file} is not the same: {', '.join([*found[:LISTED], *more])}" if found else ""
    return HoldsASweep(path, holds, differs)


def _come_to(folder: SweepFolder, config: SweepConfig) -> str:
    from medtune.search.ledger import Ledger

    entries = Ledger(folder, config).entries()
    best, counts = best_entry(entries, config.direction), Counter(entry.state for entry in entries)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    words = [f"begun {time.strftime('%F', time.localtime(folder.id_file.stat().st_mtime))}"]
    words.append(f"{len(entries)} trials{states and f': {states}'}")
    return ", ".join(
        [*words, f"best {config.search.metric} {best.value:.3f} of trial {best.number}"] if best else words
    )


def _tree(config: SweepConfig) -> dict[str, Any]:
    tree = file_tree(config)
    for section, key in (("cluster", "ledger"), ("tracking", "uri")):
        address = tree[section][key]
        tree[section][key] = address and without_password(address).replace(":***@", "@")
    return tree


def _differences(before: Any, now: Any, place: Place) -> Iterator[tuple[Place, Any, Any]]:
    """Down to the values that differ; a node of another kind differs as a whole."""
    if isinstance(before, Mapping) and isinstance(now, Mapping) and kinds_in(before) == kinds_in(now):
        named = "name" in before and before["name"] != now.get("name")  # and so its keys
        for key in ["name"] if named else [*before, *(key for key in now if key not in before)]:
            yield from _differences(before.get(key, _ABSENT), now.get(key, _ABSENT), (*place, key))
    elif _nodes(before) and _nodes(now) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differences(old, new, (*place, index))
    elif before != now:
        yield place, before, now


def _nodes(value: Any) -> bool:
    """Whether it is a list with mappings in it, which are compared one by one."""
    return isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = without_password(value if isinstance(value, str) else json.dumps(value, default=str))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
