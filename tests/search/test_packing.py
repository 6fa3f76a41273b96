from typing import Any

import pytest

from medtune.search import cluster, packing
from medtune.search.machines import Machine
from medtune.search.packing import Footprint, measure_packing, pack
from medtune.search.worker import SearchData

GB = 1e9
# memory of a trial, share of the time in which the GPU works for it, free memory: how many share it
PACKED = {
    "as many as keep it busy": (Footprint(1 * GB, 0.25, 80 * GB), 4),
    "one more fills the gaps": (Footprint(1 * GB, 0.3, 80 * GB), 4),
    "as many as it has memory for": (Footprint(20 * GB, 0.1, 80 * GB), 3),
    "a tenth of the memory stays free": (Footprint(10 * GB, 0.1, 20 * GB), 1),
    "one that keeps it busy": (Footprint(1 * GB, 1.0, 80 * GB), 1),
    "one that hardly fits": (Footprint(79 * GB, 0.1, 80 * GB), 1),
    "nothing was measured to run": (Footprint(20 * GB, 0.0, 81 * GB), 3),
}


@pytest.mark.parametrize("name", PACKED)
def test_pack(name: str) -> None:
    footprint, trials = PACKED[name]
    assert pack(footprint) == trials


def test_each_kind_is_measured_once_and_what_fails_is_said(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def with_a_gpu(kind: str, work: Any, config: Any, data: SearchData) -> Footprint:
        asked.append(kind)
        assert work is packing.footprint and 32 <= len(data.train.labels) <= 2048 and len(data.val.labels) == 1
        if kind == "T4":
            raise RuntimeError("Traceback\nCUDA error: no kernel image is available")
        return Footprint(2 * GB, 0.2, 80 * GB)

    monkeypatch.setattr(cluster, "with_a_gpu", with_a_gpu)
    h100s = [Machine(name, name, 8, 2, "H100") for name in "cd"]
    machines = [Machine("a", "a", 8), Machine("b", "b", 8, 1, "T4"), *h100s]
    config = tiny.config()
    assert measure_packing(config, machines, tiny.data(config)) == {"H100": 5}
    assert sorted(asked) == ["H100", "T4"]
    assert capsys.readouterr().err.splitlines() == [
        "packing  a trial takes 2.0 of 80 GB and 20 % of the time of H100: up to 5 at once",
        "packing  T4 was not measured (RuntimeError: CUDA error: no kernel image is available)",
    ]


@pytest.mark.skipif(not __import__("torch").cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_a_small_network_leaves_room_for_others(tiny: Any) -> None:
    config = tiny.config()
    found = packing.footprint(config, tiny.data(config))
    assert packing.CONTEXT < found.memory < found.free and 0 < found.busy <= 1
    assert pack(found) >= 1
