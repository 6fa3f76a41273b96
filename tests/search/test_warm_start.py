import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.config.default import Point, default_point, start_points, trial_config
from medtune.config.problems import ConfigError
from medtune.config.read import read_sweep
from medtune.config.space import Choice, Range, resolve
from medtune.config.sweep import SweepConfig
from medtune.config.write import dump_sweep
from medtune.search.dimensions import dimensions
from medtune.search.earlier import absolute, sweep_in, with_warm_start
from medtune.search.entries import Entry
from medtune.search.folder import SweepFolder
from medtune.search.plan import draw_point
from medtune.search.sweep import create_sweep
from medtune.search.warm_start import (
    Candidate,
    EarlierSweep,
    EarlierTrial,
    as_entry,
    choose,
    default_count,
    distance,
    overlapping_point,
    shared_part,
    warm_points,
)

EVERYTHING = Path(__file__).parents[2] / "sweeps" / "everything.yaml"
LR = {"optimizer": {"name": "adam", "lr": Range(1e-4, 1e-2, log=True)}, "batch_size": Choice((16, 32, 64))}


def configuration(lr: float = 1e-3, batch_size: int = 32, **optimizer: Any) -> dict[str, Any]:
    return {"optimizer": {"name": "adam", "lr": lr, **optimizer}, "batch_size": batch_size}


def a_sweep(
    values: list[float], direction: str = "max", name: str = "earlier", state: Any = "complete"
) -> EarlierSweep:
    """Trials of these values, with a learning rate of their own each."""
    lrs = np.geomspace(1.1e-4, 9e-3, len(values))
    trials = [
        EarlierTrial(Entry(number, state, value=value), configuration(float(lr), batch_size=64))
        for number, (value, lr) in enumerate(zip(values, lrs, strict=True))
    ]
    return EarlierSweep(name, direction, frozenset({"optimizer.lr", "batch_size"}), trials)


class TestWhatAnotherSpaceCanGive:
    @pytest.mark.parametrize(
        ("bounds", "wanted", "given"),
        [
            (Range(0, 0.5), 0.3, 0.3),
            (Range(0, 0.5), 0.9, 0.5),
            (Range(1e-4, 1e-2, log=True), 1e-6, 1e-4),
            (Range(0, 20, integer=True, step=5), 13.2, 15),
            (Range(0, 1, step=0.25), 0.6, 0.5),
            (Choice((16, 32)), 32, 32),
            (Choice((0, Range(0.1, 0.4))), 0.05, 0.1),
            (Choice((0, Range(0.1, 0.4))), 0.0, 0),
            (Choice(([0.5, 0.75], [0.3])), (0.3,), [0.3]),
            ([0.5, Range(0.6, 0.9)], [0.5, 0.95], [0.5, 0.9]),
        ],
    )
    def test_is_clipped(self, bounds: Any, wanted: Any, given: Any) -> None:
        assert shared_part({"leaf": bounds}, {"leaf": wanted, "other": 1}) == {"leaf": given}

    @pytest.mark.parametrize(
        ("bounds", "wanted"),
        [(Choice((16, 32)), 48), (Choice((True, False)), 1), (Range(0, 1), True), (Range(0, 1), "much"), ([1], [1, 2])],
    )
    def test_or_is_not_there(self, bounds: Any, wanted: Any) -> None:
        assert shared_part({"leaf": bounds, "same": 1}, {"leaf": wanted, "same": 1}) == {"same": 1}

    def test_the_option_that_keeps_the_most(self) -> None:
        low, high = Range(1e-4, 1e-3, log=True), Range(1e-2, 1e-1, log=True)
        options = Choice(({"name": "sgd", "lr": low}, {"name": "sgd", "lr": high}, {"name": "adam", "lr": high}))
        assert shared_part(options, {"name": "sgd", "lr": 0.05, "momentum": 0.9}) == {"name": "sgd", "lr": 0.05}
        assert shared_part({"optimizer": options}, {"optimizer": {"name": "rmsprop", "lr": 0.05}}) not in ({}, options)

    def test_below_another_name_nothing_is_taken_over(self) -> None:
        point = overlapping_point(LR, configuration(5e-3, 64, name="sgd"), frozenset({"batch_size"}))
        assert point == ({**default_point(LR), "batch_size": 2}, 0.5)


