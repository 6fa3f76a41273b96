"""What the scripts of `cluster/` do, with stand-ins for medtune and for SLURM."""

import os
import signal
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

PATIENCE = 60  # seconds for what takes some


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder for stand-ins, which the scripts take for the environment of the node."""
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    return folder


def stand_in(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


def environment(stand_ins: Path, **more: str) -> dict[str, str]:
    home = stand_ins.parent.parent / "home"
    home.mkdir(exist_ok=True)
    return {**os.environ, "MEDTUNE_ENV": str(stand_ins.parent), "HOME": str(home), **more}


def test_a_sweep_begins_or_goes_on(cluster: Path, stand_ins: Path, tmp_path: Path) -> None:
    stand_in(stand_ins, "medtune", 'echo "$@ $RAY_AUTH_MODE"')
    command = [cluster / "sweep.sh", "a sweep.yaml", str(tmp_path / "runs"), "--set", "search.trials=3"]

    def said() -> str:
        return subprocess.run(command, env=environment(stand_ins), capture_output=True, text=True, check=True).stdout

    begins = f"sweep a sweep.yaml --folder {tmp_path}/runs --set cluster.address=auto --set search.trials=3 token\n"
    assert said() == begins
    (tmp_path / "runs").mkdir()
    assert said() == begins  # claimed, and lost before it had begun
    (tmp_path / "runs" / "sweep.id").touch()
    assert said() == f"resume {tmp_path}/runs token\n"


@pytest.mark.parametrize(
    ("script", "wants"), [("sweep.sh", "which sweep"), ("head.sh", "ADDRESS"), ("worker.sh", "HEAD")]
)
def test_what_is_missing_is_said(cluster: Path, stand_ins: Path, script: str, wants: str) -> None:
    run = subprocess.run([cluster / script], env=environment(stand_ins), capture_output=True, text=True)
    assert run.returncode != 0 and wants in run.stderr and run.stderr.count("\n") == 1


def test_a_token_is_readable_by_its_owner_alone(cluster: Path, stand_ins: Path) -> None:
    stand_in(stand_ins, "ray", 'echo secret > "$HOME/.ray/auth_token"; cat "$HOME/.ray/auth_token"')
    used = environment(stand_ins)
    run = subprocess.run(
        ["bash", "-c", f"umask 022; exec {cluster}/token.sh"], env=used, capture_output=True, text=True, check=True
    )
    assert "secret" not in run.stdout + run.stderr
    assert (Path(used["HOME"]) / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (Path(used["HOME"]) / ".ray").stat().st_mode & 0o777 == 0o700


def test_a_machine_without_the_token_does_not_ask(cluster: Path, stand_ins: Path) -> None:
    stand_in(stand_ins, "ray", "echo asked")
    run = subprocess.run(
        [cluster / "worker.sh", "10.0.0.1"], env=environment(stand_ins), capture_output=True, text=True
    )
    assert run.returncode == 2 and run.stdout == ""
    assert "scp -p 10.0.0.1:.ray/auth_token" in run.stderr


def test_an_environment_that_was_not_locked_is_said(cluster: Path, stand_ins: Path) -> None:
    run = subprocess.run([cluster / "install.sh"], env=environment(stand_ins), capture_output=True, text=True)
    assert run.returncode == 2 and "cluster/lock.sh" in run.stderr


SCONTROL = """
case "$1 $2" in
    "show hostnames") echo localhost ;;
    "show job") echo "   StartTime=2026-01-01T00:00:00 EndTime=$LIMIT Deadline=N/A" ;;
    *) echo "$@" >> ASKED ;;
esac
"""


def job(cluster: Path, stand_ins: Path, number: int, seconds: int | None = None) -> subprocess.Popen[str]:
    """The script of SLURM, as `ray symmetric-run` would run it on the first node, and end badly itself. seconds: until
    the job's time limit; None: it has none."""
    stand_in(stand_ins, "ray", "true")
    stand_in(stand_ins, "scontrol", SCONTROL.replace("ASKED", f"{stand_ins}/asked"))
    node = 'while [ "$1" != -- ]; do shift; done; shift; "$@"; exit 134'
    stand_in(stand_ins, "srun", f'echo "$@" > {stand_ins}/steps; {node}')
    now = datetime.now()
    slurm = {
        "SLURM_SUBMIT_DIR": str(cluster.parent),
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "8",
        "LIMIT": "Unknown" if seconds is None else (now + timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        "MEDTUNE_SECONDS_TO_END": "3600",
    }
    return subprocess.Popen(
        [cluster / "slurm.sh", "sweep.yaml", "runs/one"],
        env=environment(stand_ins, **slurm),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("by", ["the limit", "a signal"])
def test_when_the_time_is_up_the_sweep_ends_and_the_job_is_queued_again(
    cluster: Path, stand_ins: Path, by: str
) -> None:
    number = os.getpid()
    stand_in(stand_ins, "medtune", f"trap 'exit 130' TERM; touch {stand_ins}/runs; while true; do sleep 0.05; done")
    process = job(cluster, stand_ins, number, seconds=3603 if by == "the limit" else None)
    until = time.monotonic() + PATIENCE
    while not (stand_ins / "runs").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    if by == "a signal":
        process.send_signal(signal.SIGTERM)  # to the script alone
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "goes back into the queue" in said
    assert (stand_ins / "asked").read_text() == f"requeue {number}\n"
    steps = (stand_ins / "steps").read_text()
    assert f"--address 127.0.0.1:{20000 + number % 10000} --min-nodes 2" in steps
    assert "--temp-dir" not in steps  # with it symmetric-run waits for its own nodes in vain (2.60)
    assert not Path(f"/tmp/medtune-{number}").exists()


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_sweep_that_ends_by_itself_is_not_queued_again(cluster: Path, stand_ins: Path, code: int) -> None:
    stand_in(stand_ins, "medtune", f"exit {code}")  # 130: somebody has ended it
    process = job(cluster, stand_ins, os.getpid(), seconds=7200)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert not (stand_ins / "asked").exists()
