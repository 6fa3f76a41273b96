import pytest

from medtune.config.sweep import Resources
from medtune.search import resources
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
    assert plan_shares(Resources.model_validate(wanted), cpus, gpus, size) == share


def test_a_mac_has_one_gpu_that_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "has_mps", lambda: True)
    assert plan_shares(Resources(), 8, 0, 28) == Share("mps", 1, 0.0, 1)


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
        plan_shares(Resources.model_validate(wanted), cpus, gpus, 28)
    assert str(caught.value) == message
