import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from PIL import Image

from medtune.evaluation.front import pareto_front
from medtune.figures import history, importance, parallel, pareto, rungs, slices, sweeps
from medtune.figures.history import history_figure
from medtune.figures.importance import importance_figure
from medtune.figures.parallel import parallel_figure
from medtune.figures.pareto import pareto_figure
from medtune.figures.rungs import rungs_figure
from medtune.figures.selection import selection_figure
from medtune.figures.slices import slices_figure
from medtune.figures.sweeps import BEST, STATES, placed, value_limits, within
from medtune.frames import load_sweep
from medtune.overview import by_importance, draw_overview, rungs_of
from medtune.search.folder import SweepFolder

NAN = math.nan
VALUES = np.array([0.80, 0.90, 0.85, NAN, 0.60, 0.88])
TOLD = ["complete", "complete", "pruned", "failed", "pruned", "unfinished"]
COLUMNS = pd.DataFrame(
    {
        "batch_size": [32, 64, 128, 32, 64, 128],
        "optimizer.name": ["adam", "sgd", "adam", "adam", "sgd", "adam"],
        "optimizer.lr": [1e-4, 1e-1, 1e-2, 1e-3, 1e-2, 1e-4],
        "optimizer.momentum": [NAN, 0.5, NAN, NAN, 0.9, NAN],
        "augment.flip": [True, False, True, True, False, False],
    }
)
SCALES = dict(zip(COLUMNS, ["choice", "choice", "log", "linear", "choice"], strict=True))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    for module in (history, importance, parallel, pareto, rungs, slices):
        monkeypatch.setattr(module, "save", _noting(module, figures))
    return figures


def _noting(module: ModuleType, figures: list[Figure]) -> Any:
    real = module.save
    return lambda figure, path: figures.append(figure) or real(figure, path)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def marks(axes: Any, colour: str) -> np.ndarray:
    """Where the marks of a colour are."""
    from matplotlib.colors import to_rgba

    found = [c for c in axes.collections if isinstance(c, PathCollection) and len(c.get_offsets())]
    of = [c.get_offsets() for c in found if len(c.get_facecolors()) and tuple(c.get_facecolors()[0]) == to_rgba(colour)]
    return np.concatenate(of) if of else np.zeros((0, 2))


class TestPlaces:
    def test_numbers_lie_between_the_lowest_and_the_highest(self) -> None:
        layout = placed(pd.Series([0.0, 5.0, NAN, 20.0]), "linear")
        np.testing.assert_allclose(layout.positions, [0, 0.25, NAN, 1])
        assert all(0 <= where <= 1 for where, _ in layout.ticks) and tuple(layout.ticks[i][1] for i in (0, -1)) == (
            "0",
            "20",
        )

    def test_a_log_axis_has_decades_and_a_place_for_zero(self) -> None:
        layout = placed(pd.Series([1e-4, 1e-3, 1e-1]), "log")
        np.testing.assert_allclose(layout.positions, [0, 1 / 3, 1])
        assert [word for _, word in layout.ticks] == ["1e-4", "1e-3", "0.01", "0.1"]
        with_zero = placed(pd.Series([0.0, 1e-4, 1e-1]), "log")
        np.testing.assert_allclose(with_zero.positions, [0, sweeps.ZERO, 1])
        assert with_zero.ticks[0] == (0.0, "0") and with_zero.ticks[1] == (sweeps.ZERO, "1e-4")

    def test_choices_are_in_order_of_their_size_or_name(self) -> None:
        assert [word for _, word in placed(pd.Series([128, 32, 64]), "choice").ticks] == ["32", "64", "128"]
        assert [word for _, word in placed(pd.Series([True, False]), "choice").ticks] == ["false", "true"]
        mixed = placed(pd.Series(["b", None, "a", "b"]), "linear")  # not of numbers
        np.testing.assert_allclose(mixed.positions, [0.75, NAN, 0.25, 0.75])
        assert abs(mixed.spread - mixed.positions)[[0, 2, 3]].max() < 0.25

    def test_one_value_is_in_the_middle_and_named(self) -> None:
        for scale in ("linear", "log", "choice"):
            layout = placed(pd.Series([0.5, NAN, 0.5]), scale)
            assert layout.positions[0] == 0.5 and layout.ticks == [(0.5, "0.5")]

    def test_the_axis_of_a_metric_leaves_out_what_is_far_worse_than_the_median(self) -> None:
        low, high = value_limits([0.3, 0.4, 0.5, 4912.0, NAN], "min")
        assert low < 0.3 and 0.5 < high < 1.5
        low, high = value_limits([0.90, 0.91, 0.92, 0.93, 0.1], "max")
        assert 0.8 < low < 0.9 and high > 0.93
        assert value_limits([0.5, 0.9], "max")[0] < 0.5
        assert value_limits([], "max") == (0, 1) and value_limits([0.5], "min") == pytest.approx((0.49, 0.51))
        assert ((inside := within(np.array([-9.0, 0.5, 9.0]), (0, 1))) > 0).all() and (inside < 1).all()


