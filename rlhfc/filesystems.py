"""Which file systems' time stamps can be believed. Standard library only.

On a local file system a changed file has a changed size, time or inode. On a network file system or
in user space another machine's clock, or a cache of attributes, can hide a change for seconds or for
good, so that size and times alone prove nothing there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache

MOUNTS = "/proc/self/mountinfo"
LOCAL = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "nilfs2"),
        *("tmpfs", "ramfs", "overlay", "aufs", "squashfs", "erofs", "iso9660", "vfat", "exfat", "ntfs3"),
    }
)
UNKNOWN = "unknown"


def file_system(path: str) -> str:
    """Type of the file system that a path lies on, in the kernel's words, or ``unknown``."""
    real = os.path.realpath(path)
    found = [mount for mount in _mounts() if real == mount or real.startswith(mount.rstrip("/") + "/")]
    return _mounts()[max(found, key=len)] if found else UNKNOWN


def believable(kind: str) -> bool:
    """Whether size, times and inode prove that a file is as it was.

    Where the kernel names no mounts (macOS) they are believed: its disks are local as a rule.
    """
    return kind in LOCAL or (kind == UNKNOWN and not _mounts())


@lru_cache(maxsize=1)
def _mounts() -> Mapping[str, str]:
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as stream:
            return parse_mounts(stream.read())
    except OSError:
        return {}


def parse_mounts(text: str) -> dict[str, str]:
    """Mount point to type, from the kernel's ``mountinfo``; of mounts over each other the last counts."""
    found = {}
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if dash and len(fields) > 4:
            found[_unescaped(fields[4])] = after.split(" ")[0]
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
