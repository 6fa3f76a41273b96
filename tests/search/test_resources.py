from dataclasses import replace
from typing import Any

import pytest

from medtune.config.problems import ConfigError
from medtune.config.sweep import Resources
from medtune.search import resources
from medtune.search.machines import Machine
from medtune.search.resources import ResourceError, Share, plan_shares


@pytest.fixture(autouse=True)
def no_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "has_mps", lambda: False)


# what is wanted, CPUs, GPUs, pixels a side: the share
SHARES = {
    "two cores": ({}, 2, 0, 28, Share("cpu", 1, 0.0, 2)),
    "one core": ({}, 1, 0, 28, Share("cpu", 1, 0.0, 1)),
    "two cores a trial": ({"cpus_per_trial": 2}, 5, 0, 28, Share("cpu", 2, 0.0, 2)),
    "fewer at once": ({"max_concurrent": 3}, 8, 0, 28, Share("cpu", 1, 0.0, 3)),
    "never more at once than there is room for": ({"max_concurrent": 9}, 2, 0, 28, Share("cpu", 1, 0.0, 2)),
    "small images share a GPU": ({}, 16, 1, 28, Share("cuda", 1, 0.25, 4)),
    "of 64 pixels too": ({}, 16, 1, 64, Share("cuda", 1, 0.25, 4)),
    "large ones do not": ({}, 16, 1, 128, Share("cuda", 1, 1.0, 1)),
    "a GPU with few cores": ({}, 2, 1, 28, Share("cuda", 1, 0.5, 2)),
    "more GPUs than cores": ({}, 2, 4, 28, Share("cuda", 1, 1.0, 2)),
    "several GPUs": ({}, 16, 4, 224, Share("cuda", 1, 1.0, 4)),
    "several GPUs, shared": ({}, 16, 2, 28, Share("cuda", 1, 0.25, 8)),
    "cores a trial limit the sharing": ({"cpus_per_trial": 8}, 16, 1, 28, Share("cuda", 8, 0.5, 2)),
    "a third": ({"gpus_per_trial": 1 / 3}, 16, 1, 28, Share("cuda", 1, 1 / 3, 3)),
    "two thirds leave a third unused": ({"gpus_per_trial": 0.66}, 16, 2, 28, Share("cuda", 1, 0.66, 2)),
    "two GPUs a trial": ({"gpus_per_trial": 2.0}, 16, 5, 28, Share("cuda", 1, 2.0, 2)),
    "no GPU though there is one": ({"gpus_per_trial": 0.0}, 4, 1, 28, Share("cpu", 1, 0.0, 4)),
}


@pytest.mark.parametrize("name", SHARES)
def test_shares(name: str) -> None:
    wanted, cpus, gpus, size, share = SHARES[name]
    found = plan_shares(Resources.model_validate(wanted), [Machine("a", "a", cpus, gpus)], size)
    assert replace(found, at_most=None) == share


def test_a_mac_has_one_gpu_that_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "has_mps", lambda: True)
    assert plan_shares(Resources(), [Machine("a", "a", 8)], 28) == Share("mps", 1, 0.0, 1, at_most=1)


@pytest.mark.parametrize(
    ("wanted", "cpus", "gpus", "message"),
    [
        ({"cpus_per_trial": 4}, 2, 0, "resources.cpus_per_trial is 4, but there are 2 CPUs; set it to 2 or less"),
        ({"gpus_per_trial": 0.5}, 2, 0, "resources.gpus_per_trial is 0.5, but there are 0 GPUs; set it to auto"),
        ({"gpus_per_trial": 3}, 8, 2, "resources.gpus_per_trial is 3, but there are 2 GPUs; set it to auto"),
    ],
)
def test_where_not_one_trial_can_run_it_says_what_to_set(wanted: dict, cpus: int, gpus: int, message: str) -> None:
    with pytest.raises(ResourceError) as caught:
        plan_shares(Resources.model_validate(wanted), [Machine("a", "a", cpus, gpus)], 28)
    assert str(caught.value) == message


# machines as (CPUs, GPUs, kind), what is wanted, trials that were measured to fit on a GPU: places, and GPU by kind
CLUSTERS = {
    "each machine for itself": ([(3, 0, ""), (3, 0, "")], {"cpus_per_trial": 2}, {}, {"": 2}, {}),
    "one without GPUs gets none of a sweep on GPUs": ([(8, 0, ""), (8, 1, "T4")], {}, {"T4": 2}, {"": 2}, {}),
    "two kinds": (
        [(8, 1, "T4"), (16, 2, "H100")], {}, {"T4": 2, "H100": 8}, {"T4": 2, "H100": 16}, {"T4": 1 / 2, "H100": 1 / 8}
    ),
    "two kinds with room for as many": ([(8, 1, "T4"), (8, 1, "L4")], {}, {"T4": 3, "L4": 3}, {"": 6}, {}),
    "a fraction by hand holds on all": ([(8, 1, "T4"), (8, 2, "H100")], {"gpus_per_trial": 1}, {}, {"": 3}, {}),
    "cores limit what memory allows": ([(4, 1, "H100")], {}, {"H100": 20}, {"": 4}, {}),
    "what was not measured is guessed": (
        [(8, 1, "T4"), (8, 1, "H100")], {}, {"H100": 8}, {"T4": 4, "H100": 8}, {"T4": 1 / 4, "H100": 1 / 8}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLUSTERS)
def test_places_of_a_cluster(name: str) -> None:
    machines, wanted, packed, places, by_kind = CLUSTERS[name]
    there = [Machine(str(index), f"m{index}", *has) for index, has in enumerate(machines)]
    share = plan_shares(Resources.model_validate(wanted), there, 28, packed)
    assert share.places(there) == places and share.by_kind == by_kind
    assert share.concurrent == sum(places.values())
    assert share.places([]) == {}


def test_a_trial_has_a_part_of_one_gpu_or_whole_ones(tiny: Any) -> None:
    assert tiny.config("resources.gpus_per_trial=2").resources.gpus_per_trial == 2
    with pytest.raises(ConfigError, match="1.5 is more than one GPU and not a whole number of them; write 1"):
        tiny.config("resources.gpus_per_trial=1.5")


def test_on_a_cluster_it_says_what_the_largest_machine_has() -> None:
    there = [Machine("a", "a", 2), Machine("b", "b", 4)]
    with pytest.raises(ResourceError) as caught:
        plan_shares(Resources(cpus_per_trial=8), there, 28)
    assert str(caught.value) == (
        "resources.cpus_per_trial is 8, but no machine has more than 4 CPUs; set it to 4 or less"
    )
