"""Disks that are really full: a tmpfs of N pages or inodes under the store, for every N until a run fits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path

from faults import Fault
from lab import Lab, recovers
from sweeps import Figures, honest
from warm import Warm

PLENTY = "size=64m,nr_inodes=10000"


def no_mounts() -> str | None:
    """Why no tmpfs can be mounted here; None when it can."""
    return None if os.geteuid() == 0 and _mounts() else "mounting a tmpfs needs root"


def full_disks(warm: Warm, folder: Path, start: int = 8, every: int = 1) -> Iterator[Figures]:
    """A run on a disk that fills up, and the same command once there is room: by bytes, then by inodes."""
    yield _fill(warm, folder, "bytes", [f"size={4 * n}k,nr_inodes=10000" for n in range(start, 400, every)])
    yield _fill(warm, folder, "inodes", [f"size=64m,nr_inodes={n}" for n in range(start, 400, every)])


def _fill(warm: Warm, folder: Path, what: str, sizes: list[str]) -> Figures:
    figures = Figures(f"a tmpfs that runs out of {what}")
    full = Fault(1, str(folder), ENOSPC)  # only to say which error is expected
    for size in sizes:
        with _tmpfs(folder / "disk", size) as disk:
            lab = Lab.make(folder / "lab", warm, disk / "store")
            done = lab.rlhfc("run", "--no-space-check")  # it would refuse to begin
            _remount(disk, PLENTY)
            if done.status == 0:
                break

            def check(lab: Lab = lab, done: object = done) -> int:
                honest(lab, full, done)  # type: ignore[arg-type]
                return recovers(lab)

            figures.point(size, check)
    return figures


@contextmanager
def _tmpfs(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    _mount("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _mount("umount", str(folder))


def _remount(folder: Path, options: str) -> None:
    _mount("mount", "-o", f"remount,{options}", str(folder))


def _mount(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _mounts() -> bool:
    """Whether a tmpfs may be mounted, tried in a mount namespace that nobody else sees."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