class TestHistory:
    def draw(self, path: Path) -> None:
        best = np.array([0.80, 0.90, 0.90, 0.90, 0.90, 0.90])
        history_figure(VALUES, TOLD, best, "val/auroc", "max", path / "history.png")

    def test_a_mark_a_trial_by_its_state_and_the_best_so_far(self, tmp_path: Path, drawn: list[Figure]) -> None:
        self.draw(tmp_path)
        assert Image.open(tmp_path / "history.png").size == (700, 400)
        axes = drawn[0].axes[0]
        for state in STATES:
            wanted = [number for number, told in enumerate(TOLD) if told == state]
            assert marks(axes, STATES[state][1])[:, 0].tolist() == wanted
        assert marks(axes, STATES["complete"][1])[:, 1].tolist() == [0.80, 0.90]
        low, high = axes.get_ylim()
        assert low < marks(axes, STATES["failed"][1])[0, 1] < low + 0.1 * (high - low)
        assert axes.lines[0].get_ydata().tolist() == [0.80, *[0.90] * 5]
        assert {*STATES, "best so far"} <= set(texts(drawn[0]))

    def test_the_same_numbers_are_the_same_file(self, tmp_path: Path) -> None:
        self.draw(tmp_path)
        once = (tmp_path / "history.png").read_bytes()
        self.draw(tmp_path)
        assert (tmp_path / "history.png").read_bytes() == once


class TestImportance:
    def test_bars_with_what_chance_gives_and_reasons_in_words(self, tmp_path: Path, drawn: list[Figure]) -> None:
        names, why = (
            ["lr (adam)", "batch_$size$", "momentum (sgd)"],
            ["", "", "3 trials of sgd, at least 10 are needed"],
        )
        shares, noise = np.array([0.6, 0.05, NAN]), np.array([0.2, 0.1, NAN])
        importance_figure(names, shares, noise, why, "fANOVA of val/auroc", tmp_path / "i.png")
        axes = drawn[0].axes[0]
        assert [bar.get_width() for bar in axes.patches] == [0.6, 0.05]
        assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
        assert [line.get_xdata()[0] for line in axes.lines] == [0.2, 0.1]
        assert {"60%", "5%", why[2], *names} <= set(texts(drawn[0]))

    def test_of_nothing_and_of_many(self, tmp_path: Path, drawn: list[Figure]) -> None:
        none = np.zeros(0)
        importance_figure([], none, none, [], "", tmp_path / "none.png")
        assert "nothing is swept" in texts(drawn[0])
        names = [f"a.dimension.with.a.very.long.name.indeed_{number}" for number in range(40)]
        importance_figure(names, np.full(40, 0.1), np.full(40, 0.2), [""] * 40, "", tmp_path / "many.png")
        assert len(drawn[1].axes[0].patches) == importance.MOST


