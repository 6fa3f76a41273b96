"""A head with token authentication, started as people start it, and what comes to it without the token."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

PATIENCE = 200  # seconds for what takes some
FREE_PORTS = [
    *"--node-manager-port=0 --object-manager-port=0 --runtime-env-agent-port=0 --dashboard-agent-grpc-port=0".split(),
    *"--dashboard-agent-listen-port=0 --metrics-export-port=0 --min-worker-port=0 --max-worker-port=0".split(),
    *"--include-dashboard=false --num-cpus=1 --object-store-memory=100000000".split(),
]
REMOTE = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=0.1)
def leave(path):
    open(path, "w").close()
ray.get(leave.remote(sys.argv[2]))
"""


@pytest.fixture
def nodes() -> Iterator[Path]:
    """A folder for Ray's files and for the homes of machines, with a short name because sockets lie in it. What was
    started in it is ended by its number: `ray stop` would end every Ray of this user."""
    folder = Path(tempfile.mkdtemp(prefix="mt-", dir="/tmp"))
    yield folder
    ours = [process for process in psutil.process_iter() if of(process, folder)]
    for process in ours:
        process.kill()
    assert psutil.wait_procs(ours, timeout=20)[1] == []
    shutil.rmtree(folder)


def of(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("RAY_TMPDIR") == str(folder)
    except psutil.Error:
        return False


def machine(nodes: Path, name: str, **more: str) -> dict[str, str]:
    """The environment of a machine with a home of its own. Another token: one that is not the head's."""
    home = nodes / name
    (home / ".ray").mkdir(parents=True)
    left_out = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"}
    base = {key: value for key, value in os.environ.items() if key not in left_out}
    return {**base, "HOME": str(home), "RAY_TMPDIR": str(nodes), "MEDTUNE_ENV": sys.prefix, **more}


def run(command: list[str | Path], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=environment["HOME"]
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_the_token_nothing_joins_and_nothing_runs(cluster: Path, nodes: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    head = machine(nodes, "head")
    (nodes / "head" / ".ray").rmdir()
    with (nodes / "out").open("w+") as out:  # no pipe: the daemons would hold it open
        subprocess.run(
            [cluster / "head.sh", address, *FREE_PORTS], env=head, stdout=out, stderr=out, check=True, timeout=PATIENCE
        )
    token = nodes / "head" / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() not in (nodes / "out").read_text()
    arguments = [" ".join(process.cmdline()) for process in psutil.process_iter() if of(process, nodes)]
    assert arguments and not any(token.read_text() in line for line in arguments)

    wrong = machine(nodes, "wrong", RAY_AUTH_MODE="token")
    (nodes / "wrong" / ".ray" / "auth_token").write_text("0" * 64)
    right = machine(nodes, "right", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    off = machine(nodes, "off", RAY_AUTH_MODE="disabled")
    joins = run([cluster / "worker.sh", address, "--num-cpus=1"], wrong)
    drivers = {
        name: run([sys.executable, "-c", REMOTE, address, str(nodes / f"ran-{name}")], environment)
        for name, environment in {"wrong": wrong, "off": off, "right": right}.items()
    }
    said = joins.communicate(timeout=PATIENCE)[1]
    assert joins.returncode == 1 and f"{address} refuses the token" in said and said.count("\n") == 1
    codes = {name: driver.wait(PATIENCE) for name, driver in drivers.items() if driver.communicate(timeout=PATIENCE)}
    assert codes["right"] == 0 and codes["wrong"] != 0 and codes["off"] != 0
    assert [path.name for path in nodes.glob("ran-*")] == ["ran-right"]
