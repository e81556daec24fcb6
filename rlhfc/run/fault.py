"""What kind of fault ended an attempt: a closed set, told from its exit status and what it said.

The kind decides whether launching it again can help (see ``retry.py``). A rank that fails takes the
others with it, and these complain of lost connections; so the words of the machine count only where
no rank has failed for a reason of its own.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from rlhfc.run import logs

USER_ERROR = os.EX_DATAERR  # 65
DISK_FULL = os.EX_IOERR  # 74
SAVED = os.EX_TEMPFAIL  # 75
OUT_OF_MEMORY = 76
LOOKED_AT = 400  # last lines of each log


class Fault(StrEnum):
    """Why an attempt did not end well."""

    MACHINE = "machine"
    """Killed by a signal, a lost connection, a broken device: not the stage's doing."""
    NO_PROGRESS = "no_progress"
    MEMORY = "out_of_memory"
    DISK = "disk_full"
    TIMEOUT = "timeout"
    USER = "user_error"
    """A mistake that the stage has told in words of its own."""
    STAGE = "stage_error"
    """Anything else that the stage's own code has done."""


MACHINE_WORDS = re.compile(
    r"NCCL (?:error|WARN)|ncclSystemError|ncclRemoteError|Dist(?:Backend|Network|Store)Error"
    r"|[Cc]onnection (?:closed|reset) by peer|Connection refused|Connection(?:Reset|Refused|Aborted)Error"
    r"|connectFullMesh failed|Socket [Tt]imeout|[Tt]imed out (?:after|waiting)|BrokenPipeError"
    r"|EADDRINUSE|Address already in use|Application timeout caused pair closure"
    r"|uncorrectable ECC|fallen off the bus|GPU is lost|\bXid\b|unspecified launch failure"
    r"|CUDA error: (?:unknown error|hardware|the launch timed out|all CUDA-capable devices are busy)"
    r"|Input/output error|Stale file handle|Transport endpoint is not connected"
)
MEMORY_WORDS = re.compile(
    r"OutOfMemoryError|CUDA out of memory|HIP out of memory|can't allocate memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|std::bad_alloc|^MemoryError"
)
DISK_WORDS = re.compile(r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing")
RAISED = re.compile(r"^(?:\[rank\d+\]:\s?)?[A-Za-z_][\w.]*(?:Error|Exception)(?::|$)")
RANK_TAG = re.compile(r"^\[rank\d+\]:\s?")
RANK_KILLED = re.compile(r"exits with return code = -(\d+)")


def fault_of(returncode: int | None, log: Path, *, killed_for_memory: bool) -> Fault:
    """Tell the kind of an ending other than by status 0 or 75.

    Args:
        returncode: of the command; below zero the signal; None when nobody saw it.
        log: of the attempt; those of the ranks lie beside it.
        killed_for_memory: whether the kernel has killed a process here for want of memory meanwhile.
    """
    named = {USER_ERROR: Fault.USER, DISK_FULL: Fault.DISK, OUT_OF_MEMORY: Fault.MEMORY}
    if returncode in named:
        return named[returncode]
    lines = list(_said(log))
    number = killer(returncode, lines)
    if number == signal.SIGKILL and killed_for_memory:
        return Fault.MEMORY
    if number is not None or returncode is None:
        return Fault.MACHINE
    return _by_words(lines)


def killer(returncode: int | None, lines: Iterable[str] = ()) -> int | None:
    """The signal that ended a command, as itself or as its launcher tells it; None when none did.

    A shell exits with 128 more than the signal, ``deepspeed`` with 256 less.
    """
    if returncode is None:
        return None
    if returncode < 0:
        return -returncode
    told = next((int(found[1]) for line in lines if (found := RANK_KILLED.search(line))), None)
    if told is not None:
        return told
    for number in (returncode - 128, 256 - returncode):
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
            return number
    return None


def _by_words(lines: list[str]) -> Fault:
    if any(MEMORY_WORDS.search(line) for line in lines):
        return Fault.MEMORY
    if any(DISK_WORDS.search(line) for line in lines):
        return Fault.DISK
    raised = [line for line in lines if RAISED.search(line)]
    own = [line for line in raised if not MACHINE_WORDS.search(line)]
    if not own and any(MACHINE_WORDS.search(line) for line in lines):
        return Fault.MACHINE
    return Fault.STAGE


def _said(log: Path) -> Iterable[str]:
    for path in (log, *sorted(log.parent.glob("rank*.log"))):
        for line in logs.tail(path, LOOKED_AT):
            yield RANK_TAG.sub("", line)