class TestParallel:
    def draw(self, path: Path, columns: pd.DataFrame = COLUMNS, direction: str = "max") -> None:
        scales = SCALES | {name: "linear" for name in columns if name not in SCALES}
        parallel_figure(columns, scales, VALUES, "val/auroc", direction, path / "parallel.png")

    def test_a_line_a_trial_with_a_gap_where_it_has_no_value(self, tmp_path: Path, drawn: list[Figure]) -> None:
        self.draw(tmp_path)
        lines = [c for c in drawn[0].axes[0].collections if isinstance(c, LineCollection)]
        assert len(lines) == 2 * 5  # each with its bridges
        solid = [len(line.get_segments()) for line in lines[::2]]
        bridges = [[seg[:, 0].tolist() for seg in line.get_segments()] for line in lines[1::2]]
        # six axes; three of the trials have no momentum, which is on the fourth
        assert sorted(solid) == [3, 3, 3, 5, 5] and sorted(bridges) == [[], [], *[[[2, 4]]] * 3]
        assert {"optimizer\nlr", "val\nauroc", "adam", "1e-3", "true"} <= set(texts(drawn[0]))

    @pytest.mark.parametrize(("direction", "best"), [("max", 0.9), ("min", 0.6)])
    def test_the_best_is_drawn_last_thickest_and_darkest(
        self, tmp_path: Path, drawn: list[Figure], direction: str, best: float
    ) -> None:
        self.draw(tmp_path, direction=direction)
        lines = [c for c in drawn[0].axes[0].collections if isinstance(c, LineCollection)][::2]
        assert [line.get_linewidth()[0] for line in lines] == [1.2] * 4 + [2.6]
        darkness = [line.get_colors()[0][:3].sum() for line in lines]
        assert darkness[-1] == min(darkness) and lines[-1].get_segments()[-1][1, 1] == (1 if best == 0.9 else 0)

    def test_of_very_many_columns_the_first_and_of_nothing_words(self, tmp_path: Path, drawn: list[Figure]) -> None:
        self.draw(tmp_path, pd.DataFrame({f"x{number}": range(6) for number in range(30)}))
        assert f"x{parallel.MOST - 1}" in texts(drawn[0]) and f"x{parallel.MOST}" not in texts(drawn[0])
        parallel_figure(COLUMNS[:0], SCALES, np.zeros(0), "val/auroc", "max", tmp_path / "none.png")
        assert "no trial has a value yet" in texts(drawn[1])


class TestSlices:
    def draw(self, path: Path, columns: pd.DataFrame = COLUMNS, direction: str = "max") -> None:
        scales = SCALES | {name: "linear" for name in columns if name not in SCALES}
        slices_figure(columns, scales, VALUES, TOLD, "val/auroc", direction, path / "slices.png")

    def test_a_panel_a_column_with_the_trials_that_have_a_value(self, tmp_path: Path, drawn: list[Figure]) -> None:
        self.draw(tmp_path)
        panels = drawn[0].axes[:5]
        assert [axes.get_xlabel() for axes in panels] == list(COLUMNS)
        assert len(marks(panels[0], STATES["pruned"][1])) == 2 and len(marks(panels[3], STATES["pruned"][1])) == 1
        lr = marks(panels[2], STATES["complete"][1])
        np.testing.assert_allclose(lr, [[0, 0.80], [1, 0.90]])
        assert all(axes.get_ylim() == panels[0].get_ylim() for axes in panels)

    @pytest.mark.parametrize(("direction", "best"), [("max", 0.9), ("min", 0.8)])
    def test_the_best_complete_one_has_a_ring(
        self, tmp_path: Path, drawn: list[Figure], direction: str, best: float
    ) -> None:
        self.draw(tmp_path, direction=direction)
        (ring,) = [c for c in drawn[0].axes[2].collections if c.get_linewidths()[0] == 2]
        assert ring.get_offsets()[0, 1] == best

    def test_at_most_twelve_and_of_nothing_words(self, tmp_path: Path, drawn: list[Figure]) -> None:
        self.draw(tmp_path, pd.DataFrame({f"x{number}": range(6) for number in range(30)}))
        assert Image.open(tmp_path / "slices.png").size[0] <= 1085
        assert [axes.get_xlabel() for axes in drawn[0].axes if axes.get_xlabel()] == [f"x{n}" for n in range(12)]
        slices_figure(COLUMNS[:0], SCALES, np.zeros(0), [], "val/auroc", "max", tmp_path / "none.png")
        slices_figure(COLUMNS[[]], {}, VALUES, TOLD, "val/auroc", "max", tmp_path / "nothing.png")
        assert all("no trial has\na value yet" in texts(figure) for figure in drawn[1:])