class TestAnOverlappingPoint:
    def test_has_the_earlier_values_and_this_spaces_defaults(self, tiny: Any) -> None:
        space = tiny.config().trial
        wanted = {"epochs": 50, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 1.0, "nesterov": False}}
        point, said = overlapping_point(space, wanted, frozenset({"batch_size", "optimizer", "optimizer.lr"}))
        assert said == 3 / 5
        assert point == {"batch_size": 1, "model.dropout": 0, "optimizer": 1, "optimizer[1].lr": 0.1} | {
            "optimizer[1].momentum": 0.9
        }

    def test_says_what_both_have(self) -> None:
        space = {**LR, "model": {"dropout": Range(0, 0.5)}, "loss": {"label_smoothing": Range(0, 0.2)}}
        swept = frozenset({"optimizer.lr", "batch_size"})
        assert overlapping_point(space, configuration(), swept)[1] == 2 / 4
        assert overlapping_point(space, configuration(), frozenset({"batch_size"}))[1] == 1 / 4
        assert overlapping_point(space, {"epochs": 3}, frozenset({"epochs"})) == (default_point(space), 0)

    def test_what_was_fixed_at_something_else_than_the_default_is_known(self) -> None:
        assert overlapping_point(LR, configuration(1e-3, 16), frozenset())[1] == 0  # 16 stands for the default 128
        assert overlapping_point(LR, configuration(2e-3, 16), frozenset())[1] == 1 / 2

    def test_a_space_of_one_point_has_nothing_to_take_over(self) -> None:
        assert overlapping_point({"batch_size": 16}, configuration(), frozenset({"optimizer.lr"})) == ({}, 0)


def test_an_entry_of_start_with_reads_back_as_the_point_that_it_is_of(tmp_path: Path) -> None:
    config, generator = read_sweep(EVERYTHING), np.random.default_rng(0)
    space = config.trial
    points = [draw_point(space, generator) for _ in range(30)]
    entries = [as_entry(space, point) for point in points]
    search = config.search.model_copy(update={"start_with": tuple(entries)})
    dump_sweep(config.model_copy(update={"search": search}), tmp_path / "sweep.yaml")
    back = start_points(space, read_sweep(tmp_path / "sweep.yaml").search.start_with)
    assert [trial_config(space, point) for point in back] == [trial_config(space, point) for point in points]


def test_a_configuration_of_the_space_itself_is_taken_over_as_it_is() -> None:
    space, generator = read_sweep(EVERYTHING).trial, np.random.default_rng(1)
    swept = frozenset(dimension.name for dimension in dimensions(space))
    for _ in range(30):
        trial = trial_config(space, draw_point(space, generator))
        point, said = overlapping_point(space, trial.model_dump(mode="json"), swept)
        assert said == 1 and trial_config(space, point) == trial


class TestDistance:
    def test_a_range_by_its_scale_and_a_choice_by_whether_it_is_the_same(self) -> None:
        named = dimensions(LR)
        low, high = {"optimizer.lr": 1e-4, "batch_size": 0}, {"optimizer.lr": 1e-2, "batch_size": 2}
        middle = {"optimizer.lr": 1e-3, "batch_size": 0}
        assert distance(named, low, high) == pytest.approx(1)
        assert distance(named, low, middle) == pytest.approx(0.5 / np.sqrt(2))
        assert distance(named, low, low) == 0

    def test_of_branches_only_what_both_have(self) -> None:
        space = {"o": Choice(({"name": "a", "lr": Range(0, 1)}, {"name": "b", "lr": Range(0, 1)}, {"name": "c"}))}
        named = dimensions(space)
        assert distance(named, {"o": 0, "o[0].lr": 0}, {"o": 1, "o[1].lr": 1}) == 1
        assert distance(named, {"o": 0, "o[0].lr": 0}, {"o": 0, "o[0].lr": 1}) == pytest.approx(np.sqrt(0.5))
        assert distance(dimensions({"one": Range(2, 2)}), {"one": 2}, {"one": 2}) == 0


