"""The pictures of a whole sweep."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medtune.config.sweep import Asha, Hyperband
from medtune.figures.history import history_figure
from medtune.figures.importance import importance_figure
from medtune.figures.parallel import parallel_figure
from medtune.figures.pareto import pareto_figure
from medtune.figures.rungs import rungs_figure
from medtune.figures.selection import selection_figure
from medtune.figures.slices import slices_figure
from medtune.frames import Sweep


def draw_overview(sweep: Sweep, folder: Path) -> dict[str, Path]:
    """`history.png`, `importance.png`, `parallel.png`, `slices.png`, `rungs.png` and `pareto.png` of a sweep in a
    folder, made if need be; their paths by name. Of a sweep that has no trial yet they say so."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in "history importance parallel slices rungs pareto".split()}
    trials, metric, direction = sweep.trials, sweep.metric, sweep.config.direction
    values, states = trials["value"].to_numpy(dtype=np.float64), trials["state"].tolist()
    importance = sweep.importance()
    columns = trials[by_importance(sweep, importance)]
    history_figure(values, states, sweep.best_so_far.to_numpy(), metric, direction, paths["history"])
    importance_figure(
        importance["dimension"].tolist(),
        importance["importance"].to_numpy(dtype=np.float64),
        importance["noise"].to_numpy(dtype=np.float64),
        importance["why"].tolist(),
        basis(importance, metric),
        paths["importance"],
    )
    parallel_figure(columns, sweep.scales, values, metric, direction, paths["parallel"])
    slices_figure(columns, sweep.scales, values, states, metric, direction, paths["slices"])
    best = None if sweep.best is None else int(sweep.best["number"])
    rungs_figure(sweep.epochs, trials["state"].to_dict(), best, rungs_of(sweep), metric, direction, paths["rungs"])
    auroc, ece = (trials[name].to_numpy(dtype=np.float64) for name in ("val/auroc", "val/ece"))
    pareto_figure(auroc, ece, states, trials["number"].tolist(), paths["pareto"])
    return paths


def draw_selection(selection: Mapping[str, Any], folder: Path) -> None:
    """`selection.png` of what `selection.json` holds, in a folder that is there."""
    trials = selection["trials"]

    def numbers(values: Iterable[float | None]) -> NDArray[np.float64]:
        return np.array([math.nan if value is None else value for value in values], np.float64)

    selection_figure(
        [trial["trial"] for trial in trials],
        numbers(trial["value"] for trial in trials),
        numbers(trial["interval"][end] for trial in trials for end in ("low", "high")).reshape(-1, 2),
        numbers(trial["wins"] for trial in trials),
        np.array([trial["tied"] for trial in trials], bool),
        float(numbers([selection["corrected"]])[0]),
        selection["metric"],
        folder / "selection.png",
    )


def by_importance(sweep: Sweep, importance: pd.DataFrame) -> list[str]:
    """The swept columns, the most important first; one that several dimensions give by the best of them."""
    known = importance.groupby("name")["importance"].max().fillna(-1)
    # `optimizer.name` is what the dimension `optimizer` chooses
    share = {name: known.get(name, known.get(name.rpartition(".")[0], -1.0)) for name in sweep.swept}
    return sorted(sweep.swept, key=lambda name: -share[name])


def basis(importance: pd.DataFrame, metric: str) -> str:
    """What was compared, in words."""
    epochs = importance["up_to_epoch"].dropna()
    trials = int(importance["trials"].max()) if len(importance) else 0
    where = f"up to epoch {epochs.iloc[0]}, which all of these reached" if len(epochs) else "at each one's best epoch"
    return f"fANOVA of {metric} {where}; {trials} trials."


def rungs_of(sweep: Sweep) -> list[int]:
    """The epochs at which the pruner of a sweep looks at its trials."""
    pruning, last = sweep.config.pruning, sweep.epochs["epoch"].max()
    if not isinstance(pruning, Asha | Hyperband) or pd.isna(last):
        return []
    factor, found = pruning.reduction_factor, []
    rung = float(pruning.grace_epochs)
    while rung < last:
        found.append(round(rung))
        rung *= factor
    return found
