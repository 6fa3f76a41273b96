"""Where numbers come from: versions, the processor, and the commit of the code that asked for them."""

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("medtune", "torch", "torchvision", "numpy")  # those that change a trial's numbers


def versions() -> dict[str, str]:
    """Of the packages that change a trial's numbers."""
    return {name: version(name) for name in PACKAGES}


@cache
def processor(device: str) -> str:
    """The name of this machine's CPU or, for cuda, of its GPU, as far as it says one."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "cpu part")))
    return next(named, "") or platform.processor() or platform.machine()


def git_commit() -> str:
    """Of the folder in which this process was started; empty outside of a checkout."""
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