EPOCHS = pd.DataFrame(
    {
        "trial": [0, 0, 0, 1, 2, 2, 2, 3],
        "epoch": [1, 2, 3, 1, 1, 2, 3, 1],
        "val/auroc": [0.6, 0.7, 0.8, 0.5, 0.7, 0.8, 0.9, NAN],
    }
)
ENDED = {0: "complete", 1: "pruned", 2: "complete", 3: "failed"}


class TestRungs:
    def test_each_trials_curve_and_where_it_was_stopped(self, tmp_path: Path, drawn: list[Figure]) -> None:
        rungs_figure(EPOCHS, ENDED, 2, [1, 2], "val/auroc", "max", tmp_path / "rungs.png")
        axes = drawn[0].axes[0]
        curves = [c for c in axes.collections if isinstance(c, LineCollection)]
        stopped, complete, best = (c.get_segments() for c in curves)
        assert [line.tolist() for line in stopped] == [[[1, 0.5]]]
        np.testing.assert_allclose(complete, [[(1, 0.6), (2, 0.7), (3, 0.8)]])
        np.testing.assert_allclose(best, [[(1, 0.7), (2, 0.8), (3, 0.9)]])
        assert [line.get_xdata()[0] for line in axes.lines] == [1, 2] and axes.get_xscale() == "log"
        assert {"complete", "pruned", "best", "rung"} <= set(texts(drawn[0])) and "failed" not in texts(drawn[0])

    def test_without_a_pruner_and_without_an_epoch(self, tmp_path: Path, drawn: list[Figure]) -> None:
        rungs_figure(EPOCHS, ENDED, None, [], "val/auroc", "max", tmp_path / "all.png")
        assert drawn[0].axes[0].get_xscale() == "linear" and "rung" not in texts(drawn[0])
        rungs_figure(EPOCHS[:0], {}, None, [1], "val/auroc", "max", tmp_path / "none.png")
        assert "no epoch yet" in texts(drawn[1])

    def test_a_loss_that_jumped_does_not_hide_the_others(self, tmp_path: Path, drawn: list[Figure]) -> None:
        losses = EPOCHS.rename(columns={"val/auroc": "val/loss"})
        losses.loc[1, "val/loss"] = 4000.0
        rungs_figure(losses, ENDED, 0, [], "val/loss", "min", tmp_path / "loss.png")
        assert drawn[0].axes[0].get_ylim()[1] < 2


