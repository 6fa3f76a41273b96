import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest

from medtune.config.space import Choice, Range
from medtune.search.dimensions import dimensions, scale_of
from medtune.search.entries import Entry
from medtune.search.importance import FEWEST, Importance, comparable_values, importances

Points = list[dict[str, Any]]
SPACE = {"a": Range(0.0, 1.0), "b": Range(0.0, 1.0)}
BRANCHES = {
    "batch": Choice((16, 32)),
    "optimizer": Choice(
        (
            {"name": "adam", "lr": Range(1e-4, 1e-1, log=True)},
            {"name": "sgd", "lr": Range(1e-3, 1.0, log=True), "momentum": Range(0.5, 0.99)},
        )
    ),
}


def by_path(found: list[Importance]) -> dict[str, Importance]:
    return {one.dimension.path: one for one in found}


def plane(trials: int, seed: int = 0) -> Points:
    return [{"a": float(a), "b": float(b)} for a, b in np.random.default_rng(seed).random((trials, 2))]


def branched(trials: int) -> Points:
    generator, points = np.random.default_rng(1), []
    for _ in range(trials):
        batch, which, a, b = generator.integers(2), generator.integers(2), *generator.random(2)
        own = {"optimizer[1].momentum": 0.5 + 0.49 * float(b), "optimizer[1].lr": 10 ** float(3 * a - 3)}
        lr = {"optimizer[0].lr": 10 ** float(3 * a - 4)}
        points.append({"batch": int(batch), "optimizer": int(which), **(own if which else lr)})
    return points


class TestDimensions:
    def test_names_branches_and_groups(self) -> None:
        told = [(one.path, one.name, one.branch, one.group, one.scale) for one in dimensions(BRANCHES)]
        assert told == [
            ("batch", "batch", "", "", "choice"),
            ("optimizer", "optimizer", "", "", "choice"),
            ("optimizer[0].lr", "optimizer.lr", "adam", "optimizer[0]", "log"),
            ("optimizer[1].lr", "optimizer.lr", "sgd", "optimizer[1]", "log"),
            ("optimizer[1].momentum", "optimizer.momentum", "sgd", "optimizer[1]", "linear"),
        ]
        assert [one.label for one in dimensions(BRANCHES)][2:] == [
            "optimizer.lr (adam)",
            "optimizer.lr (sgd)",
            "optimizer.momentum (sgd)",
        ]

    def test_an_option_without_a_name_of_its_own(self) -> None:
        mixup = {"mixup": Choice((0, Range(0.1, 0.4)))}
        twice = {"o": Choice(({"name": "sgd", "lr": Range(0, 1)}, {"name": "sgd", "lr": Range(1, 2)}))}
        nested = {"o": Choice(({"name": "x", "p": Choice((0, Range(2.0, 3.0)))}, 1))}
        assert [one.label for one in dimensions(mixup)] == ["mixup", "mixup (0.1 to 0.4)"]
        assert [one.label for one in dimensions(twice)] == ["o", "o.lr (option 1)", "o.lr (option 2)"]
        assert [one.label for one in dimensions(nested)] == ["o", "o.p (x)", "o.p (x, 2 to 3)"]

    def test_scales_of_columns(self) -> None:
        some = dimensions(
            {**BRANCHES, "mixup": Choice((0, Range(0.1, 0.4))), "wd": Choice((0, Range(0.1, 1, log=True)))}
        )
        names = ("batch", "optimizer.lr", "optimizer.momentum", "optimizer.name", "mixup", "wd")
        assert [scale_of(name, some) for name in names] == ["choice", "log", "linear", "choice", "linear", "linear"]


