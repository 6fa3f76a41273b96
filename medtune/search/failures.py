"""What went wrong with a training, and what follows from it."""

import errno
import traceback
from typing import Literal

# memory: again with half of the micro-batch. storage: the whole run stops, and goes on when there is room. device: the
# process is of no use any more, another one goes on. final: it would only happen again.
Kind = Literal["memory", "storage", "device", "final"]

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EFBIG}
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
_NO_ROOM = ("no space left on device", "disk quota exceeded", "read-only file system")
_DEVICE = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "NCCL error", "MPS backend error")


class NoRoom(Exception):
    """A disk is full, or a storage away: nothing is lost, and what ran goes on from its checkpoints when it is back."""


def kind_of(error: BaseException) -> Kind:
    """By the type of an exception where it has one of its own, else by the words of libraries that have none."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        return "memory"
    if isinstance(error, NoRoom | ConnectionError | TimeoutError) or any(words in text.lower() for words in _NO_ROOM):
        return "storage"
    if isinstance(error, OSError) and error.errno in _STORAGE:
        return "storage"
    return "device" if any(words in text for words in _DEVICE) else "final"


def reason_of(error: BaseException) -> str:
    """One line for people: diverged trainings say so themselves, anything else is named with its place."""
    from medtune.training.loop import Diverged

    if isinstance(error, Diverged):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line} ({place.filename}:{place.lineno})"
