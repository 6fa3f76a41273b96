"""What a sweep has used, from what its watch has written last; needs no Ray."""

import json
from pathlib import Path
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.search.folder import SweepFolder


class Usage:
    """machines: as `Watch` writes them, with the trials on each, and none of a sweep that does not run. starting:
    trials of which no worker has said where it is. hours: of machines, in all starts of the sweep. price: of these
    hours; None where `resources.price_per_hour` is not given."""

    def __init__(self, folder: SweepFolder, config: SweepConfig, running: bool) -> None:
        told = read(folder.machines)
        self.machines: list[dict[str, Any]] = told.get("machines", []) if running else []
        self.starting: list[int] = told.get("starting", []) if running else []
        self.refused: list[str] = told.get("refused", []) if running else []
        self.hours = machine_hours(folder.machines)
        hourly = config.resources.price_per_hour
        self.price = None if hourly is None else hourly * self.hours

    def as_json(self) -> dict[str, Any]:
        """What `status --json` says of it."""
        now = {"machines": self.machines, "starting": self.starting, "refused": self.refused}
        return {**now, "machine_hours": self.hours, "price": self.price}


def machine_hours(file: Path) -> float:
    """How long machines have worked at a sweep, in all its starts; 0 where nothing says so."""
    return float(read(file).get("machine_hours", 0.0))


def read(file: Path) -> dict[str, Any]:
    """What a watch has last written; nothing where it has not."""
    try:
        told = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
