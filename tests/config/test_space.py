import pytest

from medtune.config.space import Choice, Range, distributions, grid, grid_size, resolve

SPACE = {
    "lr": Range(1e-4, 1e-2, log=True),
    "optimizer": Choice(({"name": "adam"}, {"momentum": Range(0.5, 0.9), "name": "sgd"})),
    "milestones": [Range(0.2, 0.5), 0.75],
}


def test_resolve_walks_only_the_active_branch_and_asks_for_the_name_first() -> None:
    asked = []

    def pick(path: str, distribution: Choice | Range) -> float:
        asked.append(path)
        return 1 if isinstance(distribution, Choice) else distribution.high

    tree = resolve(SPACE, pick)
    assert tree == {"lr": 1e-2, "optimizer": {"name": "sgd", "momentum": 0.9}, "milestones": [0.5, 0.75]}
    assert list(tree["optimizer"]) == ["name", "momentum"]
    assert asked == ["lr", "optimizer", "optimizer[1].momentum", "milestones.0"]


def test_distributions_gives_those_of_all_branches() -> None:
    assert [path for path, _ in distributions(SPACE)] == ["lr", "optimizer", "optimizer[1].momentum", "milestones.0"]


@pytest.mark.parametrize(
    ("bounds", "value", "clipped"),
    [
        (Range(0.1, 0.4), 0.0, 0.1),
        (Range(0.1, 0.4), 9, 0.4),
        (Range(0, 20, integer=True, step=5), 8, 10),
        (Range(0, 22, integer=True, step=5), 22, 20),
        (Range(1, 5, integer=True), 3.4, 3),
        (Range(0, 1), 1, 1.0),
    ],
)
def test_clip(bounds: Range, value: float, clipped: float) -> None:
    assert bounds.clip(value) == pytest.approx(clipped)
    assert isinstance(bounds.clip(value), int if bounds.integer else float)


def test_a_choice_is_conditional_when_an_option_is_more_than_a_value() -> None:
    assert not Choice((1, "a", None)).conditional
    assert Choice((0, Range(0, 1))).conditional
    assert Choice(({"name": "adam"},)).conditional


def test_the_last_step_is_not_above_the_range_in_its_last_digit() -> None:
    bounds = Range(0.01864130583416413, 0.38865539224914986, step=0.03700140864149758)
    assert bounds.clip(1) <= bounds.high


def test_a_grid_is_counted_without_being_made() -> None:
    space = {
        "a": Choice((1, [Range(0, 3, integer=True), 5], Choice(("x", {"b": Range(0, 1, step=0.25)})))),
        "c": Range(1, 9, integer=True, step=3),
    }
    assert grid_size(space) == len(list(grid(space))) == (1 + 4 + 1 + 5) * 3
    assert grid_size({str(index): Range(0, 10**12, integer=True) for index in range(50)}) > 10**599
