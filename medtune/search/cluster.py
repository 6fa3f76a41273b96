"""Ray on this machine, or the cluster that there is: its machines, and what is asked of each of them."""

import contextlib
import functools
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

# Ray reads these when it is imported
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # uv would copy the checkout and start workers anew
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray._private import services
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medtune.config.sweep import Cluster
from medtune.search.machines import Machine, address_of

A = TypeVar("A")
KIND = "accelerator_type:"  # how Ray names the kind of a machine's GPUs among its resources
HEAD = "node:__internal_head__"
ANSWER = 5.0  # seconds for a connection to the head
FIRST_ANSWER = 120.0  # seconds for a machine's first answer: a process begins there, and a file system may be slow

# Ray's daemons in a group of their own: a signal for the driver's group, as schedulers send it, is for the driver,
# which needs them until it has ended
_begin = functools.partial(services.ConsolePopen, process_group=0)
services.ConsolePopen = _begin  # type: ignore[assignment,misc]
# a machine that is lost would be told of on hundreds of lines; the watch has one for it
ray._private.worker.print_to_stdstream = lambda *_, **__: None


class ClusterError(Exception):
    """The cluster cannot be used as it is; the text says what is wrong and what to do."""


def start(cluster: Cluster) -> list[Machine]:
    """Starts Ray on this machine, or joins the cluster. The machines. Raises ClusterError."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = address_of(cluster)
    if address:
        _look_for(address)
    try:
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RayError, RuntimeError, ConnectionError, ValueError) as error:
        if not address:
            raise
        raise ClusterError(f"cluster.address: {address}: {' '.join(str(error).split())[:400]}") from error
    _hide_token()
    return machines()


def _hide_token() -> None:
    """Ray makes a token for its daemons where there is none, and lets everybody read it (2.60): who has it can run code
    as this user."""
    token = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)


def _look_for(address: str) -> None:
    """Ray itself looks for minutes."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"cluster.address: {address}: a client's connection loses the sweep with the connection; run medtune on a "
            "machine of the cluster with --set cluster.address=auto, or hand it in with `ray job submit`"
        )
    if not address.rpartition(":")[2].isdigit():
        return  # auto
    try:
        _connect(address)
    except OSError as error:
        raise ClusterError(
            f"cluster.address: {address}: nothing answers there ({error}); `ray status` on the head says whether it "
            "runs, and `ray start --head` prints the address"
        ) from None


def answers() -> bool:
    """Whether the head is there. What asks it something else would wait for a minute, and then end the process."""
    try:
        _connect(ray.get_runtime_context().gcs_address)
    except OSError:
        return False
    return True


def _connect(address: str) -> None:
    """Raises OSError where nothing answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()


def machines() -> list[Machine]:
    """Those that are there now, the head first."""
    there = [node for node in ray.nodes() if node["Alive"]]
    names = Counter(node["NodeName"] for node in there)
    found = (_machine(node, alone=names[node["NodeName"]] == 1) for node in there)
    return sorted(found, key=lambda machine: (not machine.head, machine.name))


def _machine(node: dict[str, Any], alone: bool) -> Machine:
    """alone: whether no other has its name, as where several of Ray's nodes are on one machine."""
    has = node["Resources"]
    kinds = [name.removeprefix(KIND) for name in has if name.startswith(KIND)]
    return Machine(
        id=node["NodeID"],
        name=node["NodeName"] if alone else f"{node['NodeName']}/{node['NodeID'][:6]}",
        cpus=int(has.get("CPU", 0)),
        gpus=int(has.get("GPU", 0)),
        kind=kinds[0] if kinds else "",
        head=HEAD in has,
    )


class Observers:
    """A process on each machine of the cluster that tells of it. It takes no CPU from the trials.

    The class travels by value: the machine may not have medtune, or another one.
    """

    def __init__(self) -> None:
        class Observer:
            def answer(self, question: Callable[..., A], *arguments: Any) -> A:
                return question(*arguments)

        self._class: Any = ray.remote(num_cpus=0)(Observer)
        self._there: dict[str, Any] = {}

    def ask(
        self, machines: Sequence[Machine], question: Callable[..., A], *arguments: Any, patience: float = FIRST_ANSWER
    ) -> dict[str, A | Exception]:
        """What a function says on each machine, by their ids; of one that cannot answer the error. patience: seconds
        for all of them."""
        asked = {machine.id: self._observer(machine).answer.remote(question, *arguments) for machine in machines}
        if asked:
            ray.wait([*asked.values()], num_returns=len(asked), timeout=patience, fetch_local=False)
        return {machine: self._answer(machine, reference) for machine, reference in asked.items()}

    def _answer(self, machine: str, reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=0.1)
        except (RayError, GetTimeoutError) as error:
            self._there.pop(machine, None)  # another one is asked next time
            return error

    def _observer(self, machine: Machine) -> Any:
        if machine.id not in self._there:
            here = NodeAffinitySchedulingStrategy(machine.id, soft=False)
            self._there[machine.id] = self._class.options(scheduling_strategy=here).remote()
        return self._there[machine.id]


def fill(machine: Machine) -> Any:
    """Takes all of a machine's CPUs, so that no trial gets there, for as long as the answer is held."""

    @ray.remote
    class Placeholder:
        pass

    here = NodeAffinitySchedulingStrategy(machine.id, soft=False)
    return Placeholder.options(num_cpus=machine.cpus, scheduling_strategy=here).remote()  # type: ignore[attr-defined]


def with_a_gpu(kind: str, work: Callable[..., A], *arguments: Any, patience: float = FIRST_ANSWER) -> A:
    """What a function returns that has a whole GPU of a kind for itself. Raises what it raises, and RayError."""
    options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 1, "max_retries": 0}
    if kind:
        options["accelerator_type"] = kind
    return ray.get(ray.remote(**options)(work).remote(*arguments), timeout=patience)  # type: ignore[no-any-return]


def stop() -> None:
    """Ends what `start` began; a cluster goes on."""
    ray.shutdown()