class TestImportances:
    def test_the_shares_of_a_plane_are_those_of_its_variances(self) -> None:
        points = plane(100)
        found = by_path(importances(SPACE, points, [2 * point["a"] + point["b"] for point in points]))
        # the variance of 2a + b over the unit square is 4/12 + 1/12
        assert found["a"].value == pytest.approx(0.8, abs=0.05) and found["b"].value == pytest.approx(0.2, abs=0.05)
        assert found["a"].noise < 0.02 and found["a"].trials == 100 and found["a"].why == ""

    def test_an_interaction_is_nobodys(self) -> None:
        points = plane(150)
        found = importances(SPACE, points, [float((point["a"] > 0.5) != (point["b"] > 0.5)) for point in points])
        assert sum(one.value for one in found) < 0.3

    def test_a_log_scale_is_one_for_the_forest_too(self) -> None:
        points = [{"lr": 10 ** (3 * point["a"] - 4), "b": point["b"]} for point in plane(60)]
        values = [float(point["lr"] < 1e-3) + 0.2 * point["b"] for point in points]
        log, linear = (
            by_path(importances({"lr": Range(1e-4, 1e-1, log=log), "b": Range(0.0, 1.0)}, points, values))
            for log in (True, False)
        )
        # a third of the decades, but less than a hundredth of the width
        assert log["lr"].value > 0.9 and linear["lr"].value < log["lr"].value - 0.1

    def test_of_branches_each_over_its_own_trials(self) -> None:
        points = branched(80)

        def value(point: dict[str, Any]) -> float:
            by_lr = abs(math.log10(point["optimizer[0].lr"]) + 2.5) if not point["optimizer"] else 0.0
            return by_lr + point.get("optimizer[1].momentum", 0.0)

        found = by_path(importances(BRANCHES, points, [value(point) for point in points]))
        adam = sum(not point["optimizer"] for point in points)
        assert found["optimizer[0].lr"].trials == adam and found["optimizer[1].lr"].trials == 80 - adam
        assert found["optimizer[0].lr"].value > 0.9 and found["optimizer[1].momentum"].value > 0.9
        assert found["optimizer[1].lr"].value < 0.05 and found["batch"].value < found["batch"].noise

    def test_the_most_important_first_and_the_undefined_last(self) -> None:
        points = [point for point in branched(60) if not point["optimizer"]]
        found = importances(BRANCHES, points, [point["optimizer[0].lr"] for point in points])
        known = [one.value for one in found if not one.why]
        assert known == sorted(known, reverse=True) and [bool(one.why) for one in found] == [False] * 2 + [True] * 3
        why = by_path(found)
        assert why["optimizer"].why == "all trials have the same value of it"
        assert why["optimizer[1].lr"].why == f"0 trials of sgd, at least {FEWEST} are needed"
        assert all(math.isnan(one.value) and math.isnan(one.noise) for one in found if one.why)

    def test_too_few_or_all_alike(self) -> None:
        (few, _), (alike, _) = importances(SPACE, plane(9), [0.0] * 9), importances(SPACE, plane(12), [0.5] * 12)
        assert few.why == f"9 trials, at least {FEWEST} are needed" and alike.why == "all 12 trials have the same value"
        assert importances(SPACE, [], [])[0].why.startswith("0 trials")
        assert importances({}, [{}] * 12, np.arange(12.0).tolist()) == []

    def test_trials_without_a_value_are_left_out(self) -> None:
        points = plane(40)
        values = [point["a"] for point in points]
        with_gaps = importances(SPACE, [*points, *plane(5, 2)], [*values, *[math.nan] * 5])
        assert with_gaps == importances(SPACE, points, values)

    def test_one_diverged_loss_is_not_all_of_the_variance(self) -> None:
        points = plane(60)
        values = [0.3 + point["a"] for point in points]
        values[int(np.argmax([point["b"] for point in points]))] = 4912.0
        found = importances(SPACE, points, values)
        assert found[0].dimension.path == "a" and found[0].value > 0.5

    def test_seeded_and_without_touching_the_global_generators(self, global_randomness: Callable[[], bytes]) -> None:
        before, points = global_randomness(), plane(14)
        values = [point["a"] + point["b"] ** 2 for point in points]
        assert importances(SPACE, points, values, seed=3) == importances(SPACE, points, values, seed=3)
        assert importances(SPACE, points, values, seed=3) != importances(SPACE, points, values, seed=4)
        assert global_randomness() == before

    def test_of_very_many_trials_some_are_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from medtune.search import importance

        monkeypatch.setattr(importance, "MOST", 40)
        points = plane(60)
        found = by_path(importances(SPACE, points, [point["a"] for point in points]))
        assert found["a"].trials == 40 and found["a"].value > 0.9

    def test_where_the_scale_is_plain_they_are_optunas(self) -> None:
        points = plane(40)
        values = [point["a"] + point["b"] for point in points]
        study = optuna.create_study()
        kinds = {name: optuna.distributions.FloatDistribution(0, 1) for name in "ab"}
        study.add_trials(
            optuna.create_trial(params=p, distributions=kinds, value=v) for p, v in zip(points, values, strict=True)
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=5)
        told = {one.dimension.path: one.value for one in importances(SPACE, points, values, seed=5)}
        assert told == pytest.approx(evaluator.evaluate(study))


class TestComparableValues:
    def entry(self, number: int, state: Any, *values: float) -> Entry:
        known = [value for value in values if value == value]
        return Entry(number, state, dict(enumerate(values, start=1)), max(known, default=math.nan))

    def test_without_pruning_each_has_its_own_best(self) -> None:
        entries = [self.entry(0, "complete", 0.5, 0.9, 0.8), self.entry(1, "complete", 0.7)]
        entries += [self.entry(2, "failed", 0.9), self.entry(3, "unfinished", 0.9)]
        assert comparable_values(entries, "max") == (None, {0: 0.9, 1: 0.7})

    def test_with_pruning_the_best_up_to_the_epoch_that_all_reached(self) -> None:
        entries = [
            self.entry(0, "complete", 0.5, 0.6, 0.9),
            self.entry(1, "pruned", 0.4, 0.3),
            self.entry(2, "pruned", 0.6, 0.5, 0.5),
            self.entry(3, "unfinished", 0.9),
            self.entry(4, "unfinished", 0.1, 0.2, 0.8),
            self.entry(5, "complete", 0.95),  # ended by itself
            self.entry(6, "failed", 0.9, 0.9),
            self.entry(7, "pruned", math.nan, math.nan),
        ]
        assert comparable_values(entries, "max") == (2, {0: 0.6, 1: 0.4, 2: 0.6, 4: 0.2, 5: 0.95})
        assert comparable_values(entries, "min")[1][1] == 0.3

    def test_of_nothing(self) -> None:
        assert comparable_values([], "max") == (None, {})