class TestWhichAreChosen:
    @staticmethod
    def at(quality: float, lr: float, batch_size: int = 0) -> Candidate:
        return Candidate("earlier", int(lr * 1e5), quality, {"optimizer.lr": lr, "batch_size": batch_size})

    def test_the_best_then_good_ones_that_are_apart(self) -> None:
        best, close, far = self.at(1, 1e-3), self.at(0.95, 1.1e-3), self.at(0.9, 8e-3, 2)
        bad = self.at(0.4, 1e-4, 1)
        assert choose(LR, [best, close, far, bad], 2) == [best, far]
        assert choose(LR, [best, close, far, bad], 5) == [best, far, close]

    def test_what_has_said_little_counts_less(self) -> None:
        said, half = self.at(0.9, 1e-3), replace(self.at(1, 2e-3), said=0.5)
        assert choose(LR, [half, said], 1) == [said]

    def test_none_twice_and_none_that_is_tried_anyhow(self) -> None:
        one, same, other = self.at(1, 1e-3), self.at(0.9, 1e-3 * (1 + 1e-7)), self.at(0.8, 2e-3)
        assert choose(LR, [one, same, other], 5) == [one, other]
        taken: list[Point] = [{"optimizer.lr": 1e-3, "batch_size": 0}]
        assert choose(LR, [one, same, other], 5, taken) == [other]
        assert choose(LR, [], 5) == []

    @pytest.mark.parametrize(("trials", "count"), [(1, 1), (4, 1), (8, 2), (19, 4), (20, 5), (400, 5)])
    def test_a_quarter_of_the_trials_at_most(self, trials: int, count: int) -> None:
        assert default_count(trials) == count


class TestTheRankInItsOwnSweep:
    @pytest.mark.parametrize(("direction", "best"), [("max", 2), ("min", 0)])
    def test_by_its_own_direction(self, direction: str, best: int) -> None:
        (first,), _ = warm_points(LR, [a_sweep([0.1, 0.2, 0.9], direction)], 1)
        assert (first.trial, first.quality) == (best, 1)

    def test_values_of_different_sweeps_are_not_compared(self) -> None:
        easy, hard = a_sweep([0.97, 0.98, 0.99, 0.96], name="easy"), a_sweep([0.5, 0.6, 0.55, 0.7], name="hard")
        chosen, _ = warm_points(LR, [easy, hard], 2)
        assert {(one.sweep, one.trial) for one in chosen} == {("easy", 2), ("hard", 3)}

    def test_pruned_ones_stand_behind_and_failed_ones_nowhere(self) -> None:
        sweep = a_sweep([0.5, 0.9, 0.95, np.nan])
        states = ["complete", "pruned", "failed", "complete"]
        trials = [
            EarlierTrial(Entry(t.entry.number, state, value=t.entry.value), t.configuration)
            for t, state in zip(sweep.trials, states, strict=True)
        ]
        chosen, _ = warm_points(LR, [EarlierSweep("x", "max", sweep.swept, trials)], 5)
        assert [one.trial for one in chosen] == [0]  # the pruned one is the worse of two
        chosen, _ = warm_points(LR, [EarlierSweep("x", "max", sweep.swept, trials[1:])], 5)
        assert [one.trial for one in chosen] == [1]

    def test_what_does_not_overlap_is_left_out_with_a_line(self) -> None:
        sweep = a_sweep([0.1, 0.2, 0.05])
        stranger = EarlierTrial(Entry(3, "complete", value=0.9), {"epochs": 3})
        mixed = EarlierSweep("runs/a", "max", sweep.swept, [*sweep.trials, stranger])
        chosen, notes = warm_points(LR, [mixed, a_sweep([np.nan], name="runs/b")], 5)
        assert [one.trial for one in chosen] == [1] and chosen[0].quality == 3 / 4
        assert (
            notes[0].startswith("1 of 4 trials of runs/a are left out: ")
            and notes[1] == "runs/b has no trial with a value"
        )


