"""Numbers in words, the same way on every page and on the command line."""

from collections.abc import Mapping
from typing import Any


def number(value: float | None, digits: int = 3) -> str:
    """Nothing for what is no number."""
    return "" if value is None or value != value else f"{value:.{digits}f}"


def interval(found: Mapping[str, Any], digits: int = 3) -> str:
    """`value`, `low` and `high` as `Interval.as_json` has them, or why there are none."""
    if found["value"] is None:
        return f"undefined: {found['undefined']}"
    return f"{found['value']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def believed(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """The debiased calibration error and the interval of the true one, as `Estimate.as_json` has them."""
    if estimate["debiased"] is None:
        return f"undefined: {estimate['undefined']}" if "undefined" in estimate else ""
    return f"{estimate['debiased']:.{digits}f} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"
