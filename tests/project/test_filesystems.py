"""Which file system a path lies on, and whether its time stamps prove anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhfc import filesystems
from rlhfc.filesystems import believable, file_system, parse_mounts

TABLE = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw
31 22 0:28 / /home/a\\040b rw - nfs4 server:/home rw
35 22 0:30 / /data rw master:3 propagate_from:1 - lustre 10.0.0.1@tcp:/fs rw
36 35 0:31 / /data/fast rw - xfs /dev/nvme0n1 rw
40 22 0:40 / /over rw - nfs server:/x rw
41 40 0:41 / /over rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/etc/hosts", "ext4"),
        ("/home/a b/rows.jsonl", "nfs4"),
        ("/home/a", "ext4"),
        ("/data", "lustre"),
        ("/database", "ext4"),
        ("/data/slow/x", "lustre"),
        ("/data/fast/x", "xfs"),
        ("/over/x", "tmpfs"),
    ],
)
def test_the_longest_mount_point_counts(path: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounts inside mounts, escaped blanks, mounts over each other."""
    monkeypatch.setattr(filesystems, "_mounts", lambda: parse_mounts(TABLE))
    assert kind == file_system(path)


def test_this_machine() -> None:
    """The kernel's own table is understood."""
    assert "unknown" != file_system(str(Path(__file__)))
    assert "proc" == file_system("/proc/self")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ext4", True),
        ("xfs", True),
        ("overlay", True),
        ("nfs", False),
        ("fuse.gcsfuse", False),
        ("9p", False),
    ],
)
def test_what_is_believed(kind: str, expected: bool) -> None:
    """Local disks are; networks and file systems in user space are not; what is not known is not."""
    assert expected == believable(kind)
    assert not believable("unknown")


def test_where_the_kernel_names_no_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks are local as a rule."""
    monkeypatch.setattr(filesystems, "_mounts", dict)
    assert believable(file_system("/etc/hosts"))