class TestPareto:
    def test_the_front_is_what_no_other_beats_in_both(self) -> None:
        generator = np.random.default_rng(0)
        for decimals in (1, 2, 6):  # few decimals make ties
            auroc, ece = generator.random((2, 60)).round(decimals)
            auroc[:5] = NAN
            better = (
                (auroc[:, None] >= auroc) & (ece[:, None] <= ece) & ((auroc[:, None] > auroc) | (ece[:, None] < ece))
            )
            assert pareto_front(auroc, ece).tolist() == (~better.any(axis=0) & ~np.isnan(auroc)).tolist()
        assert pareto_front(np.zeros(0), np.zeros(0)).tolist() == []

    def test_of_the_complete_trials_alone(self, tmp_path: Path, drawn: list[Figure]) -> None:
        auroc, ece = np.array([0.8, 0.9, 0.7, 0.99, NAN]), np.array([0.1, 0.2, 0.3, 0.01, 0.1])
        states = ["complete", "complete", "complete", "pruned", "failed"]
        pareto_figure(auroc, ece, states, [4, 5, 6, 7, 8], tmp_path / "pareto.png")
        assert Image.open(tmp_path / "pareto.png").size == (600, 450)
        (front,) = drawn[0].axes[0].lines
        assert front.get_xdata().tolist() == [0.1, 0.2] and front.get_ydata().tolist() == [0.8, 0.9]
        assert {"4", "5"} <= set(texts(drawn[0])) and not {"6", "7"} & set(texts(drawn[0]))

    def test_of_nothing_words(self, tmp_path: Path, drawn: list[Figure]) -> None:
        pareto_figure(np.array([NAN]), np.array([0.1]), ["failed"], [0], tmp_path / "none.png")
        assert "no trial has a value yet" in texts(drawn[0])


class TestOverview:
    def test_of_a_sweep_in_every_state(self, tiny: Any, finished: SweepFolder, tmp_path: Path) -> None:
        waiting = tiny.create(tmp_path / "waiting")
        killed = tiny.create(tmp_path / "killed")
        tiny.run_killed(killed, 1)
        for folder in (finished, waiting, killed):
            paths = draw_overview(load_sweep(folder.path), tmp_path / "pictures" / folder.path.name)
            assert set(paths) == {"history", "importance", "parallel", "slices", "rungs", "pareto"}
            assert all(Image.open(path).size[0] >= 300 for path in paths.values())

    def test_columns_by_importance_and_the_rungs_of_asha(self, finished_once: SweepFolder) -> None:
        sweep = load_sweep(finished_once.path)
        rows = [("optimizer", 0.5), ("optimizer.lr", NAN), ("optimizer.lr", 0.7), ("batch_size", 0.1)]
        rows += [("optimizer.momentum", NAN), ("model.dropout", NAN)]
        order = by_importance(sweep, pd.DataFrame(rows, columns=["name", "importance"]))
        assert order == ["optimizer.lr", "optimizer.name", "batch_size", "model.dropout", "optimizer.momentum"]
        assert rungs_of(sweep) == [1]

    def test_best_is_the_orange_of_the_house(self) -> None:
        assert sweeps.COLOURS[1] == BEST


class TestTheSelection:
    def draw(self, path: Path, trials: int, corrected: float = 0.8) -> bytes:
        generator = np.random.default_rng(trials)
        values = generator.uniform(0.6, 0.95, trials)
        ends = np.stack([values - 0.05, values + 0.04], axis=1)
        wins, tied = np.full(trials, 1 / max(trials, 1)), values > 0.8
        selection_figure(list(range(trials)), values, ends, wins, tied, corrected, "val/auroc", path)
        return path.read_bytes()

    @pytest.mark.parametrize(("trials", "height"), [(0, 204), (1, 204), (12, 474), (40, 690)])
    def test_it_has_a_row_for_each_of_the_first_trials(self, tmp_path: Path, trials: int, height: int) -> None:
        self.draw(tmp_path / "selection.png", trials)
        assert Image.open(tmp_path / "selection.png").size == (700, height)

    def test_the_same_numbers_are_the_same_picture_and_others_are_not(self, tmp_path: Path) -> None:
        first, again = (self.draw(tmp_path / name, 5) for name in ("one.png", "two.png"))
        assert first == again != self.draw(tmp_path / "three.png", 5, corrected=0.7)

    def test_what_is_undefined_is_left_out(self, tmp_path: Path) -> None:
        nothing = np.full((3, 2), np.nan)
        path = tmp_path / "undefined.png"
        selection_figure([1, 2, 3], nothing[:, 0], nothing, np.zeros(3), np.ones(3, bool), np.nan, "val/auroc", path)
        assert path.exists()
