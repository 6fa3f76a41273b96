"""Which device there is, what it can do by its flags, and how many threads a trial may use."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "sve_bf16", "bf16"}  # as Linux names the CPU flags of x86 and of Arm


def detect_device() -> str:
    """`cuda`, `mps` or `cpu`, the first that there is."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cpu_flags() -> set[str]:
    """What the CPU says it can do; empty where Linux's /proc/cpuinfo is not there."""
    cpuinfo = Path("/proc/cpuinfo")
    if not sys.platform.startswith("linux") or not cpuinfo.exists():
        return set()
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    return next((set(value.split()) for key, _, value in lines if key.strip().lower() in ("flags", "features")), set())


def resolve_precision(wanted: Literal["auto", "float32", "bfloat16"], device: str) -> Precision:
    """What `auto` means on a device, from its flags alone, so that the same machine always decides the same."""
    if wanted != "auto":
        return wanted
    if device == "cpu":
        return "bfloat16" if cpu_flags() & NATIVE_BFLOAT16 else "float32"
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float32"
    return "float32"


def autocast(device: str, precision: str) -> "torch.autocast":
    """What a forward pass stands in for this precision."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def use_threads(count: int) -> None:
    """Gives this thread's torch operations so many CPUs. More than the CPUs given makes parallel trials slower."""
    import torch

    torch.set_num_threads(count)
