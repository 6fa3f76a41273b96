"""sqlite on a network file system is refused before anything begins, with the way out."""

import json
from pathlib import Path
from typing import Any

import pytest

from medtune.config.sweep import Tracking
from medtune.file_system import file_system, network_file_system
from medtune.search.folder import FolderError
from medtune.tracking.server import refuse_network_file_system

HOME = "/home/a\\040b"  # as the kernel writes a space
NETWORKS = (
    "nfs nfs4 cifs smb3 smbfs afs beegfs lustre gpfs ceph glusterfs 9p fuse.sshfs fuse.glusterfs fuse.ceph fuse.rclone"
).split()
HERE = "ext4 xfs btrfs tmpfs overlay zfs fuseblk fuse.mergerfs fuse autofs".split()

# a FUSE file system with an empty root folder: it says yes to INIT and GETATTR, and knows no file
SERVE = """
def serve(kernel):
    while True:
        request = os.read(kernel, 2**20)
        _, what, number = struct.unpack_from("<IIQ", request)
        error, answer = -38, b""
        if what == 26:
            error, answer = 0, struct.pack("<4I2H2I2HI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
        elif what == 3:
            error, answer = 0, struct.pack("<Q8xQ52x4I12x", 9, 1, 0o40777, 2, os.getuid(), os.getgid())
        elif what == 1:
            error = -2
        if what not in (2, 42):
            os.write(kernel, struct.pack("<IiQ", 16 + len(answer), error, number) + answer)
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    return tmp_path / "mountinfo"


def write(mounts: Path, *places: tuple[str, str]) -> None:
    lines = [f"{30 + i} 1 0:{i} / {at} rw,relatime shared:1 - {kind} x rw\n" for i, (at, kind) in enumerate(places)]
    mounts.write_text("".join(lines))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_database_on_a_network_is_refused_with_the_way_out(mounts: Path, kind: str) -> None:
    write(mounts, ("/", "ext4"), (HOME, kind))
    with pytest.raises(FolderError) as caught:
        refuse_network_file_system(Tracking(), Path("/home/a b/runs/breast"), mounts)
    assert str(caught.value) == (
        f"/home/a b/runs/mlflow.db: sqlite is not safe on a network file system, and this is on one ({kind}); "
        "put it on a disk of this machine with --set tracking.uri=sqlite:////tmp/mlflow.db, or give the address of a "
        "server; the folder of the sweep may stay where it is"
    )
    with pytest.raises(FolderError, match=r"^/home/a b/some\.db: "):
        refuse_network_file_system(Tracking(uri="sqlite:////home/a b/some.db"), Path("/tmp/breast"), mounts)


@pytest.mark.parametrize("kind", HERE)
def test_one_on_this_machine_is_not(mounts: Path, kind: str) -> None:
    write(mounts, ("/", "nfs4"), (HOME, kind))
    refuse_network_file_system(Tracking(), Path("/home/a b/runs/breast"), mounts)


def test_the_way_out_is_one(mounts: Path) -> None:
    write(mounts, ("/", "ext4"), ("/home", "nfs4"))
    for uri in ("sqlite:////tmp/mlflow.db", "http://127.0.0.1:5000", "postgresql://127.0.0.1/home/mlflow"):
        refuse_network_file_system(Tracking(uri=uri), Path("/home/runs/breast"), mounts)


class TestTheKind:
    def test_the_nearest_mount_decides(self, mounts: Path) -> None:
        write(mounts, ("/home/a/disk", "xfs"), ("/home", "nfs4"), ("/", "ext4"), ("/hom", "cifs"))
        told = {path: file_system(Path(path), mounts) for path in ("/home/a/disk/x", "/home/a/diskette", "/homely")}
        assert told == {"/home/a/disk/x": "xfs", "/home/a/diskette": "nfs4", "/homely": "ext4"}

    def test_of_two_at_one_place_the_later_is_on_top(self, mounts: Path) -> None:
        write(mounts, ("/", "ext4"), ("/net", "autofs"), ("/net", "nfs4"))
        assert network_file_system(Path("/net/runs"), mounts) == "nfs4"

    def test_links_are_followed(self, mounts: Path, tmp_path: Path) -> None:
        (tmp_path / "share").mkdir()
        (tmp_path / "runs").symlink_to(tmp_path / "share")
        write(mounts, ("/", "ext4"), (f"{tmp_path}/share", "cifs"))
        assert network_file_system(tmp_path / "runs" / "not" / "there", mounts) == "cifs"

    def test_a_machine_that_does_not_tell(self, mounts: Path) -> None:
        assert network_file_system(Path("/home"), mounts) is None

    @pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux alone has it")
    def test_of_this_machine(self) -> None:
        assert file_system(Path("/proc/1")) == "proc" and file_system(Path("/tmp/x")) is not None


@pytest.fixture
def on_a_network(alone: Any, tmp_path: Path) -> Any:
    """`on_a_network(*arguments)`: exit code and stderr of a verb, said where tmp_path/net is a mounted fuse.sshfs."""
    if not Path("/dev/fuse").exists():
        pytest.skip("needs FUSE")
    (tmp_path / "net").mkdir()

    def run(*arguments: object) -> tuple[int, str]:
        (told,) = alone(
            "-m",
            f"import ctypes, json, os, struct, sys, threading\n{SERVE}",
            f"""
            kernel = os.open("/dev/fuse", os.O_RDWR)
            options = f"fd={{kernel}},rootmode=40000,user_id=0,group_id=0".encode()
            at = {str(tmp_path / "net")!r}.encode()
            assert ctypes.CDLL(None).mount(b"host:/home", at, b"fuse.sshfs", 0, options) == 0
            threading.Thread(target=serve, args=(kernel,), daemon=True).start()
            command = [sys.executable, "-m", "medtune", *{list(map(str, arguments))!r}]
            done = subprocess.run(command, capture_output=True, text=True, cwd={str(tmp_path)!r})
            print(json.dumps([done.returncode, done.stderr]))
            """,
        )
        code, err = json.loads(told)
        return code, err

    return run


@pytest.mark.slow
def test_the_verbs_refuse_it_on_a_mounted_one(
    on_a_network: Any, tiny: Any, tmp_path: Path, record_property: Any
) -> None:
    record_property(
        "injected", "fuse.sshfs, mounted by the test, under the folder and under tracking.uri; sweep, resume"
    )
    folder = tiny.create(tmp_path / "runs" / "begun", f"tracking.uri=sqlite:///{tmp_path}/net/begun.db").path
    refused = "sqlite is not safe on a network file system, and this is on one (fuse.sshfs)"
    said = [
        ("net/runs/mlflow.db", "sweep", tiny.file, "--folder", "net/runs/tiny"),
        ("net/runs/mlflow.db", "sweep", tiny.file, "--folder", tmp_path / "net" / "runs" / "tiny"),
        ("net/some.db", "sweep", tiny.file, "--set", "tracking.uri=sqlite:///net/some.db"),
        ("net/begun.db", "resume", folder),
    ]
    for database, *arguments in said:
        code, err = on_a_network(*arguments)
        assert code == 2 and err.count("\n") == 1 and err.startswith(f"{tmp_path / database}: {refused}")
    assert not (tmp_path / "runs" / "tiny").exists()
    record_property("held", f"{len(said)} of {len(said)} refused, exit 2, one line, nothing begun")
