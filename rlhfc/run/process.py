"""Processes: how an attempt's is started and ended, and how one left by a dead run is known again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlhfc.run import guard

MARKER = "RLHFC_ATTEMPT"
EXIT_FILE = "exit.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
END_SECONDS = 2.0


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


@dataclass(frozen=True)
class Exit:
    """How a command ended.

    Attributes:
        returncode: exit status; below zero the signal; None when nobody saw it end.
        survivors: commands of processes that outlived it and had to be ended.
    """

    returncode: int | None
    survivors: tuple[str, ...] = ()


class Session(Protocol):
    """A launch that runs."""

    @property
    def identity(self) -> Identity:
        """Head of its session."""

    def terminate(self) -> None:
        """Ask every process of it to end."""

    def kill(self) -> None:
        """End every process of it."""

    def wait(self) -> Exit:
        """Return when all of it has ended.

        Raises:
            OSError: how it ended was written down, and cannot be read.
        """


class Launcher(Protocol):
    """Starts commands. The real one is :class:`LocalLauncher`; tests have others."""

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, secrets: Mapping[str, str]
    ) -> Session:
        """Start a command in ``folder``; its output goes to ``folder/log``.

        Args:
            argv: command; no shell sees it.
            environment: variables on top of our own.
            folder: the attempt's.
            secrets: by name, what the log must not show.
        """


class LocalLauncher:
    """Starts commands on this machine, each under a guard (see ``guard.py``)."""

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, secrets: Mapping[str, str]
    ) -> Session:
        """See :class:`Launcher`."""
        exit_file = folder / EXIT_FILE
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(exit_file), *argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environment, MARKER: str(folder)},
                start_new_session=True,
            )
        return _LocalSession(process, exit_file, secrets)


class _LocalSession:
    def __init__(self, process: subprocess.Popen[bytes], exit_file: Path, secrets: Mapping[str, str]) -> None:
        self._process = process
        self._exit_file = exit_file
        self._redactor = guard.Redactor(secrets)
        self.identity = Identity(process.pid, start_time(process.pid) or 0, boot_id())
        self._order(json.dumps(dict(secrets)).encode() + b"\n")

    def terminate(self) -> None:
        self._order(b"t")

    def kill(self) -> None:
        self._order(b"k")

    def wait(self) -> Exit:
        # The guard's number stays taken until it is reaped, so the scan cannot hit a stranger.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        stray = [pid for pid in session_members(self._process.pid) if pid != self._process.pid]
        strays = tuple(guard.command_line(pid, self._redactor) for pid in stray)
        end_processes(stray)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            outcome = json.loads(self._exit_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return Exit(None, strays)  # the guard itself was killed
        return Exit(outcome["returncode"], tuple(s["command"] for s in outcome["survivors"]) + strays)

    def _order(self, order: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the guard has ended already
            while order:
                order = order[os.write(self._process.stdin.fileno(), order) :]


def free_port() -> int:
    """Find a TCP port that is free on the loopback interface now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in (b"Z", b"X") else None


def session_members(session: int) -> list[int]:
    """List the living processes of a session."""
    members = ((pid, fields) for pid, fields in _all_stats() if int(fields[3]) == session)
    return [pid for pid, fields in members if fields[0] not in (b"Z", b"X")]


def leftovers(folder: Path, head: Identity | None) -> list[int]:
    """List the living processes of an attempt whose run has died.

    They are known by the attempt's folder in their environment, or by their session: of this boot,
    and not younger than a head that would have taken its number anew.
    """
    mine = f"{MARKER}={folder}".encode()
    sought = head is not None and head.boot == boot_id() and start_time(head.pid) in (None, head.start)
    found = []
    for pid, fields in _all_stats():
        if fields[0] in (b"Z", b"X") or pid == os.getpid():
            continue
        in_session = (
            sought and head is not None and int(fields[3]) == head.pid and int(fields[19]) >= head.start
        )
        if in_session or mine in _environment(pid):
            found.append(pid)
    return found


def end_processes(pids: Sequence[int]) -> None:
    """Ask processes to end, then end them."""
    _signal(pids, signal.SIGTERM)
    _await_end(pids, END_SECONDS)
    _signal([pid for pid in pids if start_time(pid) is not None], signal.SIGKILL)
    _await_end(pids, END_SECONDS)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _await_end(pids: Sequence[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


def _all_stats() -> list[tuple[int, list[bytes]]]:
    if not Path("/proc").is_dir():
        return []
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [(pid, fields) for pid in pids if (fields := _stat(pid))]


def _stat(pid: int) -> list[bytes]:
    """Fields of ``/proc/<pid>/stat`` after the name: state, parent, group, session, …; empty when gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    return text.rpartition(b")")[2].split()


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []
