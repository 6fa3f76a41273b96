from pathlib import Path

import pytest
import torch

from medtune.training import device
from medtune.training.device import Precision, cpu_flags, detect_device, resolve_precision, use_threads

X86 = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu sse2 avx512_bf16\n\nprocessor\t: 1\nflags\t\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "avx512f"}, "float32"),
        (set(), "float32"),
        ({"avx512f", "avx512_bf16"}, "bfloat16"),
        ({"amx_bf16"}, "bfloat16"),
        ({"asimd", "bf16"}, "bfloat16"),
        ({"sve_bf16"}, "bfloat16"),
    ],
)
def test_auto_on_a_cpu_follows_its_flags(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: Precision) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: flags)
    assert resolve_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_auto_on_cuda_follows_the_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: Precision
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert resolve_precision("auto", "cuda") == expected


def test_auto_on_mps_is_float32() -> None:
    assert resolve_precision("auto", "mps") == "float32"


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
@pytest.mark.parametrize("where", ["cpu", "cuda", "mps"])
def test_what_was_asked_for_is_what_is_used(wanted: Precision, where: str) -> None:
    assert resolve_precision(wanted, where) == wanted


@pytest.mark.parametrize(
    ("text", "flags"), [(X86, {"fpu", "sse2", "avx512_bf16"}), (ARM, {"fp", "asimd", "bf16"}), ("", set())]
)
def test_flags_are_read_as_linux_writes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, flags: set[str]
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(device, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(device.sys, "platform", "linux")
    assert cpu_flags() == flags


def test_no_flags_are_known_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device.sys, "platform", "darwin")
    assert cpu_flags() == set()
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device, "Path", lambda _: tmp_path / "missing")
    assert cpu_flags() == set()


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_that_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert detect_device() == expected


def test_threads_are_those_given() -> None:
    use_threads(2)
    assert torch.get_num_threads() == 2
