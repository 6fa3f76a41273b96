import json

from medtune.cli.planned import as_json, planned_lines
from medtune.search.plan import Budget, Estimate, Spread


def surely(value: float) -> Spread:
    return Spread(value, value, value)


FOUND = Estimate(
    trials=40,
    an_epoch=4.23,
    seconds=Spread(620.0, 420.0, 780.0),
    at_most=2160.0,
    pruned=Spread(34.5, 31.0, 37.0),
    complete=Spread(5.5, 3.0, 9.0),
    epochs=Spread(253.0, 209.0, 328.0),
    budgets=(Budget(0.1, Spread(24.0, 13.0, 35.0)), Budget(1.0, surely(40.0))),
    rehearsals=40,
)


def test_in_words() -> None:
    assert planned_lines(FOUND) == [
        "time     about 10 min, mostly 7 min to 13 min, at most 36 min (4.2 s an epoch)",
        "trials   about 6 complete, 34 pruned (31 to 37); 253 epochs (209 to 328)",
        "budget   in 0.1 h: 24 of 40 trials (13 to 35)",
        "budget   in 1 h: 40 of 40 trials",
    ]


def test_what_is_sure_has_no_range() -> None:
    sure = Estimate(3, 1.0, surely(20.4), 20.4, surely(0), surely(3), surely(9), (), 40)
    assert planned_lines(sure) == [
        "time     about 20 s, at most 20 s (1 s an epoch)",
        "trials   about 3 complete, 0 pruned; 9 epochs",
    ]


def test_as_json() -> None:
    told = json.loads(json.dumps(as_json(FOUND)))
    assert told["seconds"] == {"epoch": 4.23, "expected": 620, "low": 420, "high": 780, "at_most": 2160}
    assert told["pruned"] == {"median": 34.5, "low": 31, "high": 37} and told["complete"]["median"] == 5.5
    assert told["epochs_trained"]["high"] == 328 and told["rehearsals"] == 40
    assert told["budget"][0] == {"hours": 0.1, "trials": {"median": 24, "low": 13, "high": 35}}
