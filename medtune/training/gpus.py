"""The GPUs of this machine, as their driver counts them, whatever of them this process may use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """memory, used: bytes. busy: the share of the last second in which something ran on it, 0 to 1. capability: what
    CUDA calls compute capability."""

    name: str
    memory: int
    used: int
    busy: float
    capability: tuple[int, int] = (0, 0)


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA's GPUs; none where there is no driver of theirs. Makes no context on them, which would take memory."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:  # parts of a GPU (MIG) have no such figure
        busy = 0.0
    capability = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(pynvml.nvmlDeviceGetName(handle), memory.total, memory.used, busy, tuple(capability))
