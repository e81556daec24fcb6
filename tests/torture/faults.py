"""Faults inside a process: at its N-th file-system or process call it is killed, or the call fails.

Python tells of most calls by audit events; ``write``, ``fsync``, ``sendfile`` and the writes of file
objects have none and are wrapped. An event comes before its call, so that a process killed at event
N + 1 has made N calls.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from errno import EIO, EMFILE, errorcode
from typing import Any

READS = frozenset({"os.listdir", "os.scandir"})
CHANGES = frozenset(
    {
        "os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.chmod",
        "os.truncate", "os.utime", "os.sendfile", "shutil.copyfile", "fcntl.ioctl",
        "write", "fsync",
    }
)  # fmt: skip
UNNAMED = frozenset({"write", "fsync", "subprocess.Popen", "socket.__new__"})
TAKES_SPACE = CHANGES - {"os.remove", "os.rmdir", "os.chmod", "os.utime", "shutil.copyfile"}
PROCESSES = frozenset({"subprocess.Popen", "os.fork", "fcntl.flock"})
TAKES_DESCRIPTOR = READS | {"subprocess.Popen", "socket.__new__"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Fault:
    """What shall happen.

    Attributes:
        at: number of the event, from 1; 0 for never.
        number: of the error that the call fails with; 0 kills the process instead.
        lasting: whether all later calls fail too.
        torn: only writes are numbered, and the N-th puts down half of its bytes first; then the process
            is killed, or everything that takes space fails from there on.
        root: folder whose files count.
    """

    at: int
    root: str
    number: int = 0
    lasting: bool = False
    torn: bool = False

    def __str__(self) -> str:
        if self.torn:
            return f"{errorcode.get(self.number, 'SIGKILL')} in the middle of write {self.at}"
        if self.number == 0:
            return f"SIGKILL at call {self.at}"
        return f"{errorcode[self.number]} {'from' if self.lasting else 'at'} call {self.at}"

    def counts(self, event: str, writes: bool, path: str) -> bool:
        """Whether an event is one of those that are numbered."""
        inside = path.startswith(self.root)
        if self.torn:
            return inside and event == "write"
        if self.number == 0:
            return event in PROCESSES or path.startswith("pipe:") or (inside and writes)
        if self.number == EMFILE:
            return event in TAKES_DESCRIPTOR or event == "open"
        if self.number == EIO:
            return inside and (event in CHANGES | READS or event == "open")
        return inside and writes and (event in TAKES_SPACE or event == "open")


class Shim:
    """Counts the events of this process and makes the fault come true."""

    def __init__(self, fault: Fault, report: Callable[[str], None]) -> None:
        """Take the fault, and what hears of it just before it happens."""
        self.fault, self.report, self.count = fault, report, 0
        self._lock = threading.Lock()
        self._inside = threading.local()

    def install(self) -> None:
        """From now on, until the process ends."""
        sys.addaudithook(self._hear)
        for name, event in (("write", "write"), ("fsync", "fsync"), ("fdatasync", "fsync")):
            setattr(os, name, self._wrapped(getattr(os, name), event))
        os.sendfile = self._wrapped(os.sendfile, "os.sendfile")
        io.open = builtins.open = self._open  # type: ignore[assignment]

    def happens(self, event: str, writes: bool, path: Any) -> None:
        """Count an event; at the fault's, die or raise."""
        if getattr(self._inside, "busy", False):
            return
        self._inside.busy = True
        try:
            self._happens(event, writes, _name(path))
        finally:
            self._inside.busy = False

    def _happens(self, event: str, writes: bool, name: str) -> None:
        if not self.fault.counts(event, writes, name):
            return
        with self._lock:
            self.count += 1
            now = self.count
        fault = self.fault
        if fault.at == 0 or now < fault.at or (now > fault.at and not fault.lasting):
            return
        if now == fault.at:
            self.report(f"{event} {name}")
        if now == fault.at and fault.torn:
            self._inside.half = True
            return
        if fault.number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        # A real one names no file either where only a descriptor was given.
        raise OSError(fault.number, os.strerror(fault.number), name if event not in UNNAMED else None)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            mode, flags = given[1], given[2]
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else False
            writes = writes or (isinstance(flags, int) and bool(flags & WRITING))
            if not isinstance(given[0], int):
                self.happens("open", writes, given[0])
        elif event in CHANGES:
            self.happens(event, True, given[0])
        elif event in READS:
            self.happens(event, False, given[0])
        elif event in PROCESSES or event in TAKES_DESCRIPTOR:
            self.happens(event, False, "")

    def _wrapped(self, call: Callable[..., Any], event: str) -> Callable[..., Any]:
        def wrapped(descriptor: int, *given: Any) -> Any:
            self.happens(event, True, descriptor)
            if event == "write" and self.tears():
                return self.torn(call(descriptor, given[0][: len(given[0]) // 2]))
            return call(descriptor, *given)

        return wrapped

    def tears(self) -> bool:
        """Whether the write that was just counted is the one to be torn."""
        half, self._inside.half = getattr(self._inside, "half", False), False
        return half

    def torn(self, written: int) -> int:
        """After half of the bytes: the end, or back to who wrote."""
        if self.fault.number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    def _open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not any(letter in mode for letter in "wax+") or "+" in mode:
            return _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _CountedFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.shim = self
        if buffering == 0:
            return raw
        buffered = io.BufferedWriter(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)


class _CountedFile(io.FileIO):
    shim: Shim

    def write(self, data: Any) -> int:
        self.shim.happens("write", True, self.fileno())
        if self.shim.tears():
            return self.shim.torn(super().write(memoryview(data)[: len(data) // 2]))
        return super().write(data)


_OPEN = open


def _name(path: Any) -> str:
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return ""
    return os.path.abspath(os.fsdecode(path)) if path else ""
