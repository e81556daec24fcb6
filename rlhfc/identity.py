"""Which process it is: a number that cannot be mistaken for a later process with the same one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number.

    Attributes:
        start: clock ticks between boot and its start.
        boot: identity of the boot.
    """

    pid: int
    start: int
    boot: str

    def lives(self) -> bool:
        """Whether exactly this process is there."""
        return self.boot == boot_id() and start_time(self.pid) == self.start


def own_identity() -> Identity:
    """Tell who this process is."""
    return Identity(os.getpid(), start_time(os.getpid()) or 0, boot_id())


def boot_id() -> str:
    """Tell the identity of the current boot; empty where the system has none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """Tell when a process started, in clock ticks since boot; None when it is gone or a zombie."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] not in (b"Z", b"X") else None


def stat_fields(pid: int) -> list[bytes]:
    """Fields of ``/proc/<pid>/stat`` after the name: state, parent, group, session, …; empty when gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    return text.rpartition(b")")[2].split()
