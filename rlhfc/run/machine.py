"""What an attempt ran on, and whether the kernel killed for want of memory meanwhile."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhfc import __version__

CGROUPS = Path("/sys/fs/cgroup")
# What a scheduler says of the job that we are part of.
JOB_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "JOB_ID",
    "KUBERNETES_SERVICE_HOST",
)


def machine_facts(variables: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Tell host, kernel, processors, memory, GPUs, Python and the scheduler's job: values for a file."""
    return {
        "host": platform.node(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "memory_limit_bytes": _memory_limit(),
        "gpus": _gpus(),
        "python": platform.python_version(),
        "rlhfc": __version__,
        "job": {name: variables[name] for name in JOB_VARIABLES if name in variables},
    }


def memory_kills() -> int | None:
    """Processes that the kernel has killed in our control group for want of memory, or None.

    Where no group tells, those of the whole machine.
    """
    for folder, name in _memory_groups():
        count = _field(folder / ("memory.events" if name == "" else "memory.oom_control"), "oom_kill")
        if count is not None:
            return count
    return _field(Path("/proc/vmstat"), "oom_kill")


def _memory_limit() -> int | None:
    for folder, name in _memory_groups():
        text = _read(folder / ("memory.max" if name == "" else "memory.limit_in_bytes")).strip()
        if text.isdecimal() and int(text) < 1 << 60:  # without a limit it is the largest number there is
            return int(text)
    return None


def _memory_groups() -> list[tuple[Path, str]]:
    """Folders of the control groups that bound our memory: version 2 (named ""), then version 1."""
    found = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, names, path = line.split(":", 2)
        if names == "" or "memory" in names.split(","):
            parent = CGROUPS if names == "" else CGROUPS / "memory"
            found += [(parent / path.lstrip("/"), names), (parent, names)]  # the latter in a container
    return [(folder, name) for folder, name in found if folder.is_dir()]


def _gpus() -> list[str]:
    """Models of the GPUs, as NVIDIA's driver tells them."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in _read(path).splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                found.append(value.strip())
    return found


def _field(path: Path, name: str) -> int | None:
    for line in _read(path).splitlines():
        words = line.split()
        if words[:1] == [name] and len(words) == 2 and words[1].isdecimal():
            return int(words[1])
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
