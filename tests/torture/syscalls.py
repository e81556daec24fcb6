"""T-KILL-N with true system calls: strace kills whoever makes the N-th call of one kind: run, guard or stage.

strace counts for each thread by itself, so that one run meets the N-th call of many. A stage is not launched
again while it traces: each launch would meet its own, and the third in vain is the last. The sweep inside the
process (:mod:`sweeps`) is a hundred times quicker; this one shows that it has forgotten no call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab import STAGES, Lab, dies_out, recovers, require
from sweeps import MISTAKE, Figures
from warm import Done, Warm

CALLS = (
    "fsync", "fdatasync", "write", "pwrite64", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "chmod", "fchmod", "fchmodat", "flock",
    "vfork", "fork", "clone", "clone3", "execve", "openat", "sendfile", "copy_file_range", "ioctl",
)  # fmt: skip
FREQUENT = {"openat": 41, "write": 5, "ioctl": 29, "flock": 3}  # most are imports, or looks at /proc
PATIENCE_SECONDS = 180


def no_strace() -> str | None:
    """Why system calls cannot be traced here; None when they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], check=False, capture_output=True)
    return None if tried.returncode == 0 else "strace may not trace here"


def system_calls(warm: Warm, folder: Path, calls: tuple[str, ...] = CALLS, every: int = 1) -> Figures:
    """Kill at the N-th of each kind of call, until a run makes fewer; `every` leaves some out."""
    figures = Figures("SIGKILL of run, guard or stage at the N-th system call of a kind")
    for call in calls:
        number = 1
        while True:
            lab = Lab.make(folder / "lab", warm)
            done, hit = _traced(lab, call, number)
            if not hit:
                break
            figures.point(f"{call} {number}", lambda: _survives(lab, done))  # noqa: B023
            number += every * FREQUENT.get(call, 1)
    return figures


def _survives(lab: Lab, done: Done) -> int:
    require(done.status is not None, "the run hangs", done.err)
    require(done.status in (0, MISTAKE, -9, 128 + 9), f"the run ended with {done.status}", done.err)
    dies_out(lab)
    return recovers(lab)


def _traced(lab: Lab, call: str, number: int) -> tuple[Done, bool]:
    """How the run ended, and whether anybody was killed."""
    log = lab.folder / "strace"
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}"]
    command += [
        "-e",
        f"inject={call}:signal=KILL:when={number}",
        sys.executable,
        "-m",
        "rlhfc",
        "run",
        "lab.yaml",
    ]
    command += [word for stage in STAGES for word in ("--set", f"{stage}.retries=0")]
    variables = {**os.environ, "LAB_TRACE": str(lab.trace_file)}
    with subprocess.Popen(
        [*command, "--store", str(lab.store)],
        cwd=lab.folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate()
            status = None
    killed = "killed by SIGKILL" in log.read_text(errors="replace") if log.exists() else False
    return Done(status, out, err, None, None), killed or status is None
