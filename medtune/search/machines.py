"""Machines that trials run on: what they have, and what they say of themselves when they are asked."""

import os
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import psutil

from medtune.config.sweep import Cluster
from medtune.provenance import PACKAGES
from medtune.training.device import Precision, resolve_precision
from medtune.training.gpus import Gpu, gpus


@dataclass(frozen=True)
class Machine:
    """A machine, or what it lends of itself. id: Ray's. name: its address. kind: of its GPUs, as Ray calls it; empty
    where Ray does not know. head: whether the cluster ends with it."""

    id: str
    name: str
    cpus: int
    gpus: int = 0
    kind: str = ""
    head: bool = False


@dataclass(frozen=True)
class Condition:
    """How a machine is now. precision: what `auto` means on its devices. cpu and memory: the shares in use, 0 to 1."""

    precision: Precision = "float32"
    cpu: float = 0.0
    memory: float = 0.0
    gpus: tuple[Gpu, ...] = ()


def address_of(cluster: Cluster) -> str | None:
    """Of the cluster that a sweep runs on: that of the file or, in a job of Ray's, of the job's own. None: this
    machine alone."""
    return cluster.address or os.environ.get("RAY_ADDRESS") or None


def condition(device: str) -> Condition:
    """Of this machine. device: cuda, mps or cpu, what trials would get."""
    busy = psutil.cpu_percent() / 100, psutil.virtual_memory().percent / 100
    return Condition(precision_of(device), *busy, gpus())


def precision_of(device: str) -> Precision:
    """What `auto` means on this machine, whether or not this process has a GPU."""
    if device == "cuda":
        there = gpus()
        return "bfloat16" if there and all(gpu.capability >= (8, 0) for gpu in there) else "float32"
    return resolve_precision("auto", device)


def reach(storage: str, weights: Sequence[str] = ()) -> str:
    """Why this machine cannot use the storage of a sweep, which is marked, or the files of weights that its models
    begin with; empty where it can."""
    missing = [path for path in weights if not Path(path).is_file()]
    if missing:
        return f"does not see the model.weights {missing[0]}: put them on a path that all machines share"
    try:
        files, root = fsspec.core.url_to_fs(storage)
        files.invalidate_cache()
        if not files.exists(f"{root}/{MARK}"):
            return f"does not see {storage}: set cluster.storage to a path that all machines share, or to s3://…"
        probe = f"{root}/{MARK}-{uuid.uuid4()}"
        files.pipe_file(probe, b"")
        files.rm(probe)
    except Exception as error:  # each storage has its own
        return f"cannot write into {storage} ({in_a_line(error)})"
    return ""


def in_a_line(error: Exception) -> str:
    """An error that may have many lines."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


class StorageError(Exception):
    """The storage that all machines are to share cannot be used; the text says why."""


MARK = ".medtune-storage"  # in a storage: whoever sees it sees the same one as the driver


def mark(storage: str) -> None:
    """Makes a storage, and marks it. Raises StorageError."""
    try:
        files, root = fsspec.core.url_to_fs(storage)
        files.makedirs(root, exist_ok=True)
        files.pipe_file(f"{root}/{MARK}", b"")
    except Exception as error:  # each storage has its own
        more = "; pip install 'medtune[cluster]' brings it" if isinstance(error, ImportError) else ""
        why = f"{in_a_line(error)}{more}"
        raise StorageError(f"cluster.storage: {storage}: cannot be written from here; {why}") from error


NAMES = (*PACKAGES, "files")


def make_software() -> Callable[[Collection[str]], dict[str, str]]:
    """What a machine of a cluster is asked: `software(names)`, the versions of packages and, of `files`, a digest of
    medtune's own. A function within a function travels by value: the machine may have another medtune, or none."""

    def software(names: Collection[str]) -> dict[str, str]:
        import hashlib
        from importlib.metadata import PackageNotFoundError, version
        from importlib.util import find_spec
        from pathlib import Path

        def installed(name: str) -> str:
            try:
                return version(name)
            except PackageNotFoundError:
                return "none"

        there = {name: installed(name) for name in names if name != "files"}
        spec = find_spec("medtune") if "files" in names else None
        if spec is not None and spec.origin:
            digest, package = hashlib.sha256(), Path(spec.origin).parent
            for path in sorted(package.rglob("*.py")):
                digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
            there["files"] = digest.hexdigest()[:12]
        return there

    return software


def software() -> dict[str, str]:
    """Of this machine: versions of what changes a trial's numbers, and a digest of medtune's own files."""
    return make_software()(NAMES)


def other_software(expected: dict[str, str], there: dict[str, str]) -> str:
    """How a machine's software is not the driver's, in words; empty where it is the same."""
    other = [name for name in expected if there.get(name) != expected[name]]
    named = [name for name in other if name != "files"]
    if named:
        theirs, ours = (", ".join(f"{name} {of.get(name, 'none')}" for name in named) for of in (there, expected))
        return f"has {theirs}, the driver {ours}"
    return f"has other files of medtune {expected['medtune']} than the driver" if other else ""