class TestAFolder:
    def test_is_read_without_a_change(self, finished_once: SweepFolder) -> None:
        before = {path: path.read_bytes() for path in finished_once.path.rglob("*") if path.is_file()}
        sweep = sweep_in(finished_once.path)
        assert {path: path.read_bytes() for path in finished_once.path.rglob("*") if path.is_file()} == before
        assert [trial.entry.number for trial in sweep.trials] == [0, 1, 2, 3, 4] and sweep.direction == "max"
        assert {"optimizer", "optimizer.lr", "model.dropout", "batch_size"} <= sweep.swept
        for trial in sweep.trials:
            used = finished_once.used(trial.entry.number)
            assert {key: used[key] for key in ("batch_size", "optimizer", "model")} == {
                key: trial.configuration[key] for key in ("batch_size", "optimizer", "model")
            }

    @pytest.mark.parametrize("name", ["empty", "./nowhere"])
    def test_that_holds_none_is_refused_before_anything_starts(
        self, name: str, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match=f"^search.warm_start: {name} is no folder of a sweep") as refused:
            create_sweep(tiny.config(f"search.warm_start=[{name}]"), SweepFolder.claim(tmp_path / "new"))
        assert len(refused.value.problems) == 1 and not (tmp_path / "new").exists()

    def test_paths_are_right_from_anywhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        SweepFolder(tmp_path / "a").path.mkdir()
        SweepFolder(tmp_path / "a").id_file.touch()
        (tmp_path / "medtune").mkdir()  # as in a checkout, where the experiment is called so too
        monkeypatch.chdir(tmp_path)
        assert absolute("a") == absolute("./a") == str(tmp_path / "a")
        assert absolute("breast") == "breast" and absolute("medtune") == "medtune"

    def test_without_the_key_nothing_is_read(self, tiny: Any, tmp_path: Path) -> None:
        config = tiny.config()
        assert with_warm_start(config, tmp_path) is config


def _first_configurations(folder: SweepFolder, count: int) -> list[dict[str, Any]]:
    keys = ("batch_size", "model", "optimizer")
    return [{key: folder.used(number)[key] for key in keys} for number in range(count)]


class TestAWholeSweep:
    """Twelve trials that begin with three of an earlier sweep on another space."""

    @pytest.fixture
    def config(self, tiny: Any, finished: SweepFolder) -> SweepConfig:
        overrides = ["search={sampler: random, trials: 12}", "trial.epochs=1", "pruning={name: none}"]
        overrides.append("trial.model.dropout={uniform: [0.2, 0.4]}")
        return tiny.config(*overrides, f"search.warm_start=[{finished.path}]")

    def test_begins_with_them_also_after_a_kill_without_the_earlier_folder(
        self, tiny: Any, config: SweepConfig, finished: SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder, made = create_sweep(config, SweepFolder.claim(tmp_path / "warm"))
        folder.unlock()
        err = capsys.readouterr().err
        expected, _ = warm_points(made.trial, [sweep_in(finished.path)], 3, [default_point(made.trial)])
        assert 2 <= len(expected) <= 3 and made.search.warm_start == (str(finished.path),)
        assert f"trial 1 begins as trial {expected[0].trial} of {finished.path}" in err
        assert made == folder.config() and len(made.search.start_with) == len(expected)
        shutil.rmtree(finished.path)
        tiny.run_killed(folder, 2)
        tiny.run(tiny.open(folder))
        first = _first_configurations(folder, 1 + len(expected))
        wanted = [default_point(made.trial), *(one.point for one in expected)]
        plain = [resolve(made.trial, lambda path, _, at=at: at[path]) for at in wanted]  # type: ignore[misc]
        assert [(one["batch_size"], one["model"]["dropout"]) for one in first] == [
            (one["batch_size"], one["model"]["dropout"]) for one in plain
        ]
        assert [one["optimizer"]["lr"] for one in first] == [one["optimizer"]["lr"] for one in plain]
        assert all(0.2 <= one["model"]["dropout"] <= 0.4 for one in first)
        assert len(tiny.entries(folder)) == 12

    def test_twice_is_the_same(self, config: SweepConfig, tmp_path: Path) -> None:
        one, other = (with_warm_start(config, tmp_path).search.start_with for _ in range(2))
        assert one == other and one


def test_the_sampler_does_not_draw_the_points_of_the_earlier_sweep_again(tiny: Any) -> None:
    config = tiny.config()
    warm = config.model_copy(update={"search": config.search.model_copy(update={"warm_start": ("runs/first",)})})
    elsewhere = config.model_copy(update={"search": config.search.model_copy(update={"warm_start": ("/a/first",)})})
    assert config.sampler_seed == config.seed != warm.sampler_seed == elsewhere.sampler_seed
