"""What kind of file system a path is on."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")  # see proc_pid_mountinfo(5); Linux alone has it

NETWORK = frozenset(
    "nfs nfs4 cifs smb2 smb3 smbfs ncpfs afs openafs coda 9p ceph glusterfs lustre beegfs gpfs mmfs pvfs2 orangefs "
    "panfs wekafs davfs webdav".split()
)
NETWORK_BY_FUSE = frozenset(  # fuse.sshfs and so on; others of FUSE are on this machine
    "sshfs glusterfs ceph ceph-fuse beegfs mfs moosefs lizardfs seaweedfs weed juicefs alluxio-fuse cvmfs2 dfs hdfs "
    "smbnetfs davfs davfs2 curlftpfs afpfs s3fs goofys gcsfuse blobfuse blobfuse2 rclone gvfsd-fuse kio-fuse".split()
)


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of network file system that a path is on, or would be: nfs4, cifs, fuse.sshfs. None where it is on this
    machine, or where the machine does not tell."""
    kind = file_system(path, mounts)
    return kind if kind in NETWORK or (kind or "").removeprefix("fuse.") in NETWORK_BY_FUSE else None


def file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of file system that a path is on, or would be; None where the machine does not tell."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    real, found = path.resolve(), (-1, "")
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(_unescaped(before.split()[4]))
        if real.is_relative_to(point) and len(point.parts) >= found[0]:  # of two at one place, the later is on top
            found = len(point.parts), after.split()[0]
    return found[1] or None


def _unescaped(text: str) -> str:
    """A space is written as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
